"""The command `txtftp`: `main` runs it, and each subcommand has a module.

Modules here import anything but `tap` and `testing`.
"""
