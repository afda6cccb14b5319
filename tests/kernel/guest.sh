#!/usr/bin/env bash
# Runs in the virtual machine: PYTHON CHECKOUT DIRECTORY PATIENCE. What the tests tell goes to the port that is
# vng's standard output, by descriptor 3; all else is on the console.
set -eu
python=$1 top=$2 directory=$3 patience=$4
for port in /sys/class/virtio-ports/*; do
    [ "$(cat "$port/name")" != virtme.stdout ] || exec 3>"/dev/${port##*/}"
done
echo '{"up": true}' >&3
export PATH=$PATH:/usr/sbin:/sbin

modprobe -a openvswitch tun

# The machine's own root is read anew for every file. Nothing on it changes, so here is another view of it
# with a cache, under a file system that takes what is written and forgets it.
mkdir -p /run/lower /run/upper /run/new
mount -t tmpfs tmpfs /run/upper
mkdir /run/upper/files /run/upper/work
mount -t 9p -o ro,version=9p2000.L,trans=virtio,access=any,cache=loose,msize=512000 host /run/lower
mount -t overlay -o lowerdir=/run/lower,upperdir=/run/upper/files,workdir=/run/upper/work overlay /run/new
for kernels in proc sys dev; do mount --rbind /$kernels /run/new/$kernels; done
mount -t tmpfs tmpfs /run/new/run

# The root of a mount namespace of its own, so that those who enter it find it too; and a first process that
# reaps, which the init of the machine does not: a process namespace with a zombie does not end.
exec unshare --mount --pid --fork sh -ec '
    mount --make-rprivate /
    umount -l /run/new/proc
    mount -t proc proc /run/new/proc
    cd /run/new
    mkdir -p /run/new/run/old
    pivot_root . run/old
    cd "$2"
    export CI=1 TMPDIR=/dev/shm PYTHONPYCACHEPREFIX="$2/.cache/kernel/pycache" PYTHONDONTWRITEBYTECODE=1
    export OVS_MCAST_LAB_PATIENCE="$4"
    # Half a minute goes by in here before plugins that nobody needs are imported.
    export PYTEST_DISABLE_PLUGIN_AUTOLOAD=1
    "$1" -m pytest -p pytest_timeout -p tests.kernel.guest -p no:cacheprovider --datapath system \
        -o timeout=300 "@$3/tests" || exit # not the last command, which it would become
    exit
' sh "$python" "$top" "$directory" "$patience"
