/**
 * Node reclaim of 6.1: a little is reclaimed from a near node before memory of another is used.
 *
 * Off unless zone_reclaim_mode asks for it. It goes for page cache that nobody maps, and for slabs,
 * as long as there is more of them than min_unmapped_ratio and min_slab_ratio leave alone. All nodes
 * are near here: distances are 10 and 20, RECLAIM_DISTANCE is 30.
 * Linux: mm/vmscan.c, last part (node_reclaim, __node_reclaim).
 */
import { __GFP_WAIT } from '../../mm/gfp.ts';
import { type Machine, numa_node_id, type Pgdat, SWAP_CLUSTER_MAX } from '../../mm/mmzone.ts';
import type { order_t } from '../../mm/page.ts';
import { PF_MEMALLOC, PF_SWAPWRITE } from '../../mm/reclaim_def.ts';
import {
  count_vm_event,
  NR_ACTIVE_FILE,
  NR_FILE_DIRTY,
  NR_FILE_MAPPED,
  NR_FILE_PAGES,
  NR_INACTIVE_FILE,
  NR_SLAB_RECLAIMABLE,
  node_page_state,
  PGSCAN_ZONE_RECLAIM_FAILED,
} from '../../mm/vmstat.ts';
import { ScanControl, shrink_node } from './vmscan.ts';

// zone_reclaim_mode (uapi/linux/mempolicy.h): at all, with writing, with unmapping.
const RECLAIM_WRITE = 2;
const RECLAIM_UNMAP = 4;
/** Starts with a sixteenth of the lists. */
const NODE_RECLAIM_PRIORITY = 4;

// What node_reclaim answers.
export const NODE_RECLAIM_NOSCAN = -2;
export const NODE_RECLAIM_FULL = -1;
const NODE_RECLAIM_SOME = 0;
const NODE_RECLAIM_SUCCESS = 1;

const node_reclaim_mode = (m: Machine): number => m.sysctl['zone_reclaim_mode'] ?? 0;

export const node_reclaim_enabled = (m: Machine): boolean => node_reclaim_mode(m) !== 0;

/** Pages of a node that a ratio of its memory leaves alone. */
function ratio_pages(m: Machine, pgdat: Pgdat, sysctl: string): number {
  let pages = 0;
  for (const zone of pgdat.zones) {
    pages += Math.floor((zone.present_pages * m.sysctl[sysctl]!) / 100);
  }
  return pages;
}

/** Page cache that the mode lets it take. */
function node_pagecache_reclaimable(m: Machine, pgdat: Pgdat): number {
  const mode = node_reclaim_mode(m);
  const state = (item: number): number => node_page_state(m, pgdat.nid, item);
  let nr: number;
  if ((mode & RECLAIM_UNMAP) !== 0) nr = state(NR_FILE_PAGES);
  else nr = Math.max(0, state(NR_INACTIVE_FILE) + state(NR_ACTIVE_FILE) - state(NR_FILE_MAPPED));
  const dirty = (mode & RECLAIM_WRITE) !== 0 ? 0 : state(NR_FILE_DIRTY);
  return nr - Math.min(dirty, nr);
}

/** Reclaims 2^order pages at rising effort; false when fewer came. */
function __node_reclaim(
  m: Machine,
  pgdat: Pgdat,
  gfp: number,
  order: order_t,
  highest_zoneidx: number,
): boolean {
  const nr_pages = 2 ** order;
  const mode = node_reclaim_mode(m);
  const want = Math.max(nr_pages, SWAP_CLUSTER_MAX);
  const sc = new ScanControl(m, gfp, order, highest_zoneidx, want);
  sc.priority = NODE_RECLAIM_PRIORITY;
  sc.may_writepage = (mode & RECLAIM_WRITE) !== 0;
  sc.may_unmap = (mode & RECLAIM_UNMAP) !== 0;
  const flags = m.current_flags;
  m.current_flags |= PF_MEMALLOC | PF_SWAPWRITE;
  for (; sc.priority >= 0 && sc.nr_reclaimed < nr_pages; sc.priority--) shrink_node(m, sc, pgdat);
  m.current_flags = flags;
  return sc.nr_reclaimed >= nr_pages;
}

/**
 * Tries to reclaim for a request that a zone of this node just refused: NODE_RECLAIM_NOSCAN when it
 * may not, _FULL when there is nothing to take, 0 or 1 by success.
 */
export function node_reclaim(
  m: Machine,
  pgdat: Pgdat,
  gfp: number,
  order: order_t,
  highest_zoneidx: number,
): number {
  if (
    node_pagecache_reclaimable(m, pgdat) <= ratio_pages(m, pgdat, 'min_unmapped_ratio') &&
    node_page_state(m, pgdat.nid, NR_SLAB_RECLAIMABLE) <= ratio_pages(m, pgdat, 'min_slab_ratio')
  ) {
    return NODE_RECLAIM_FULL;
  }
  if ((gfp & __GFP_WAIT) === 0 || (m.current_flags & PF_MEMALLOC) !== 0) return NODE_RECLAIM_NOSCAN;
  // Another node's processors see to its memory.
  if (pgdat.cpus.length > 0 && pgdat.nid !== numa_node_id(m)) return NODE_RECLAIM_NOSCAN;
  if (__node_reclaim(m, pgdat, gfp, order, highest_zoneidx)) return NODE_RECLAIM_SUCCESS;
  count_vm_event(m, PGSCAN_ZONE_RECLAIM_FAILED);
  return NODE_RECLAIM_SOME;
}
