"""Rewrite the names of requests by the rules of tftp-hpa's map file.

Modules here import rank 0, `protocol`, `backends.naming` and google-re2 (the extra `rename`).
"""
