# A machine of the farm: PXELINUX asks for its configuration, then for the kernel that it names.
# Then the machine stores its own configuration.
size pxelinux.0
get pxelinux.0 blksize=1456
try pxelinux.cfg/{uuid} tsize=0 blksize=1408
get pxelinux.cfg/01-{mac} tsize=0 blksize=1408
get linux-install/vmlinuz tsize=0 blksize=1428 windowsize=16
get initrd.img tsize=0 blksize=1428 windowsize=16
put configs/{mac}.cfg tsize=0
