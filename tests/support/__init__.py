"""What the tests share: the daemon as a child process, networks, clocks, reactors, files.

No module here has a test. Test modules import from here, never from each other.
"""
