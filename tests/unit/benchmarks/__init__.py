"""Tests of the programs in `benchmarks/`.

They run the load generators against each other, and check what is made of figures.
"""
