# Adds an include to the kernel's vfio_pci_core.c at build time, and changes three lines. hooks.h has the
# prototypes.

/^#include "vfio_pci_priv\.h"$/a\
#include "../kernel/hooks.h"

# GET_IRQ_INFO says MASKABLE for MSI-X, and for MSI with mask bits (CONTRACT.md, I-07).
s/^\tinfo\.flags = VFIO_IRQ_INFO_EVENTFD;$/\tinfo.flags = VFIO_IRQ_INFO_EVENTFD | vfio_pci_irq_maskable(vdev, info.index);/

# The debugfs file of a device exists while the device is registered (CONTRACT.md, B-05).
s/^\tret = vfio_register_group_dev(&vdev->vdev);$/\tret = vfio_pci_irq_register_dev(vdev);/
s/^\tvfio_unregister_group_dev(&vdev->vdev);$/\tvfio_pci_irq_unregister_dev(vdev);/
