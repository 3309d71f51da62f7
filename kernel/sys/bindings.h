/* SPDX-License-Identifier: GPL-2.0-only OR MIT */

/* The input of bindgen. */
#include <linux/irqbypass.h>
#include <linux/vfio.h>

#include "../../pci/vfio_pci_priv.h"
#include "../hooks.h"
