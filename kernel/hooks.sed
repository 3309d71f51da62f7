# What this project adds to the kernel's vfio_pci_core.c, when it is built. hooks.h has the prototypes.

/^#include "vfio_pci_priv\.h"$/a\
#include "../kernel/hooks.h"

# GET_IRQ_INFO says MASKABLE for MSI-X, and for MSI with mask bits (CONTRACT.md, I-07).
s/^\tinfo\.flags = VFIO_IRQ_INFO_EVENTFD;$/\tinfo.flags = VFIO_IRQ_INFO_EVENTFD | vfio_pci_irq_maskable(vdev, info.index);/

# The table of a device's interrupts in debugfs comes and goes with the device (CONTRACT.md, B-05).
s/^\tret = vfio_register_group_dev(&vdev->vdev);$/\tret = vfio_pci_irq_register_dev(vdev);/
s/^\tvfio_unregister_group_dev(&vdev->vdev);$/\tvfio_pci_irq_unregister_dev(vdev);/
