# Runs in the host of the small VMM: starts it, and looks at the host's interrupts from outside.
device=$VFIO_IRQ_NVME
mkfifo /tmp/talk
vfio-irq-vmm /lab/second/vmlinuz /lab/second/initrd "$device" loglevel=5 <>/tmp/talk >/tmp/output 2>/tmp/errors &
vmm=$!
show() {
    cat /tmp/errors
    tail -n 60 /tmp/output
}
fail() {
    show
    echo "FAILED: $*"
    kill $vmm 2>/dev/null
    exit 1
}
# Waits for a line of the guest: until_said SECONDS WORDS.
until_said() {
    waited=0
    until grep -q "^guest: $2" /tmp/output; do
        ! grep -q "^guest: FAILED" /tmp/output || fail "the guest"
        kill -0 $vmm 2>/dev/null || fail "the VMM ended"
        [ $waited -lt "$1" ] || fail "the guest did not say '$2' in $1 seconds"
        sleep 1
        waited=$((waited + 1))
    done
}
count() { grep -c "vfio-msix.*($device)" /proc/interrupts; }

until_said 200 ready
grep vfio-msix /proc/interrupts
said=$(count)
[ "$said" = 3 ] || fail "the host has $said interrupts of the device, and the guest unmasked 3"
echo go >/tmp/talk

# A mask in the guest re-targets the vector here. Only the Rust core counts.
until_said 200 "processor 1 went and came back twice"
table=/sys/kernel/debug/vfio/$device/interrupts
if [ -e $table ]; then
    cat $table
    awk '$1 == 0 { admin = $7 } $1 ~ /^[12]$/ { queue += $7 } END { exit !(admin >= 2 && queue >= 4) }' $table ||
        fail "the guest masked vectors, and the core counted no re-target"
fi
[ "$(count)" = 3 ] || fail "the host has $(count) interrupts of the device after the guest's masks"
echo go >/tmp/talk

# Without a driver in the guest nothing is left in the host.
until_said 200 "unbound twice"
[ "$(count)" = 0 ] || fail "the guest has no driver, and the host has $(count) interrupts"
echo go >/tmp/talk

until_said 200 "starts another kernel"
until_said 200 passed
waited=0
while kill -0 $vmm 2>/dev/null; do
    [ $waited -lt 30 ] || fail "the guest was reset, and the VMM goes on"
    sleep 1
    waited=$((waited + 1))
done
wait $vmm || fail "the VMM's exit status is $?"
[ "$(count)" = 0 ] || fail "the VMM ended, and the host has $(count) interrupts"
show
