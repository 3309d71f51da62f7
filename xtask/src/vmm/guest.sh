# Runs in the small VMM's guest: uses the NVMe disk, and everything that masks or resets vectors.
stty -echo
disk=/dev/nvme0n1
# The kernel that kexec starts has no further kernel, and does a part of this.
another=/lab/kexec
fail() {
    echo "guest: FAILED: $*"
    dmesg | tail -n 30
    exit 1
}
appears() {
    waited=0
    until [ -b $disk ]; do
        [ $waited -lt 60 ] || fail "there is no $disk"
        sleep 1
        waited=$((waited + 1))
    done
}
# Writes and reads on a processor, through its own queue: check PROCESSOR MEGABYTE.
check() {
    taskset -c "$1" dd if=/tmp/written of=$disk bs=1M seek="$2" conv=fsync 2>/dev/null || fail "no write on $1"
    echo 3 >/proc/sys/vm/drop_caches
    read=$(taskset -c "$1" dd if=$disk bs=1M skip="$2" count=1 2>/dev/null | sha256sum | cut -d ' ' -f 1)
    [ "$read" = "$written" ] || fail "wrote $written, read $read"
    echo "guest: processor $1 wrote and read megabyte $2"
}
healthy() {
    ! dmesg | grep -E "nvme.*(timeout|polled)|nobody cared|WARNING|BUG:" || fail "the kernel complains"
    interrupts
}
interrupts() { grep nvme /proc/interrupts; }
# Counts the device's interrupts on a processor, while both are online.
on() { awk -v column=$(($1 + 2)) '/nvme/ { sum += $column } END { print sum + 0 }' /proc/interrupts; }

echo "guest: $(uname -sr), $(grep -c ^processor /proc/cpuinfo) processors"
for function in /sys/bus/pci/devices/*; do
    echo "guest: ${function##*/} $(cat "$function/vendor") $(cat "$function/device") class $(cat "$function/class")"
done
appears
dd if=/dev/urandom of=/tmp/written bs=1M count=1 2>/dev/null
written=$(sha256sum </tmp/written | cut -d ' ' -f 1)
device=$(basename "$(readlink /sys/class/nvme/nvme0/device)")
check 0 0
check 1 1
[ -d $another ] || { healthy; echo "guest: passed"; exit; }
interrupts
echo "guest: ready"
read -r _

# The vector of the admin queue moves to the other processor, and its entry is rewritten.
admin=$(awk '/nvme0q0/ { sub(":", "", $1); print $1 }' /proc/interrupts)
for processor in 0 1; do
    echo $((processor + 1)) >/proc/irq/$admin/smp_affinity || fail "the affinity of the admin queue"
    before=$(on $processor)
    echo 1 >/sys/class/nvme/nvme0/rescan_controller
    waited=0
    until [ "$(on $processor)" -gt "$before" ]; do
        [ $waited -lt 20 ] || fail "no interrupt of the admin queue on $processor"
        sleep 1
        waited=$((waited + 1))
    done
done
echo "guest: the admin queue's vector went to both processors"

# The vector of processor 1 is masked when the processor goes, under I/O.
(while [ ! -e /tmp/stop ]; do dd if=$disk of=/dev/null bs=64k count=16 2>/dev/null; echo 3 >/proc/sys/vm/drop_caches; done) &
load=$!
sleep 1
for round in 1 2; do
    before=$(on 1)
    echo 0 >/sys/devices/system/cpu/cpu1/online || fail "processor 1 stays"
    check 0 2
    echo 1 >/sys/devices/system/cpu/cpu1/online || fail "processor 1 does not come back"
    check 1 3
    [ "$(on 1)" -gt "$before" ] || fail "no interrupt on processor 1 after it came back"
done
touch /tmp/stop
wait $load
echo "guest: processor 1 went and came back twice"
read -r _

if grep -q devices /sys/power/pm_test 2>/dev/null; then
    # Suspends the devices, waits five seconds, resumes them.
    echo devices >/sys/power/pm_test
    echo freeze >/sys/power/state || fail "no suspend"
    check 0 2
    check 1 3
    echo "guest: suspended and resumed"
fi

for round in 1 2; do
    echo "$device" >/sys/bus/pci/drivers/nvme/unbind || fail "no unbind"
    echo "guest: unbound"
    [ -z "$(interrupts)" ] || fail "vectors without a driver"
    [ $round = 1 ] || { echo "guest: unbound twice"; read -r _; }
    echo "$device" >/sys/bus/pci/drivers/nvme/bind || fail "no bind"
    appears
    check 0 4
    check 1 5
done
echo "guest: the driver went and came back"

if [ -e /sys/bus/pci/devices/$device/reset ]; then
    echo 1 >/sys/bus/pci/devices/$device/reset || fail "no reset"
    check 0 6
    check 1 7
    echo "guest: the function was reset ($(cat /sys/bus/pci/devices/$device/reset_method 2>/dev/null))"
fi
healthy
echo "guest: starts another kernel"
kexec $another/vmlinuz $another/initrd "$(cat /proc/cmdline)"
fail "no kexec"
