# Runs in a guest whose NVMe disk is emulated by `vfio-irq serve nvme`. STEP says which boot this is.
# The first $AREA bytes are written raw, a share by each processor; a file system is behind them.
disk=/dev/nvme0n1
for _ in 1 2 3 4 5 6 7 8 9 10; do [ -b $disk ] && break; sleep 1; done
[ -b $disk ] || { echo "there is no $disk"; exit 1; }
cpus=$(nproc)
share=$((AREA / cpus))
chunk=262144

# One processor handles a whole share: its queue and its vector do the work.
sum() {
    taskset -c $1 dd if=$disk bs=$chunk skip=$(($1 * share / chunk)) count=$((share / chunk)) iflag=direct 2>/dev/null | sha256sum | cut -c1-64
}

write() {
    mkfifo /tmp/data$1
    taskset -c $1 dd if=/tmp/data$1 of=$disk bs=$chunk seek=$(($1 * share / chunk)) iflag=fullblock oflag=direct conv=notrunc 2>/tmp/said$1 &
    dd if=/dev/urandom bs=$chunk count=$((share / chunk)) 2>/dev/null | tee /tmp/data$1 | sha256sum | cut -c1-64 >/tmp/sum$1
    wait $! || { cat /tmp/said$1; exit 1; }
}

# Reads one block after the other on one processor, each after the block before it has arrived.
one_by_one() {
    taskset -c $1 dd if=$disk of=/dev/null bs=4k count=$2 iflag=direct 2>/tmp/said || { cat /tmp/said; exit 1; }
}

# Queue, vector and count of each interrupt.
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
        echo "$1 $queue $vector $total"
    done
}

# Both sides count now: the test answers when it has the server's counts.
mark() {
    interrupts "interrupts-$1"
    echo "mark $1"
    read -r _ </dev/ttyS1
}

# Prints the output of nvme-cli as one line.
ask() {
    word=$1
    shift
    if nvme "$@" >/tmp/said 2>&1; then
        echo "$word $(tr -d '\n' </tmp/said)"
    else
        echo "refused nvme $*: $(tr '\n' ' ' </tmp/said)"
    fi
}

health() {
    ask smart-log smart-log /dev/nvme0 -o json
    ask id-ctrl id-ctrl /dev/nvme0 -o json
    ask id-ns id-ns $disk -o json
    ask list list -o json
    ask error-log error-log /dev/nvme0 -o json
    ask fw-log fw-log /dev/nvme0 -o json
    # Arbitration, power, temperature, error recovery, write cache, queues, coalescing, vector, atomicity,
    # events: the current, default and supported values.
    for feature in 0x01 0x02 0x04 0x05 0x06 0x07 0x08 0x09 0x0a 0x0b; do
        for select in 0 1 3; do
            ask feature get-feature /dev/nvme0 -f $feature -s $select
        done
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

mark before
for cpu in $(seq 0 $((cpus - 1))); do one_by_one $cpu $READS; done
health
mark after

echo "seconds $(($(cut -d. -f1 /proc/uptime) - from))"
grep -E 'CPU0|nvme' /proc/interrupts
interrupts interrupts
