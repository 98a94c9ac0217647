"""Tests of the daemon and of the commands as child processes, over real sockets.

They need real time, signals, disks or privileges; CI runs them once, with the default
Python.
"""
