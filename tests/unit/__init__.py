"""Tests of one module each, in folders that have the names of the package's folders.

They use objects in memory, a clock that the test sets, and a few sockets on loopback.
"""
