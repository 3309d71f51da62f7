// SPDX-License-Identifier: GPL-2.0-only OR MIT

/*
 * The C half of this project's code in vfio-pci-core: macros and inline functions that Rust calls,
 * module information, and the file /sys/kernel/debug/vfio/BDF/interrupts.
 */

#include <linux/debugfs.h>
#include <linux/device.h>
#include <linux/module.h>
#include <linux/msi.h>
#include <linux/mutex.h>
#include <linux/pci.h>
#include <linux/seq_file.h>
#include <linux/spinlock.h>
#include <linux/vfio.h>
#ifdef CONFIG_IRQ_REMAP
#include <asm/irq_remapping.h>
#endif

#include "vfio_pci_priv.h"
#include "hooks.h"

/* Read from /sys/module/vfio_pci_core/version. The core in C has no such file. */
MODULE_VERSION("vfio-irq 0.1.0");

static bool always_offer_irq_bypass;
module_param(always_offer_irq_bypass, bool, 0444);
MODULE_PARM_DESC(always_offer_irq_bypass,
		 "Offer interrupts to KVM even where the machine cannot post interrupts to a guest (default: only where it can)");

unsigned long vfio_pci_irq_lock(struct vfio_pci_core_device *vdev)
{
	unsigned long flags;

	spin_lock_irqsave(&vdev->irqlock, flags);
	return flags;
}

void vfio_pci_irq_unlock(struct vfio_pci_core_device *vdev, unsigned long flags)
{
	spin_unlock_irqrestore(&vdev->irqlock, flags);
}

/*
 * Returns true if interrupts are registered as irq bypass producers. If an x86 machine cannot post
 * interrupts, KVM registers no consumer, and a producer costs as much as the change of the trigger.
 */
bool vfio_pci_irq_has_bypass(void)
{
	if (always_offer_irq_bypass)
		return true;
#if defined(CONFIG_IRQ_REMAP)
	return irq_remapping_cap(IRQ_POSTING_CAP);
#else
	return !IS_ENABLED(CONFIG_X86);
#endif
}

void vfio_pci_irq_get_cached_msi_msg(unsigned int irq, u32 message[3])
{
	struct msi_msg msg;

	get_cached_msi_msg(irq, &msg);
	message[0] = msg.address_lo;
	message[1] = msg.address_hi;
	message[2] = msg.data;
}

void vfio_pci_irq_restore_msi_msg(unsigned int irq)
{
	struct msi_msg msg;

	get_cached_msi_msg(irq, &msg);
	pci_write_msi_msg(irq, &msg);
}

void vfio_pci_irq_write_msi_msg(unsigned int irq, const u32 message[3])
{
	struct msi_msg msg = {};

	msg.address_lo = message[0];
	msg.address_hi = message[1];
	msg.data = message[2];
	pci_write_msi_msg(irq, &msg);
}

#ifdef CONFIG_DEBUG_FS

static int interrupts_show(struct seq_file *seq, void *unused)
{
	struct vfio_pci_core_device *vdev = seq->private;
	struct mutex *set_lock = &vdev->vdev.dev_set->lock;

	/* At close the core disables interrupts under the lock of the device set, without igate. */
	if (mutex_lock_interruptible(set_lock))
		return -EINTR;
	mutex_lock(&vdev->igate);
	vfio_pci_irq_show(vdev, seq);
	mutex_unlock(&vdev->igate);
	mutex_unlock(set_lock);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(interrupts);

#ifdef CONFIG_VFIO_DEBUGFS

/* VFIO makes a directory for each device, and removes it when the device is unregistered. */
static void interrupts_debugfs_init(struct vfio_pci_core_device *vdev)
{
	debugfs_create_file("interrupts", 0400, vdev->vdev.debug_root, vdev, &interrupts_fops);
}

static void interrupts_debugfs_exit(struct vfio_pci_core_device *vdev)
{
}

#else

/* The same path if VFIO has no debugfs, as in Debian's kernels. root_lock guards the other two. */
static DEFINE_MUTEX(root_lock);
static struct dentry *root;
static unsigned int root_devices;

static void interrupts_debugfs_init(struct vfio_pci_core_device *vdev)
{
	struct dentry *dir;

	mutex_lock(&root_lock);
	if (!root_devices++)
		root = debugfs_create_dir("vfio", NULL);
	dir = debugfs_create_dir(pci_name(vdev->pdev), root);
	debugfs_create_file("interrupts", 0400, dir, vdev, &interrupts_fops);
	mutex_unlock(&root_lock);
}

static void interrupts_debugfs_exit(struct vfio_pci_core_device *vdev)
{
	mutex_lock(&root_lock);
	debugfs_lookup_and_remove(pci_name(vdev->pdev), root);
	if (!--root_devices)
		debugfs_remove(root);
	mutex_unlock(&root_lock);
}

#endif
#else

static void interrupts_debugfs_init(struct vfio_pci_core_device *vdev)
{
}

static void interrupts_debugfs_exit(struct vfio_pci_core_device *vdev)
{
}

#endif

int vfio_pci_irq_register_dev(struct vfio_pci_core_device *vdev)
{
	int ret = vfio_register_group_dev(&vdev->vdev);

	if (!ret)
		interrupts_debugfs_init(vdev);
	return ret;
}

void vfio_pci_irq_unregister_dev(struct vfio_pci_core_device *vdev)
{
	/* Waits until user space has closed the device. The file stays readable meanwhile. */
	vfio_unregister_group_dev(&vdev->vdev);
	interrupts_debugfs_exit(vdev);
}
