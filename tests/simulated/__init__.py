"""Tests of whole transfers in virtual time, over networks in memory that have faults.

They open no socket and start no process, so that each run is the same.
"""
