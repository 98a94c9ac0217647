"""Programs that test a TFTP server over the network: `doctor` checks it, `storm` loads it.

Modules here import anything but `cli`, `tap` and `testing`.
"""
