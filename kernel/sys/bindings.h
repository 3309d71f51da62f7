/* SPDX-License-Identifier: GPL-2.0-only OR MIT */

/* What bindgen reads. Values that are no plain constants get a name of their own. */
#include <linux/device.h>
#include <linux/eventfd.h>
#include <linux/interrupt.h>
#include <linux/iommufd.h>
#include <linux/irq.h>
#include <linux/irqbypass.h>
#include <linux/msi.h>
#include <linux/pci.h>
#include <linux/pm_runtime.h>
#include <linux/vfio.h>
#include <linux/vfio_pci_core.h>
#ifdef CONFIG_IRQ_REMAP
#include <asm/irq_remapping.h>
#endif

static const unsigned int vfio_irq_get_irq_info = VFIO_DEVICE_GET_IRQ_INFO;
static const unsigned int vfio_irq_set_irqs = VFIO_DEVICE_SET_IRQS;
static const unsigned int vfio_irq_reset = VFIO_DEVICE_RESET;
