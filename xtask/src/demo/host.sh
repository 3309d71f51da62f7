# Runs in the first guest: hands the NVMe controller on to a second guest, with the unmodified QEMU.
device=$VFIO_IRQ_NVME
mkfifo /tmp/talk
qemu-system-x86_64 -M q35 -accel kvm -cpu host -smp 2 -m 512 -nodefaults -no-user-config -display none -no-reboot \
    -kernel /lab/kernel/vmlinuz -initrd /lab/second/initrd \
    -append "console=ttyS0 loglevel=5 no_timer_check panic=-1" \
    -chardev stdio,id=command,signal=off \
    -serial file:/tmp/console -serial chardev:command -serial file:/tmp/report \
    -device "vfio-pci,host=$device" -trace 'vfio_msix*' <>/tmp/talk >/tmp/output 2>/tmp/trace &
qemu=$!

# The second guest reports when its disk has been read and written, and runs until it is told to end.
waited=0
until grep -q '^ready$' /tmp/output || [ $waited -ge 200 ]; do
    kill -0 $qemu 2>/dev/null || break
    sleep 1
    waited=$((waited + 1))
done

echo "@@ host"
echo "$(uname -sr), $(qemu-system-x86_64 --version | head -n 1)"
echo "$device is bound to $(basename "$(readlink "/sys/bus/pci/devices/$device/driver")")"
echo "vfio-pci-core: $(cat /sys/module/vfio_pci_core/version 2>/dev/null || echo "Linux's own")"
echo "@@ interrupts"
head -n 1 /proc/interrupts
grep 'vfio-' /proc/interrupts
echo "@@ counters"
cat "/sys/kernel/debug/vfio/$device/interrupts" 2>/dev/null
echo go >/tmp/talk
gone=0
while kill -0 $qemu 2>/dev/null && [ $gone -lt 60 ]; do
    sleep 1
    gone=$((gone + 1))
done
kill $qemu 2>/dev/null
wait $qemu
ended=$?
echo "@@ refused"
vfio-irq-conformance atomicity --bdf "$device" 2>&1
echo "@@ trace"
cat /tmp/trace
echo "@@ second"
cat /tmp/output
echo "@@ second console"
cat /tmp/console
echo "@@ second report"
echo "QEMU: status $ended after $gone s; $(tail -n 1 /tmp/report | sed "s/^@@ //")"
