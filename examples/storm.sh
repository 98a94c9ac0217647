#!/bin/sh
# A complete storm on this machine: create boot files, serve them, boot 200 simulated machines.
# Run it from the root of the repository, with twisted-tftp installed: sh examples/storm.sh
set -eu
root=$(mktemp -d)
port=26969
trap 'kill $server 2>/dev/null || true; rm -rf "$root"' EXIT
mkdir "$root/pxelinux.cfg"
head -c 42000 /dev/urandom >"$root/pxelinux.0"
head -c 120000 /dev/urandom >"$root/ldlinux.c32"
head -c 8000000 /dev/urandom >"$root/vmlinuz"
head -c 20000000 /dev/urandom >"$root/initrd.img"
echo 'default vmlinuz initrd=initrd.img' >"$root/pxelinux.cfg/default"

twistd -n --pidfile= --logfile="$root.log" tftp --root "$root" --host 127.0.0.1 --port $port &
server=$!
until txtftp doctor --check --port $port --timeout 0.2 127.0.0.1; do sleep 0.2; done

txtftp storm 127.0.0.1 --port $port --clients 200 --arrival 50/s \
    --profile examples/storm.profile "$@"
rm -f "$root.log"
