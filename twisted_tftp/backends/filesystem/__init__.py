"""The backend that serves the files of a directory and its subdirectories.

Modules here import rank 0, `protocol`, `transfer` and `backends.naming`.
"""
