#!/bin/sh
# Starts a Docker daemon in a mount namespace of its own, so that whatever it mounts is gone with it, even after a kill:
# unshare --mount daemon.sh FOLDER MEMORY COMMAND...
# Its images are in memory if MEMORY is a size and not 0: much faster. Else on disk, wherever layers can be stacked on each
# other, which they cannot where the root is such a stack itself; at worst they are copied.
set -eu
data=$1 memory=$2
shift 2
mkdir -p "$data"

# without a control group no container starts; a bare machine may have mounted none, or one to be read only
grep -qE '^[^ ]+ [^ ]+ cgroup2? ' /proc/mounts || mount -t cgroup2 cgroup2 /sys/fs/cgroup
! grep -qE '^[^ ]+ /sys/fs/cgroup cgroup2 ro' /proc/mounts || mount -o remount,bind,rw /sys/fs/cgroup

stackable() {
  mkdir -p "$data/probe/lower" "$data/probe/upper" "$data/probe/work" "$data/probe/merged"
  mount -t overlay overlay "$data/probe/merged" \
    -o "lowerdir=$data/probe/lower,upperdir=$data/probe/upper,workdir=$data/probe/work" && umount "$data/probe/merged"
}

in_memory() { [ "$memory" != 0 ] && mount -t tmpfs -o "mode=0711,size=$memory" biasgym "$data"; }
in_a_file() { truncate -s 60G "$data.ext4" && mkfs.ext4 -q "$data.ext4" && mount -o loop "$data.ext4" "$data"; }

if in_memory; then
  stackable || { umount "$data"; memory=0; }
fi
if [ "$memory" = 0 ] && ! stackable && ! { in_a_file && stackable; }; then
  echo "layers cannot be stacked here and are copied instead, which takes long" >&2
  set -- "$@" --storage-driver vfs
fi
rm -rf "$data/probe"
exec "$@"
