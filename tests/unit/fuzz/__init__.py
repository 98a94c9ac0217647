"""Tests of the fuzzer in `fuzz/`.

They run its whole corpus once, without atheris.
"""
