"""One transfer: its machine, its link, its file and its deadlines.

Modules here import rank 0, `protocol`, `transfer` and `net`.
"""
