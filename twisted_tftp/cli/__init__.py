"""The command `txtftp`.

Modules here import anything but `tap` and `testing`.
"""
