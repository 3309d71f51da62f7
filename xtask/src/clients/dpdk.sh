# Runs in a guest with two igb ports on one network, in a root with Debian's DPDK.
# Each packet needs an interrupt: dpdk-receive sends the next one when the receiver sleeps again.
sender=$VFIO_IRQ_IGB receiver=$VFIO_IRQ_IGB2
fail() { echo "$*"; exit 1; }

mkdir -p /dev/hugepages
mount -t hugetlbfs none /dev/hugepages && mount -t tmpfs none /run || fail "no file systems for DPDK"
echo 256 >/proc/sys/vm/nr_hugepages

dpdk-devbind.py --status-dev net >/tmp/status || fail "dpdk-devbind.py ended with status $?"
cat /tmp/status
for port in $sender $receiver; do
    sed -n '/using DPDK-compatible driver/,/^$/p' /tmp/status | grep -q "^$port .*drv=vfio-pci " ||
        fail "dpdk-devbind.py does not list $port under a DPDK-compatible driver, drv=vfio-pci"
done

dpdk-receive -l 0-1 -a $sender -a $receiver >/tmp/said 2>&1
status=$?
cat /tmp/said
[ $status = 0 ] || fail "dpdk-receive ended with status $status"

# The count of the vector $2 of the receiver in the lines that begin with $1.
count() {
    grep "^$1 .*vfio-msix\[$2\]($receiver)" /tmp/said |
        awk '{ for (i = 3; $i ~ /^[0-9]+$/; i++) sum += $i } END { print sum + 0 }'
}

# Vector 0 is for the link. The queues' vectors follow.
all=0
for queue in 0 1 2 3; do
    vector=$((queue + 1))
    set -- $(grep "^queue $queue packets" /tmp/said)
    [ "$3 $5" = "packets wakeups" ] || fail "dpdk-receive said nothing of queue $queue"
    packets=$4 wakeups=$6
    interrupts=$(($(count after $vector) - $(count before $vector)))
    echo "remark: queue $queue: $packets packets, $wakeups wake-ups, vector $vector: $interrupts interrupts"
    [ $packets -gt 0 ] || fail "queue $queue received nothing"
    [ $wakeups = $packets ] || fail "queue $queue: not each packet woke the receiver"
    [ $interrupts -ge $packets ] || fail "vector $vector has fewer interrupts than packets"
    all=$((all + packets))
done
[ $all = 400 ] || fail "$all packets were received, not 400"
