/**
 * Zone reclaim of 2.6.35: a little is reclaimed from a near zone before memory of another is used.
 *
 * Off unless zone_reclaim_mode asks for it. It goes for page cache that nobody maps, and for slabs,
 * as long as there is more of them than min_unmapped_ratio and min_slab_ratio leave alone, at rising
 * effort from a sixteenth of the lists on, until the request's worth is free.
 * Linux: mm/vmscan.c (zone_reclaim, __zone_reclaim).
 */
import { run_job } from '../../lib/kthread.ts';
import { __GFP_WAIT } from '../../mm/gfp.ts';
import { type Machine, numa_node_id, SWAP_CLUSTER_MAX, type Zone } from '../../mm/mmzone.ts';
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
  PGSCAN_ZONE_RECLAIM_FAILED,
} from '../../mm/vmstat.ts';
import { note_zone_scanning_priority, ScanControl, shrink_slab, shrink_zone } from './vmscan.ts';

// zone_reclaim_mode (swap.h).
const RECLAIM_WRITE = 2;
const RECLAIM_SWAP = 4;
/** zone_reclaim starts at this priority: a sixteenth of the list. */
const ZONE_RECLAIM_PRIORITY = 4;
// What zone_reclaim answers; 0 and 1: it tried, without or with success.
export const ZONE_RECLAIM_NOSCAN = -2;
export const ZONE_RECLAIM_FULL = -1;

/** Page cache of a zone that zone_reclaim may take under its mode (zone_pagecache_reclaimable). */
function zone_pagecache_reclaimable(m: Machine, zone: Zone): number {
  const mode = m.sysctl['zone_reclaim_mode'] ?? 0;
  const stat = zone.vm_stat;
  let nr: number;
  if ((mode & RECLAIM_SWAP) !== 0) nr = stat[NR_FILE_PAGES]!;
  else nr = Math.max(0, stat[NR_INACTIVE_FILE]! + stat[NR_ACTIVE_FILE]! - stat[NR_FILE_MAPPED]!);
  const dirty = (mode & RECLAIM_WRITE) !== 0 ? 0 : stat[NR_FILE_DIRTY]!;
  return nr - Math.min(dirty, nr);
}

/**
 * Reclaims a little from a local zone before memory of another node is used: ZONE_RECLAIM_NOSCAN,
 * ZONE_RECLAIM_FULL, 0 (not enough) or 1 (vmscan.c: zone_reclaim).
 */
export function zone_reclaim(m: Machine, zone: Zone, gfp: number, order: order_t): number {
  const min_unmapped = ratio_pages(m, zone, 'min_unmapped_ratio', 1);
  const min_slab = ratio_pages(m, zone, 'min_slab_ratio', 5);
  if (
    zone_pagecache_reclaimable(m, zone) <= min_unmapped &&
    zone.vm_stat[NR_SLAB_RECLAIMABLE]! <= min_slab
  ) {
    return ZONE_RECLAIM_FULL;
  }
  if (zone.all_unreclaimable !== 0) return ZONE_RECLAIM_FULL;
  if ((gfp & __GFP_WAIT) === 0 || (m.current_flags & PF_MEMALLOC) !== 0) return ZONE_RECLAIM_NOSCAN;
  // Another node's processors see to its memory.
  if (zone.nid !== numa_node_id(m) && m.nodes[zone.nid]!.cpus.length > 0) {
    return ZONE_RECLAIM_NOSCAN;
  }
  const ok = __zone_reclaim(m, zone, gfp, order, min_unmapped, min_slab);
  if (!ok) count_vm_event(m, PGSCAN_ZONE_RECLAIM_FAILED);
  return ok ? 1 : 0;
}

function ratio_pages(m: Machine, zone: Zone, sysctl: string, def: number): number {
  return Math.floor((zone.present_pages * (m.sysctl[sysctl] ?? def)) / 100);
}

function __zone_reclaim(
  m: Machine,
  zone: Zone,
  gfp: number,
  order: order_t,
  min_unmapped: number,
  min_slab: number,
): boolean {
  const mode = m.sysctl['zone_reclaim_mode'] ?? 0;
  const nr_pages = 2 ** order;
  const sc = new ScanControl(m, gfp, order, Math.max(nr_pages, SWAP_CLUSTER_MAX));
  sc.may_writepage = (mode & RECLAIM_WRITE) !== 0;
  sc.may_unmap = (mode & RECLAIM_SWAP) !== 0;
  const flags = m.current_flags;
  m.current_flags |= PF_MEMALLOC | PF_SWAPWRITE;
  if (zone_pagecache_reclaimable(m, zone) > min_unmapped) {
    for (let prio = ZONE_RECLAIM_PRIORITY; prio >= 0 && sc.nr_reclaimed < nr_pages; prio--) {
      note_zone_scanning_priority(zone, prio);
      run_job(shrink_zone(m, sc, zone, prio));
    }
  }
  const stat = zone.vm_stat;
  const slab = stat[NR_SLAB_RECLAIMABLE]!;
  if (slab > min_slab) {
    // The whole list of objects, again and again, until the request's worth is free.
    while (
      shrink_slab(m, sc.nr_scanned, gfp, order) > 0 &&
      stat[NR_SLAB_RECLAIMABLE]! > slab - nr_pages
    );
    sc.nr_reclaimed += slab - stat[NR_SLAB_RECLAIMABLE]!;
  }
  m.current_flags = flags;
  return sc.nr_reclaimed >= nr_pages;
}
