# Runs in a guest with two NVMe disks: QEMU's own, and that of `vfio-irq serve nvme`. Measures both in turn.
tries=0
until [ "$(ls -d /sys/block/nvme*n1 2>/dev/null | wc -l)" = 2 ]; do
    tries=$((tries + 1))
    [ $tries -lt 20 ] || { echo "there are not two disks"; exit 1; }
    sleep 1
done
for path in /sys/block/nvme*n1; do
    case $(cat "$path/device/model") in
    *vfio-irq*) served=/dev/${path##*/} ;;
    *QEMU*) own=/dev/${path##*/} ;;
    esac
done
[ -n "$served" ] && [ -n "$own" ] || { cat /sys/block/nvme*n1/device/model; exit 1; }
# Fills the file, so that reads find blocks.
for disk in $own $served; do dd if=/dev/zero of=$disk bs=1M count=64 oflag=direct 2>/dev/null; done

# A job: its name, and fio's options.
job() {
    name=$1
    shift
    for disk in own served; do
        eval "file=\$$disk"
        fio --name="$name" --filename="$file" --size=64M --direct=1 --time_based --runtime=5 --thread \
            --output-format=json "$@" >/tmp/out 2>/tmp/err || { cat /tmp/err /tmp/out; exit 1; }
        echo "fio $disk $(tr -d '\n' </tmp/out)"
    done
}

for round in $(seq $ROUNDS); do
    job "read 4k, one at a time" --rw=randread --bs=4k --ioengine=psync
    job "write 4k, one at a time" --rw=randwrite --bs=4k --ioengine=psync
    job "read 4k, 16 at a time on 2 queues" --rw=randread --bs=4k --ioengine=libaio --iodepth=16 --numjobs=2 --group_reporting
    job "read 128k, 4 at a time" --rw=read --bs=128k --ioengine=libaio --iodepth=4
done
