"""Sockets: the request port, a link for each transfer, and one loop over all links."""
