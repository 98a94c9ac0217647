# The requests of a thin client that boots: a BIOS with PXELINUX, then a boot loader that reads a
# kernel and an initrd with windowsize. To boot 30 of them at the same time:
#
#     txtftp storm 192.0.2.69 --clients 30 --arrival 5/s --profile examples/storm.profile
#
size pxelinux.0
get pxelinux.0 blksize=1456
get ldlinux.c32 tsize=0 blksize=1408
try pxelinux.cfg/01-{mac} tsize=0 blksize=1408
try pxelinux.cfg/default tsize=0 blksize=1408
think 0.2                       # the menu
get vmlinuz tsize=0 blksize=1428 windowsize=16
get initrd.img tsize=0 blksize=1428 windowsize=16
