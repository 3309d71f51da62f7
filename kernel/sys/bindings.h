/* SPDX-License-Identifier: GPL-2.0-only OR MIT */

/* What bindgen reads. */
#include <linux/irqbypass.h>
#include <linux/vfio.h>

#include "../../pci/vfio_pci_priv.h"
#include "../hooks.h"
