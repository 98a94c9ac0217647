"""Stores of files; each module has one."""
