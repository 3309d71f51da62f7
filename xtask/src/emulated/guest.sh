# Runs in a guest whose NVMe disk is emulated by `vfio-irq serve nvme`. STEP says which boot this is.
# The first $AREA bytes are written raw, a share by each processor; a file system is behind them.
disk=/dev/nvme0n1
for _ in 1 2 3 4 5 6 7 8 9 10; do [ -b $disk ] && break; sleep 1; done
[ -b $disk ] || { echo "there is no $disk"; exit 1; }
cpus=$(nproc)
share=$((AREA / cpus))
chunk=262144

# Everything of one share on one processor: its queue and its vector do the work.
sum() {
    taskset -c $1 dd if=$disk bs=$chunk skip=$(($1 * share / chunk)) count=$((share / chunk)) iflag=direct 2>/dev/null | sha256sum | cut -c1-64
}

write() {
    mkfifo /tmp/data$1
    taskset -c $1 dd if=/tmp/data$1 of=$disk bs=$chunk seek=$(($1 * share / chunk)) iflag=fullblock oflag=direct conv=notrunc 2>/tmp/said$1 &
    dd if=/dev/urandom bs=$chunk count=$((share / chunk)) 2>/dev/null | tee /tmp/data$1 | sha256sum | cut -c1-64 >/tmp/sum$1
    wait $! || { cat /tmp/said$1; exit 1; }
}

interrupts() {
    sed -n 's/.*MSIX-[^ ]* *\([0-9]*\)-edge *nvme0q\([0-9]*\)$/& /p' /proc/interrupts | while read -r _ counts; do
        total=0 vector= queue=
        for word in $counts; do
            case $word in
            *-edge) vector=${word%-edge} ;;
            nvme0q*) queue=${word#nvme0q} ;;
            *[!0-9]*) ;;
            *) total=$((total + word)) ;;
            esac
        done
        echo "interrupts $queue $vector $total"
    done
}

from=$(cut -d. -f1 /proc/uptime)
echo "queues $(ls /sys/block/nvme0n1/mq | wc -l) of $cpus"
for cpu in $(seq 0 $((cpus - 1))); do
    if [ "$STEP" = first ]; then write $cpu & fi
done
wait
echo 3 >/proc/sys/vm/drop_caches
for cpu in $(seq 0 $((cpus - 1))); do
    echo "sum $cpu $(sum $cpu)"
    [ "$STEP" != first ] || echo "wrote $cpu $(cat /tmp/sum$cpu)"
done

mkdir -p /tmp/mount
if [ "$STEP" = first ]; then
    losetup -o $AREA /dev/loop0 $disk && mke2fs -F /dev/loop0 >/dev/null || { echo "no file system"; exit 1; }
    mount -t ext4 /dev/loop0 /tmp/mount || { echo "it does not mount"; exit 1; }
    dd if=/dev/urandom of=/tmp/mount/file bs=1M count=16 2>/dev/null
    sha256sum </tmp/mount/file | sed 's/^/file /; s/ *-$//'
    umount /tmp/mount && mount -t ext4 /dev/loop0 /tmp/mount
else
    losetup -o $AREA /dev/loop0 $disk && mount -t ext4 /dev/loop0 /tmp/mount || { echo "it does not mount"; exit 1; }
fi
sha256sum </tmp/mount/file | sed 's/^/again /; s/ *-$//'
umount /tmp/mount
losetup -d /dev/loop0
sync
echo "seconds $(($(cut -d. -f1 /proc/uptime) - from))"
cat /proc/interrupts | grep -E 'CPU0|nvme'
interrupts
