"""A TFTP server for people who boot machines over the network."""

__version__ = "0.1.0"
