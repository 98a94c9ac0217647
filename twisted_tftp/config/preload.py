"""Import the modules that a reload may need, while the process can still read their files.

With `--chroot` or `--uid`, the folders of Python's packages may be out of reach later.
"""

from __future__ import annotations

from contextlib import suppress
from importlib import import_module

from twisted_tftp.backend_maker import BackendMaker
from twisted_tftp.backends.plugin import installed_plugins

#: The modules, besides those of backends, that are imported only if a configuration needs them.
LATE_MODULES = ("twisted_tftp.backends.rename.map_rules", "re2", "yaml")


def import_late_modules() -> None:
    """Import the modules of all installed backends, and those of rename rules and hosts files.

    One that can't be imported is left out: a configuration that needs it is not valid then.
    """
    makers = [each for each in installed_plugins().values() if isinstance(each, BackendMaker)]
    for name in (*LATE_MODULES, *(maker.factory.rpartition(".")[0] for maker in makers)):
        with suppress(Exception, SystemExit):
            import_module(name)
