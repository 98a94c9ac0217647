"""The constants of UDP segmentation offload (GSO) and receive offload (GRO) of Linux.

With segmentation offload, the kernel divides one large send into datagrams of equal size. With
receive offload, it returns several datagrams of equal size from one read.
"""

from __future__ import annotations

import errno
import struct
import sys

#: Whether the system has UDP segmentation and receive offload.
HAS_OFFLOAD = sys.platform == "linux"

#: The socket option and control message of segmentation offload, from linux/udp.h.
UDP_SEGMENT = 103

#: The socket option and control message of receive offload, from linux/udp.h.
UDP_GRO = 104

#: The most datagrams that one call may send with segmentation offload.
MAX_SEGMENTS = 64

#: The largest size of the datagrams that one call sends with segmentation offload, in octets.
MAX_OFFLOAD_SIZE = 65_000

#: The content of the control message of segmentation offload: the size of each datagram.
SEGMENT_SIZE = struct.Struct("@H")

#: The errors of a send for which segmentation offload may be the reason.
OFFLOAD_ERRORS = (errno.EIO, errno.EINVAL, errno.EMSGSIZE, errno.ENOPROTOOPT)
