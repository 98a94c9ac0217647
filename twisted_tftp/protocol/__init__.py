"""The TFTP packet format: parsing and encoding, options, netascii, packets as text.

Modules here import rank 0 (`errors`, `interfaces`, `policy`, `context`), and nothing
that sends, waits or tells the time.
"""
