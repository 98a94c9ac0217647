"""The state machines of a transfer: datagrams and the time in, datagrams and a deadline out.

Modules here import rank 0 and `protocol`, and nothing that sends, waits or tells the
time.
"""
