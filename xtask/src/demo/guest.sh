# Runs in the second guest: writes to the NVMe disk, drops the page cache, reads the data back.
disk=/dev/nvme0n1
waited=0
until [ -b $disk ] || [ $waited -ge 60 ]; do
    sleep 1
    waited=$((waited + 1))
done
[ -b $disk ] || { echo "there is no $disk"; exit 1; }
echo "$(uname -sr): $disk, $(cat /sys/class/nvme/nvme0/model)"
dd if=/dev/urandom of=/tmp/written bs=1M count=4 2>/dev/null
# Both queues get work, so both vectors interrupt.
for cpu in 0 1; do
    taskset -c $cpu dd if=/tmp/written of=$disk bs=1M seek=$((cpu * 4)) conv=fsync 2>/dev/null || exit 1
done
echo 3 >/proc/sys/vm/drop_caches
written=$(sha256sum </tmp/written | cut -d ' ' -f 1)
for cpu in 0 1; do
    read=$(taskset -c $cpu dd if=$disk bs=1M skip=$((cpu * 4)) count=4 2>/dev/null | sha256sum | cut -d ' ' -f 1)
    echo "wrote $written"
    echo "read  $read"
    [ "$written" = "$read" ] || exit 1
done
head -n 1 /proc/interrupts
grep nvme /proc/interrupts
echo ready
read -r _ </dev/ttyS1
