# Runs in a guest whose NVMe disk is emulated without shared memory. The guest is reset again and
# again while it reads and writes; then it gets a line of input and ends.
disk=/dev/nvme0n1
for _ in 1 2 3 4 5 6 7 8 9 10; do [ -b $disk ] && break; sleep 1; done
[ -b $disk ] || { echo "there is no $disk"; exit 1; }

# The first $AREA bytes are only read, those behind them are only written.
echo "sum $(head -c $AREA $disk | sha256sum | cut -c1-64)"
blocks=$((AREA / 4096))
while dd if=$disk of=/dev/null bs=4k count=$blocks iflag=direct 2>/dev/null; do echo reading; done &
reader=$!
while dd if=/dev/urandom of=$disk bs=4k seek=$blocks count=$blocks oflag=direct conv=notrunc 2>/dev/null; do
    echo writing
done &
writer=$!
read -r _ </dev/ttyS1
for process in $reader $writer; do
    kill -0 $process || { echo "reading or writing failed"; exit 1; }
    kill $process
done
wait
sync
echo "sum $(head -c $AREA $disk | sha256sum | cut -c1-64)"
