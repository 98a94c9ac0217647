"""The state machines of a transfer: from datagrams and the time to datagrams and a deadline.

Modules here import rank 0 and `protocol`, and nothing that sends, waits or tells the
time.
"""
