#!/bin/sh
# Make what the farm serves besides its templates: boot files and an old release with random octets.
set -eu
cd "$(dirname "$0")"
mkdir -p files/boot configs release
head -c 42000 /dev/urandom >files/pxelinux.0
head -c 2000000 /dev/urandom >files/vmlinuz
head -c 3000000 /dev/urandom >files/initrd.img
head -c 30000 /dev/urandom >files/boot/wdsnbp.com
head -c 500000 /dev/urandom >release/vmlinuz
tar -cf release.tar release
rm -r release
