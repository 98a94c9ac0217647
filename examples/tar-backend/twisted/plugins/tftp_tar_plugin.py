"""Make the backend `tar` known to `twistd tftp`."""

from twisted_tftp.backend_maker import BackendMaker

tar = BackendMaker(
    "tar",
    """\
the members of a tar archive that is not compressed
ARGUMENT: the archive; when it is replaced, new transfers get the members of the new one
folder=DIR: names start in this folder of the archive
""",
    "tftp_tar.from_arguments",
    paths=("",),
)
