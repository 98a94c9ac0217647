# What 30 thin clients ask for that are switched on at the same time: a BIOS with PXELINUX, then a
# kernel and an initrd in windows, from a boot loader that asks for windows.
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
