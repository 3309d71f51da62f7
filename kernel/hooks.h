/* SPDX-License-Identifier: GPL-2.0-only OR MIT */

/*
 * Functions between vfio-pci-core in C and its interrupts in Rust. vfio_pci_priv.h has three more.
 */
#ifndef VFIO_PCI_IRQ_HOOKS_H
#define VFIO_PCI_IRQ_HOOKS_H

#include <linux/types.h>

struct seq_file;
struct vfio_pci_core_device;

/* In C (hooks.c), called by the core. */
int vfio_pci_irq_register_dev(struct vfio_pci_core_device *vdev);
void vfio_pci_irq_unregister_dev(struct vfio_pci_core_device *vdev);

/*
 * In C (hooks.c), called by Rust, which has neither the macros nor the inline functions of C.
 *
 * vfio_pci_irq_lock() takes irqlock and returns the flags for vfio_pci_irq_unlock().
 */
unsigned long vfio_pci_irq_lock(struct vfio_pci_core_device *vdev);
void vfio_pci_irq_unlock(struct vfio_pci_core_device *vdev, unsigned long flags);
bool vfio_pci_irq_has_bypass(void);

/* Reads the message that the kernel has cached: lower half of the address, upper half, data. */
void vfio_pci_irq_get_cached_msi_msg(unsigned int irq, u32 message[3]);
/* Writes the cached message into the device. */
void vfio_pci_irq_restore_msi_msg(unsigned int irq);
/* Writes a message into the device, and caches it. */
void vfio_pci_irq_write_msi_msg(unsigned int irq, const u32 message[3]);

/* In Rust, called by the core: returns VFIO_IRQ_INFO_MASKABLE or 0. */
u32 vfio_pci_irq_maskable(struct vfio_pci_core_device *vdev, u32 index);

/* In Rust, called by hooks.c with igate held: prints the table of the device's interrupts. */
void vfio_pci_irq_show(struct vfio_pci_core_device *vdev, struct seq_file *seq);

#endif
