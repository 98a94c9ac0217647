"""The options about served files and uploads: a part of the table.

L{twisted_tftp.config.option_table} joins the parts.
"""

from __future__ import annotations

from twisted_tftp.backends.filesystem.backend import DEFAULT_CACHE_SIZE, DEFAULT_UPLOAD_MODE
from twisted_tftp.backends.filesystem.content_cache import MAX_FILE_SIZE
from twisted_tftp.backends.filesystem.path_walk import MAX_MADE_DEPTH, MAX_MISSING
from twisted_tftp.config.backends import BackendText
from twisted_tftp.config.option import Group, Option
from twisted_tftp.config.path_types import Directory, FileMode
from twisted_tftp.config.quantity_types import Size
from twisted_tftp.config.value_types import Choice, WholeNumber
from twisted_tftp.policy import Policy, Range, WriteMode

#: The policy with all default values.
_POLICY = Policy()

#: The allowed numbers of versions of a file.
KEEP_RANGE = Range(1, 1_000_000)

#: The options, in the order in which the help and the documents list them.
FILE_OPTIONS = (
    Option(
        "root",
        Group.FILES,
        Directory(),
        default=".",
        default_text="the working directory",
        help="serve the files in DIR and its subdirectories",
        example='"/srv/tftp"',
    ),
    Option(
        "backend",
        Group.FILES,
        BackendText(),
        default=(),
        default_text="the directory of `--root`",
        repeatable=True,
        help="serve the files of this backend instead of --root, such as "
        "readonly:of=filesystem:/srv (see --help-backends)",
        details="Several backends are asked in order: the next one is asked if a file is not "
        "found. The last one gets the uploads. See [backends](backends.md).",
    ),
    Option(
        "follow-links",
        Group.FILES,
        Directory(),
        default=(),
        default_text="links stay in the root",
        repeatable=True,
        help="let symbolic links lead out of the root into DIR",
        details="A link inside DIR may not lead out of it. Nothing is ever written there. A file "
        "behind such a link is always looked up in a thread, so a small one costs three times the "
        "work.",
        example='["/srv/shared"]',
    ),
    Option(
        "write",
        Group.FILES,
        Choice(WriteMode),
        default=WriteMode.NEVER,
        help="whether clients may write: never, create (new files only), overwrite, or version "
        "(each upload is kept under a name with its time)",
    ),
    Option(
        "cache",
        Group.FILES,
        Size(),
        default=DEFAULT_CACHE_SIZE,
        help="memory for the cache of small files, and as much for pieces of other files that "
        "several clients read at the same time; 0 for no cache",
        details=f"A small file has at most {Size().format(MAX_FILE_SIZE)} octets. Before each use "
        "the server compares the identity, the size and the times of the file, so it serves the "
        "new content of a file that has changed. Pieces of other files are kept for two seconds.",
    ),
    Option(
        "upload-mode",
        Group.FILES,
        FileMode(),
        default=DEFAULT_UPLOAD_MODE,
        help="permissions of uploaded files",
        details="The umask makes no difference. A file that is replaced keeps its permissions.",
    ),
    Option(
        "make-dirs",
        Group.FILES,
        None,
        default=False,
        help="let uploads make directories that are missing in their path",
        details=f"They are made when the upload is complete, at most {MAX_MISSING} for one file, "
        f"and not more than {MAX_MADE_DEPTH} levels below the root. "
        "Users who may read the files according to `--upload-mode` may enter the directories.",
    ),
    Option(
        "max-upload",
        Group.FILES,
        Size(),
        default=_POLICY.max_upload,
        default_text="no limit",
        help="largest file that a client may write, such as 64k, 20M or 4G",
        example='"4G"',
    ),
    Option(
        "upload-quota",
        Group.FILES,
        Size(),
        default=None,
        default_text="no limit",
        help="refuse an upload if all files together would be larger than SIZE",
        details="All files below the root and all running uploads are counted. The client gets "
        "ERROR 3 (disk full).",
        example='"100G"',
    ),
    Option(
        "keep",
        Group.FILES,
        WholeNumber(KEEP_RANGE),
        default=None,
        default_text="all",
        help="with --write version: keep the N newest versions of each file",
        example="10",
    ),
)
