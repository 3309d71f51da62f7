//! The commands that the rows of the table run in their guests.

pub(super) const GROUPS: &str = "for device in $BIND; do readlink /sys/bus/pci/devices/$device/iommu_group; done | sort -u | wc -l | grep -qx 4";

/// Linux loses five of six vectors, the Rust core none; the command checks both.
pub(super) const ATOMICITY: &str = r#"vfio-irq-conformance atomicity --bdf $VFIO_IRQ_NVME >said; cat said
case $VFIO_IRQ_CORE in
c) grep -q "errno=EBADF alive=1 of=6 atomic=false" said ;;
*) grep -q "errno=EBADF alive=6 of=6 atomic=true" said ;;
esac"#;

/// The kernel's tracing counts the calls of a request. A kernel without tracing must fail the row.
pub(super) const CASES_NVME: &str = r#"vfio-irq-conformance cases --bdf $VFIO_IRQ_NVME >said
status=$?
cat said
grep -q "^ok  *b06_costs_what_it_touches" said || { echo "calls were not counted"; exit 1; }
exit $status"#;
pub(super) const CASES_EDU: &str = "vfio-irq-conformance cases --bdf $VFIO_IRQ_EDU";
pub(super) const CASES_XHCI: &str = "vfio-irq-conformance cases --bdf $VFIO_IRQ_XHCI";
pub(super) const CASES_VIRTIO: &str = "vfio-irq-conformance cases --bdf $VFIO_IRQ_VIRTIO";
pub(super) const CASES_IGB: &str = "vfio-irq-conformance cases --bdf $VFIO_IRQ_IGB";

/// `vfio-irq conform`, which finds each device's stimulus by itself. Linux's core has to hold what
/// user space may rely on, the Rust core everything.
pub(super) const CONFORM: &str = r#"case $VFIO_IRQ_CORE in rust) profile=full ;; *) profile=linux ;; esac
for device in $BIND; do
    vfio-irq conform $device --profile $profile >said || { cat said; exit 1; }
    echo "remark: $(tail -n 1 said)"
    [ $(grep -c " ok  " said) -ge 30 ] || { cat said; exit 1; }
done
vfio-irq conform $VFIO_IRQ_NVME --only v07 --tap >said || { cat said; exit 1; }
grep -q "^ok 1 - v07_" said || { cat said; exit 1; }
exec 3<>/dev/vfio/$(basename $(readlink /sys/bus/pci/devices/$VFIO_IRQ_NVME/iommu_group))
! vfio-irq conform $VFIO_IRQ_NVME 2>said && grep -q "is in use by" said || { cat said; exit 1; }"#;

/// Prints the core's answers. Two boots, one for each core, are compared afterwards.
pub(super) const ANSWERS: &str = r#"for device in $BIND; do
    echo "@@ $device"
    vfio-irq-conformance answers --bdf $device || exit 1
done"#;

/// Storms on each device, first to their end, then killed, then with an unbind in the middle. All the
/// while processors go offline and come back, interrupts move, and files about interrupts are read.
/// Afterwards the contract holds, and a debug kernel knows of no leak.
pub(super) const STORM: &str = r#"seed=${VFIO_IRQ_SEED:-1}; seconds=${VFIO_IRQ_SECONDS:-8}
driver=/sys/bus/pci/drivers/$VFIO_IRQ_DRIVER
processor=/sys/devices/system/cpu/cpu1/online
offline() { while [ -e /tmp/wind ]; do for on in 0 1; do echo $on >$processor; usleep 150000; done; done; }
move() {
    while [ -e /tmp/wind ]; do
        for irq in $(ls /sys/bus/pci/devices/*/msi_irqs | grep "^[0-9]"); do
            echo $((RANDOM % 3 + 1)) >/proc/irq/$irq/smp_affinity
        done
        cat /proc/interrupts /sys/kernel/debug/vfio/*/interrupts >/dev/null
    done
}
leaks=/sys/kernel/debug/kmemleak
only=
# A storm of an hour fills the kernel's log, so that this is asked before.
case $(uname -r) in
*-debug) dmesg | grep -q "KernelAddressSanitizer initialized" || { echo "KASAN does not watch"; exit 1; } ;;
esac
# A debug kernel is slow: a storm needs more time, and all cases would take a quarter of an hour.
[ ! -e $leaks ] || { only=v07; seconds=${VFIO_IRQ_SECONDS:-60}; }
for device in $BIND; do
    touch /tmp/wind
    offline 2>/dev/null & offline=$!
    move 2>/dev/null & move=$!
    vfio-irq-conformance storm --bdf $device --seconds $seconds --seed $seed >said || { cat said; exit 1; }
    echo "remark: $device $(tail -n 1 said)"
    for end in kill kill unbind; do
        vfio-irq-conformance storm --bdf $device --seconds 1000 --seed $((seed + 1)) >/dev/null & storm=$!
        usleep $((1000000 + RANDOM * 30))
        if [ $end = unbind ]; then
            echo $device >$driver/unbind & unbind=$!
            usleep 300000
        fi
        kill -9 $storm 2>/dev/null # It may have ended: an unbind refuses to open.
        wait $storm
        [ $end = kill ] || { wait $unbind; vfio-bind $device $VFIO_IRQ_DRIVER || exit 1; }
    done
    rm /tmp/wind
    wait $offline $move
    [ $(cat $processor) = 1 ] || exit 1
    vfio-irq-conformance cases --bdf $device --only "$only" >said || { cat said; od -t x1 /sys/bus/pci/devices/$device/config; exit 1; }
    [ -z "$(ls /sys/bus/pci/devices/$device/msi_irqs 2>/dev/null)" ] || { echo "$device still has interrupts"; exit 1; }
done
# What a debug kernel has not watched, it has not found in order.
case $(uname -r) in
*-debug)
    grep -q "debug_locks: *1" /proc/lockdep_stats || { echo "lockdep does not watch"; exit 1; }
    [ -e $leaks ] || { echo "kmemleak does not watch"; exit 1; }
    for again in 1 2 3; do echo scan >$leaks; sleep 2; done
    cat $leaks
    [ -z "$(cat $leaks)" ] ;;
*-kcsan)
    cat /sys/kernel/debug/kcsan
    grep -q "^setup_watchpoints: [1-9]" /sys/kernel/debug/kcsan || { echo "KCSAN does not watch"; exit 1; }
    echo "remark: $(grep -E "^(setup_watchpoints|data_races)" /sys/kernel/debug/kcsan | tr "\n" " ")" ;;
esac"#;

/// Sequences of requests, interrupts and resets do what the model of the contract does.
pub(super) const DIFFERENTIAL: &str = r#"for device in $BIND; do
    vfio-irq-conformance differential --bdf $device --requests ${VFIO_IRQ_REQUESTS:-1500} --seed ${VFIO_IRQ_SEED:-1} >said 2>&1 || { cat said; exit 1; }
    echo "remark: $device $(tail -n 1 said)"
done"#;

/// Each allocation of each request fails once.
pub(super) const FAULTS: &str = r#"for device in $BIND; do
    vfio-irq-conformance faults --bdf $device >said || { cat said; exit 1; }
    cat said
    echo "remark: $device $(tail -n 1 said)"
done
leaks=/sys/kernel/debug/kmemleak
for again in 1 2 3; do echo scan >$leaks; sleep 2; done
cat $leaks
[ -z "$(cat $leaks)" ]"#;

/// Reads debugfs all the time: its table changes during the read.
pub(super) const STRESS: &str = r#"(while [ -d /sys/kernel/debug/vfio ]; do cat /sys/kernel/debug/vfio/*/interrupts >/dev/null; done) &
reader=$!
vfio-irq-conformance stress --bdf $VFIO_IRQ_NVME --requests 10000
status=$?
kill $reader
exit $status"#;

pub(super) const KILLED: &str =
    "vfio-irq-conformance stress --bdf $VFIO_IRQ_NVME --kill-after 300 --rounds 10";

/// An unbind waits until user space closes the device. The device then serves the next user.
pub(super) const UNBIND: &str = r#"driver=/sys/bus/pci/drivers/$VFIO_IRQ_DRIVER
vfio-irq-conformance stress --bdf $VFIO_IRQ_NVME --requests 1000000 &
user=$!
sleep 2
echo $VFIO_IRQ_NVME >$driver/unbind &
unbind=$!
sleep 1
kill -0 $unbind || { echo "the unbind did not wait"; kill -9 $user; exit 1; }
kill -9 $user
wait $unbind || exit 1
[ ! -e $driver/$VFIO_IRQ_NVME ] || { echo "the device is still bound"; exit 1; }
vfio-bind $VFIO_IRQ_NVME $VFIO_IRQ_DRIVER && vfio-irq-conformance atomicity --bdf $VFIO_IRQ_NVME"#;

/// The variant driver is the kernel's own. The loaded core answers its requests.
pub(super) const VARIANT: &str = r#"vfio-bind $VFIO_IRQ_VIRTIO virtio_vfio_pci || exit 1
vfio-irq-conformance answers --bdf $VFIO_IRQ_VIRTIO >said || { cat said; exit 1; }
grep "GET_IRQ_INFO" said | head -n 12
table=/sys/kernel/debug/vfio/$VFIO_IRQ_VIRTIO/interrupts
case $VFIO_IRQ_CORE in
c) ! grep -q -- "-> 0 flags 0x3 " said && [ ! -e $table ] ;;
rust) grep -q -- "-> 0 flags 0x3 " said && grep -q "^mode idle" $table ;;
esac"#;

/// Virtual functions of a bound device are kept for user space: vfio-pci binds them too.
pub(super) const SRIOV: &str = r#"device=/sys/bus/pci/devices/$VFIO_IRQ_IGB
echo 2 >$device/sriov_numvfs || exit 1
for function in $device/virtfn0 $device/virtfn1; do
    [ "$(basename $(readlink $function/driver))" = $VFIO_IRQ_DRIVER ] || exit 1
done
echo 0 >$device/sriov_numvfs"#;

pub(super) const NO_SRIOV: &str = r#"device=/sys/bus/pci/devices/$VFIO_IRQ_IGB
! echo 2 >$device/sriov_numvfs && [ ! -e $device/virtfn0 ]"#;

pub(super) const CLIENT: &str = "vfio-irq-client group $VFIO_IRQ_NVME";

pub(super) const CLIENT_CDEV: &str = "vfio-irq-client cdev $VFIO_IRQ_NVME";

/// The NVMe driver in user space adds 63 queues one by one under load, and none stalls. Adding them
/// the old way stalls some. It adds at most 31, because QEMU's controller aborts QEMU if vectors
/// above are disabled in use.
pub(super) const QUEUES: &str = r#"vfio-irq-nvme $VFIO_IRQ_NVME 63 dynamic &&
vfio-irq-nvme $VFIO_IRQ_NVME 31 reenable release-all >said
status=$?
cat said
[ $status = 0 ] && grep -q "^release-all.* [1-9][0-9]* stalls" said"#;

/// Eight controllers of 65 vectors, four of each used: 32 of the host's interrupts, or all 520.
/// /proc/interrupts counts both.
pub(super) const HOST_INTERRUPTS: &str = r#"vfio-irq-host-interrupts 4 $BIND >said
status=$?
cat said
grep -qx "host interrupts, one vector at a time: 32" said &&
    grep -qx "host interrupts, everything at once: 520" said && exit $status
exit 1"#;

/// The demo of the command: queues added the old way lose interrupts, the new way none, on the same
/// controller. It also writes the picture.
pub(super) const DEMO: &str = r#"vfio-irq demo --device $VFIO_IRQ_NVME --json --queues 24 --picture /tmp/demo.svg >said
status=$?
cat said
[ $status = 0 ] || exit 1
value() { tr -d ' \n' <said | tr '{}' '\n\n' | grep "\"method\":\"$1\"" | tr ',' '\n' | sed -n "s/^\"$2\":\([0-9][0-9]*\)$/\1/p"; }
is() { [ -n "$(value $1 $2)" ] && [ $(value $1 $2) $3 ] || { echo "$1: $2 is '$(value $1 $2)', not $3"; exit 1; }; }
for method in release-all dynamic; do
    is $method queues "-eq 24"
    is $method raised "-gt 24"
done
is dynamic lost "-eq 0"
is dynamic stalls "-eq 0"
is release-all lost "-gt 0"
is release-all stalls "-gt 0"
[ "$(head -c 5 /tmp/demo.svg)" = "<svg " ] && tail -n 1 /tmp/demo.svg | grep -q "</svg>" || { echo "the picture is none"; exit 1; }
[ $(grep -c "<rect" /tmp/demo.svg) -gt 48 ] || { echo "the picture does not show each queue"; exit 1; }"#;

pub(super) const UNLOAD: &str = r#"for device in $BIND; do echo $device >/sys/bus/pci/drivers/vfio-pci/unbind; done
rmmod vfio_pci && rmmod vfio_pci_core && ! grep -q vfio_pci /proc/modules && [ ! -e /sys/kernel/debug/vfio ]"#;

pub(super) const REGRESSIONS: &str =
    "vfio-irq-conformance regressions --bdf $VFIO_IRQ_NVME --other $VFIO_IRQ_NVME2";

/// These regressions need devices of a special machine. Elsewhere they do not apply, and here they
/// must.
pub(super) const SHARED_LINE: &str = r#"vfio-irq-conformance regressions --bdf $VFIO_IRQ_EDU --other $VFIO_IRQ_EDU2 --only disintx >said
status=$?
cat said
grep -q "^ok  *disintx_survives_msi" said || { echo "it was not tried"; exit 1; }
exit $status"#;
pub(super) const MSI_MESSAGE: &str = r#"vfio-irq-conformance regressions --bdf $VFIO_IRQ_XHCI --only msi_keeps >said
status=$?
cat said
grep -q "^ok  *msi_keeps_its_message" said || { echo "it was not tried"; exit 1; }
exit $status"#;
pub(super) const AFFINITY: &str = r#"vfio-irq-conformance regressions --bdf $VFIO_IRQ_NVME --only affinity >said
status=$?
cat said
grep -q "^ok  *repair_keeps_affinity" said || { echo "it was not tried"; exit 1; }
exit $status"#;

/// One processor has about two hundred vectors; five of these controllers have more.
pub(super) const SHORTAGE: &str = r#"others=
for device in $BIND; do [ $device = $VFIO_IRQ_NVME ] || others="$others --other $device"; done
vfio-irq-conformance exhaustion --bdf $VFIO_IRQ_NVME $others"#;

/// The row exists for the positive answer, which must have been tried.
pub(super) const TOO_FEW: &str = r#"vfio-irq-conformance cases --bdf $VFIO_IRQ_XHCI >said
status=$?
cat said
grep -q "^ok  *v06_too_few_is_positive" said || { echo "too few was not tried"; exit 1; }
exit $status"#;

/// An open file of debugfs runs the module's code, so the module must not be unloaded.
pub(super) const DEBUGFS_KEEPS: &str = r#"exec 3</sys/kernel/debug/vfio/$VFIO_IRQ_NVME/interrupts || exit 1
for device in $BIND; do echo $device >/sys/bus/pci/drivers/vfio-pci/unbind; done
rmmod vfio_pci || exit 1
! rmmod vfio_pci_core || { echo "the module went while a file was open"; exit 1; }
grep -q vfio_pci_core /proc/modules || exit 1
exec 3<&-
rmmod vfio_pci_core && ! grep -q vfio_pci_core /proc/modules"#;

/// The command in normal use, on a device that is free and on one that is in use.
pub(super) const COMMAND: &str = r#"want() { grep -qE -- "$1" said || { cat said; echo "not said: $1"; exit 1; }; }
fails() { "$@" >said 2>&1 && { cat said; echo "went well: $*"; exit 1; }; cat said; }
driver=/sys/bus/pci/devices/$VFIO_IRQ_NVME/driver
vfio-irq list >said || exit 1
want "^$VFIO_IRQ_NVME +NVMe controller .* $VFIO_IRQ_DRIVER .* 65 .* yes"
case $VFIO_IRQ_CORE in
rust) core="vfio-irq [0-9]" ;;
c) core="Linux's own" ;;
esac
want "^vfio-pci-core: $core"
vfio-irq info $VFIO_IRQ_NVME >said || exit 1
want "^MSI-X +65 .*vectors added at any time"
want "^  core +$core"
[ $VFIO_IRQ_CORE = c ] || { ! grep "^note" said && want "^counts .vfio-pci.: 0 interrupts" || exit 1; }
[ $VFIO_IRQ_CORE = rust ] || want "^note: this core masks no vectors and counts none; the package vfio-pci-core-rs-dkms has the Rust core"
vfio-irq unbind $VFIO_IRQ_NVME || exit 1
[ ! -e $driver ] || { echo "it is still bound"; exit 1; }
fails vfio-irq bench $VFIO_IRQ_NVME
want "no driver has it"
vfio-irq bind $VFIO_IRQ_NVME --driver $VFIO_IRQ_DRIVER >said || exit 1
want "$VFIO_IRQ_NVME -> $VFIO_IRQ_DRIVER"
[ "$(basename $(readlink $driver))" = $VFIO_IRQ_DRIVER ] || { echo "it is not bound"; exit 1; }
vfio-irq bench $VFIO_IRQ_NVME --rounds 5 >said || exit 1
for request in GET_IRQ_INFO "add one" re-target loopback detach "enable 64 at once"; do want "^$request +[0-9]"; done
vfio-irq-conformance stress --bdf $VFIO_IRQ_NVME --requests 1000000 >/dev/null 2>&1 &
user=$!
until vfio-irq info $VFIO_IRQ_NVME --no-open | grep -q "open in .*vfio-irq-confor"; do
    kill -0 $user || exit 1
    sleep 0.1
done
fails vfio-irq bench $VFIO_IRQ_NVME
want "in use by vfio-irq-confor .process $user"
fails vfio-irq unbind $VFIO_IRQ_NVME
want "in use by vfio-irq-confor"
# Without the core's own counts a vector that is freed takes its count along.
until grep -qE "\($VFIO_IRQ_DRIVER\): [1-9][0-9]* interrupts, [1-9]" said; do
    kill -0 $user || exit 1
    vfio-irq watch $VFIO_IRQ_NVME --count 2 --interval 0.3 >said || exit 1
done
vfio-irq metrics >said && grep -q "^vfio_irq_device{device=\"$VFIO_IRQ_NVME\",driver=\"vfio-pci\"" said || { cat said; exit 1; }
vfio-irq watch $VFIO_IRQ_NVME --once --json >said || exit 1
want "\"driver\":\"$VFIO_IRQ_DRIVER\".*\"total\":[0-9]"
# The user disables the index and enables it again, and then it is closed: no rate is negative.
vfio-irq watch $VFIO_IRQ_NVME --json --count 30 --interval 0.1 >looks &
watch=$!
sleep 1
kill -9 $user
wait $user
wait $watch || { cat looks; exit 1; }
! grep '"rate":-' looks || exit 1
tail -n 1 looks >said
want "\"total\":0,\"rate\":0.0"
vfio-irq watch $VFIO_IRQ_NVME --once >said || exit 1
case $VFIO_IRQ_CORE in
rust) want "^mode idle$" ;;
c) want "^counted by /proc/interrupts$" ;;
esac
# A driver that is not loaded, and one that is no VFIO driver.
fails vfio-irq bind $VFIO_IRQ_NVME --driver other-vfio-pci
want "the driver other-vfio-pci is not loaded: modprobe other-vfio-pci, or choose .*: vfio-pci$"
fails vfio-irq bind $VFIO_IRQ_NVME --driver pcieport
want "pcieport is no VFIO PCI driver: choose one that is loaded: vfio-pci$"
# A driver that does not take it, as the kernel has none of that name: it goes back to who had it.
bus=/tmp/root/sys/bus/pci
mkdir -p $bus/drivers/other-vfio-pci || exit 1
ln -s /sys/bus/pci/drivers/vfio-pci $bus/drivers/ && ln -s /sys/bus/pci/devices /sys/bus/pci/drivers_probe $bus/ || exit 1
fails env VFIO_IRQ_ROOT=/tmp/root vfio-irq bind $VFIO_IRQ_NVME --driver other-vfio-pci
want "other-vfio-pci did not take $VFIO_IRQ_NVME .all is as it was"
[ "$(basename $(readlink $driver))" = $VFIO_IRQ_DRIVER ] || { echo "it was not given back"; exit 1; }
[ "$(cat ${driver%/driver}/driver_override)" = $VFIO_IRQ_DRIVER ] || { echo "another driver is wanted"; exit 1; }
# The same where no driver had it, and no driver is asked to take it.
vfio-irq unbind $VFIO_IRQ_NVME || exit 1
mount -o bind /dev/null /sys/bus/pci/drivers_probe || exit 1
fails vfio-irq bind $VFIO_IRQ_NVME
want "vfio-pci did not take $VFIO_IRQ_NVME .all is as it was"
[ ! -e $driver ] || { echo "a driver has it"; exit 1; }
umount /sys/bus/pci/drivers_probe
vfio-irq bind $VFIO_IRQ_NVME || exit 1
[ "$(basename $(readlink $driver))" = $VFIO_IRQ_DRIVER ]"#;

/// A host without groups: only the character device remains.
pub(super) const COMMAND_CDEV: &str = r#"rm /dev/vfio/[0-9]* || exit 1
vfio-irq info $VFIO_IRQ_NVME >said || { cat said; exit 1; }
grep -q "^MSI-X  *65 .*vectors added at any time" said || { cat said; exit 1; }
vfio-irq bench $VFIO_IRQ_NVME --rounds 5 || exit 1
vfio-irq demo --device $VFIO_IRQ_NVME --json --queues 8 --method dynamic --picture /tmp/demo.svg >said || { cat said; exit 1; }
cat said
grep -q '"lost": 0,' said"#;
