#!/bin/busybox sh
# The first program of the small VMM's guest: loads modules, runs the command, resets the machine.
/bin/busybox --install -s /bin
export PATH=/lab/bin:/bin HOME=/tmp
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mount -t tmpfs tmp /tmp
while read -r module parameters; do
    insmod "/lab/modules/$module" $parameters || echo "module $module does not load"
done </lab/load
sh /lab/command </dev/ttyS0 >/dev/ttyS0 2>&1
# The VMM ends with a reset.
echo b >/proc/sysrq-trigger
sleep 60
