"""The options of the server: their table, their values as checked settings, and their reference.

Modules here import anything but `tools`, `cli`, `tap` and `testing`.
"""
