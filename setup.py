"""Declare the optional C module; setup.cfg has all other metadata."""

import sys

from setuptools import Extension, setup

#: Without it, or if its build fails, `twisted_tftp/net/offload.py` does the same in Python.
OFFLOAD = Extension("twisted_tftp.net._offload", ["twisted_tftp/net/_offload.c"], optional=True)

#: It uses epoll, and options of sockets that only Linux has. PyPy is slow at calls of C modules.
IS_USEFUL = sys.platform == "linux" and sys.implementation.name == "cpython"

setup(ext_modules=[OFFLOAD] if IS_USEFUL else [])
