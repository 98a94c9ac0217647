"""Tests with the TFTP clients and servers of other projects.

They need those programs; CI runs them once, with the default Python.
"""
