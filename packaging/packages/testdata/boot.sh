#!/bin/sh
# Runs life.sh, or another script beside it, as a service under a systemd of its own, on a copy of this computer's file system that is forgotten afterwards. To be
# started as process 1 of new namespaces: unshare -m -p -f -u -i -n -C. boot.sh FOLDER [SCRIPT]: FOLDER holds the packages and takes what is found out.
set -eu
folder=$1
here=$(cd "$(dirname "$0")" && pwd)
mount --make-rprivate /
work=$folder/system
mkdir -p "$work"
mount -t tmpfs -o mode=755 tmpfs "$work"
root=$work/root
mkdir "$work/upper" "$work/work" "$root"
mount -t overlay -o "lowerdir=/,upperdir=$work/upper,workdir=$work/work" overlay "$root"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
mkdir "$root/dev/pts" "$root/dev/shm"
for device in null zero full random urandom tty; do
  : >"$root/dev/$device"
  mount --bind "/dev/$device" "$root/dev/$device"
done
mount -t devpts -o newinstance,ptmxmode=666 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
mount -t proc proc "$root/proc"
mount --bind "$root/proc/sys" "$root/proc/sys"
mount -o remount,ro,bind "$root/proc/sys" # the kernel is the computer's
mount -t sysfs -o ro sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mkdir -p "$root/test"
mount --bind "$folder" "$root/test"
cp "$here/${2:-life.sh}" "$root/life.sh"
cp "$here/scene.yaml" "$root/"

units=$root/etc/systemd/system
rm -rf "$units"/*.wants "$root/var/lib/heimdall-agent" "$root/var/lib/heimdall-collector" "$root/etc/heimdall"
for unit in systemd-sysctl systemd-udevd systemd-udev-trigger systemd-modules-load systemd-binfmt systemd-random-seed systemd-hwdb-update \
  systemd-tmpfiles-setup-dev systemd-networkd systemd-timesyncd systemd-logind mosquitto postgresql ssh; do
  ln -sf /dev/null "$units/$unit.service"
done
cat >"$units/life.service" <<'EOF'
[Service]
Type=oneshot
ExecStart=/bin/sh -c 'sh -eux /life.sh >/test/log 2>&1 && echo lived >/test/outcome'
ExecStopPost=/bin/sh -c 'journalctl -o short-precise -b -u heimdall-agent -u heimdall-collector >/test/journal; systemctl poweroff -ff'
TimeoutStartSec=300
EOF
ip link set lo up
cd "$root"
mkdir -p old
pivot_root . old
umount -l /old
mount --make-rshared / # how credentials come into services
export container=heimdall-test
exec /lib/systemd/systemd --unit=life.service --log-target=journal --show-status=no
