"""Rewrite the names of requests by the rules of tftp-hpa's map file.

It may import what `backends` may import, and google-re2 (the extra `rename`).
"""
