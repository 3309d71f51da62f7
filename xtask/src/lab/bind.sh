#!/bin/sh
# vfio-bind ADDRESS DRIVER: binds a PCI device to a driver by name, whatever driver it had before.
device=/sys/bus/pci/devices/$1
[ -d "$device" ] || { echo "there is no device $1" >&2; exit 1; }
echo "$2" >"$device/driver_override"
[ ! -e "$device/driver" ] || echo "$1" >"$device/driver/unbind"
echo "$1" >/sys/bus/pci/drivers_probe
now=$(basename "$(readlink "$device/driver")")
[ "$now" = "$2" ] && exit 0
echo "device $1 is not bound to $2 (bound to: ${now:-none}); $(dmesg | tail -n 3)" >&2
exit 1
