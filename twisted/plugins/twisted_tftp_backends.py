"""Make the backends of this package known: `twistd tftp --backend NAME:ARGUMENT,key=value`."""

from twisted_tftp.backend_maker import BackendMaker

filesystem = BackendMaker(
    "filesystem",
    """\
the files of a directory and its subdirectories
ARGUMENT: the directory
cache=SIZE: memory for the cache of small files; 0 for no cache
follow-links=DIR: directories into which symbolic links may lead, separated by colons
ignore-case=yes: a read finds a file whatever the case of its name (--ignore-case is the default)
literal-names=yes: a backslash in a name is never a slash
upload-mode=MODE: permissions of uploaded files
make-dirs=yes: uploads make the directories that are missing in their path
quota=SIZE: refuse an upload if all files together would be larger
""",
    "twisted_tftp.backends.builtin.filesystem",
    paths=("", "follow-links"),
)

memory = BackendMaker(
    "memory",
    """\
uploaded files, kept in memory until the server stops
capacity=SIZE: the most octets of all files together (64M if it is not given)
""",
    "twisted_tftp.backends.builtin.memory",
)

readonly = BackendMaker(
    "readonly",
    """\
the files of another backend, without uploads
of=BACKEND: the other backend, with its argument and its keywords; this keyword is the last
""",
    "twisted_tftp.backends.builtin.readonly",
)
