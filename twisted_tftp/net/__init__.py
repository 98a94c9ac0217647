"""Sockets: the request port, a link for each transfer, and one loop over all links.

Modules here import rank 0, `protocol` and `transfer`.
"""
