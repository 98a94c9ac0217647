"""Make the backends of this package known: `twistd tftp --backend NAME:ARGUMENT,key=value`."""

from twisted_tftp.backend_maker import BackendMaker

filesystem = BackendMaker(
    "filesystem",
    """\
the files of a directory and its subdirectories
ARGUMENT: the directory
cache=SIZE: memory for small files, and as much for pieces of other files; 0 for no cache
follow-links=DIR: directories into which symbolic links may lead, separated by colons
ignore-case=yes: a read finds a file whatever the case of its name (--ignore-case is the default)
literal-names=yes: a backslash in a name is never a slash
upload-mode=MODE: permissions of uploaded files
make-dirs=yes: uploads make the directories that are missing in their path
quota=SIZE: refuse an upload if all files together would be larger than SIZE
""",
    "twisted_tftp.backends.builtin.filesystem",
    paths=("", "follow-links"),
)

memory = BackendMaker(
    "memory",
    """\
uploaded files, kept in memory until the server stops or reads its configuration again
capacity=SIZE: the most octets of all files together (64M if it is not given)
""",
    "twisted_tftp.backends.builtin.memory",
)

readonly = BackendMaker(
    "readonly",
    """\
the files of another backend, without uploads
of=BACKEND: the other backend, with its argument and keywords; this takes the rest of the text
""",
    "twisted_tftp.backends.builtin.readonly",
)

template = BackendMaker(
    "template",
    """\
a file for each machine, made from a template (NAME.j2 for NAME); needs the extra templates
ARGUMENT: the folder of the templates
hosts=FILE: the entries of the machines: a .toml, .yaml or .csv file, or an HTTP URL with {mac}
ttl=SECONDS: how long an answer of the URL is used (60 if it is not given)
stale=yes: use the last good answer while the URL fails
hosts-limit=SECONDS: how long the URL may take (5 if it is not given)
verify-mac=yes: serve a machine's file only if the neighbour table has its MAC for the client
time-limit=SECONDS: how long one template may take (2 if it is not given)
memory=SIZE: how much memory it may take (64M if it is not given)
output=SIZE: how large its file may be (1M if it is not given)
workers=N: processes that render (2 if it is not given)
cache=SIZE: memory for rendered files (16M if it is not given); 0 for no cache
""",
    "twisted_tftp.backends.template.plugin.template",
    paths=("", "hosts"),
)
