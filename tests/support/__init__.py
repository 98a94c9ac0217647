"""What the tests share: the daemon as a child process, networks, clocks, reactors.

No module here has a test.
"""
