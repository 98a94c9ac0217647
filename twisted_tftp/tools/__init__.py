"""Programs that examine or load a server from outside.

Modules here import anything but `cli`, `tap` and `testing`.
"""
