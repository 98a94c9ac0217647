"""Declare the optional C modules; setup.cfg has all other metadata."""

import sys

from setuptools import Extension, setup

#: The modules in C. Without one, or if its build fails, Python does the same.
MODULES = ("twisted_tftp.net._offload", "twisted_tftp.backends.filesystem._openat2")

#: They use system calls that only Linux has. PyPy is slow at calls of C modules.
IS_USEFUL = sys.platform == "linux" and sys.implementation.name == "cpython"

setup(
    ext_modules=[
        Extension(name, [name.replace(".", "/") + ".c"], optional=True)
        for name in MODULES
        if IS_USEFUL
    ]
)
