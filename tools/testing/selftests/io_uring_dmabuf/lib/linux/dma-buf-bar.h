/* SPDX-License-Identifier: GPL-2.0 */
/* The test exporter's ioctls are no user API: they are not among the installed headers */
#include "../../../../../../drivers/dma-buf/dma-buf-bar.h"
