"""The settings that people write, checked and turned into objects.

Modules here import anything but `tools`, `cli`, `tap` and `testing`.
"""
