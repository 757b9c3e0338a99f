/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The map of the XDP program alone: interfaces that take redirected frames, by ifindex. Pinned by name. */
#ifndef PT_MAPS_XDP_H
#define PT_MAPS_XDP_H

#include "maps_shared.h"

PT_MAP(pt_devs, BPF_MAP_TYPE_DEVMAP_HASH, __u32, __u32, 256, 0);

#endif
