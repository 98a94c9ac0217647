"""The TFTP packet format: parsing and encoding, negotiation of options, netascii, text for traces.

Modules here import rank 0 (`errors`, `interfaces`, `policy`, `context`), and nothing
that sends, waits or tells the time.
"""
