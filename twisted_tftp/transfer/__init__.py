"""The protocol's machines: datagrams and the time go in, datagrams and a deadline come out."""
