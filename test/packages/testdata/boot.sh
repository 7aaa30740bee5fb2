#!/bin/bash
# Boots systemd in a root of its own: boot.sh LOWER DIR. The root is LOWER with changes that are kept in DIR. It has /tmp,
# /run, /dev and /var of its own: a systemd that sees those of the host empties them. Only the network is that of the caller.
set -eu
lower=$1 dir=$2
if [ "${3:-}" != inside ]; then
	# A group of its own, which the root sees as the topmost one. Hierarchies of version 1 that the host has are left alone.
	mkdir -p "$dir/cgroup"
	mount -t cgroup2 cgroup2 "$dir/cgroup"
	group=$(mktemp -d "$dir/cgroup/danelaw-test-XXXXXX")
	echo "$group" >"$dir/group"
	echo $$ >"$group/cgroup.procs"
	exec unshare --pid --mount --uts --ipc --cgroup --fork --kill-child "$0" "$lower" "$dir" inside
fi
root=$dir/root
mount --make-rprivate /
mkdir -p "$root" "$dir/upper" "$dir/work"
mount -t overlay overlay -o "lowerdir=$lower,upperdir=$dir/upper,workdir=$dir/work" "$root"
mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
mkdir "$root/dev/pts" "$root/dev/shm"
for device in null zero full random urandom tty; do
	touch "$root/dev/$device"
	mount --bind "/dev/$device" "$root/dev/$device"
done
ln -s /proc/self/fd "$root/dev/fd"
ln -s pts/ptmx "$root/dev/ptmx"
hostname mail.sender.dane
cd "$root"
pivot_root . .
umount -l .
cd /
exec env -i container=danelaw-test PATH=/usr/sbin:/usr/bin /usr/lib/systemd/systemd --log-target=journal --show-status=no
