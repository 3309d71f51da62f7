#!/bin/busybox sh
# The first program of every guest: sets the guest up, runs the command, reports how it ended.
# ttyS0 is the kernel's console, ttyS1 the command's terminal, ttyS2 the report.
/bin/busybox --install -s /bin
export PATH=/lab/bin:/bin HOME=/tmp LC_ALL=C.UTF-8

report() { echo "$@" >/dev/ttyS2; }

finish() {
    report "@@ log"
    dmesg >/dev/ttyS2
    report "@@ $*"
    # Closing a serial port waits until it has sent all bytes. Then QEMU may end.
    poweroff -f
}

fail() { finish failure "$@"; }

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mount -t debugfs debug /sys/kernel/debug
mount -t tracefs trace /sys/kernel/tracing
mkdir -p /dev/pts /dev/shm && mount -t devpts pts /dev/pts
mount -t tmpfs tmp /tmp
stty raw -echo -F /dev/ttyS2
# If a guest does not reach this line in time, the lab starts it once more.
report "@@ started"
. /lab/config

# Each line: a file and its parameters. A module that is loaded already (built in, or listed twice) is no failure.
while read -r module parameters; do
    said=$(insmod "/lab/modules/$module" $parameters 2>&1) && continue
    case $said in
    *"File exists"*) ;;
    *) fail "module $module does not load: $said" ;;
    esac
done </lab/load

for device in $BIND; do
    said=$(vfio-bind "$device" "$VFIO_IRQ_DRIVER" 2>&1) || fail "$said"
done

while read -r module parameters; do
    insmod "/lab/modules/$module" $parameters 2>/dev/null
done </lab/load-after

cd /tmp
enter=
if [ -n "$ROOT" ]; then
    mkdir -p /below /above /root
    mount -t 9p -o trans=virtio,version=9p2000.L,msize=262144,cache=loose,ro root /below || fail "the root does not mount"
    mount -t tmpfs above /above && mkdir /above/upper /above/work
    mount -t overlay -o lowerdir=/below,upperdir=/above/upper,workdir=/above/work root /root || fail "no overlay"
    for dir in dev proc sys tmp; do mount --rbind /$dir /root/$dir; done
    cp -r /lab/. /root/lab/
    # Programs put into the guest come first there too.
    export PATH=/lab/bin:/usr/sbin:/usr/bin:/sbin:/bin
    mkdir -p /root/run /root/root
    enter="chroot /root"
fi

if [ -n "$SHELL_WANTED" ]; then
    [ -z "$COLUMNS" ] || stty -F /dev/ttyS1 rows "$LINES" cols "$COLUMNS"
    setsid -c $enter /bin/sh /lab/command </dev/ttyS1 >/dev/ttyS1 2>&1
else
    # The terminal must not translate line ends between the command and its reader.
    stty raw -echo -F /dev/ttyS1
    $enter /bin/sh /lab/command </dev/null >/dev/ttyS1 2>&1
fi
finish exit $?
