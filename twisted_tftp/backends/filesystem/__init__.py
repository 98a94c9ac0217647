"""A store of the files beneath one directory.

Modules here import rank 0, `protocol`, `transfer` and `backends.naming`.
"""
