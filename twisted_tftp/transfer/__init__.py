"""The state machines: datagrams and the time go in, datagrams and a deadline come out.

Modules here import rank 0 and `protocol`, and nothing that sends, waits or tells the
time.
"""
