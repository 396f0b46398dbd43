/**
 * Direct reclaim of 6.1, as far as compaction depends on it.
 *
 * A request that reclaim cannot help may still go on when compaction could run at once: that counts
 * as progress. From the lowest priority to the highest each zone is asked so before it is scanned
 * (recorded: g3-direct, thirteen mm_compaction_suitable per failing request, one when it is ready).
 * Linux: mm/vmscan.c (try_to_free_pages, do_try_to_free_pages, shrink_zones, compaction_ready,
 * zone_reclaimable_pages). The scan itself, shrink_node, is not in this file yet: as on a machine
 * without swap whose page cache is empty, nothing is reclaimed.
 */
import {
  DEF_PRIORITY,
  type Machine,
  PAGE_ALLOC_COSTLY_ORDER,
  WMARK_HIGH,
  type Zone,
} from '../../mm/mmzone.ts';
import type { order_t } from '../../mm/page.ts';
import {
  ALLOCSTALL_ZONE,
  count_vm_event,
  NR_ACTIVE_ANON,
  NR_ACTIVE_FILE,
  NR_INACTIVE_ANON,
  NR_INACTIVE_FILE,
} from '../../mm/vmstat.ts';
import {
  COMPACT_SKIPPED,
  COMPACT_SUCCESS,
  compact_gap,
  compaction_suitable,
} from './compaction.ts';
import { wmark_pages, zone_watermark_ok } from './watermark.ts';

/** Pages of the zone that reclaim could get at: page cache, and with swap anonymous ones. */
export function zone_reclaimable_pages(m: Machine, zone: Zone): number {
  const stat = zone.vm_stat;
  let nr = stat[NR_ACTIVE_FILE]! + stat[NR_INACTIVE_FILE]!;
  if (m.nr_swap_pages > 0) nr += stat[NR_ACTIVE_ANON]! + stat[NR_INACTIVE_ANON]!;
  return nr;
}

/** True when compaction could run in this zone, so that it need not be scanned (vmscan.c). */
function compaction_ready(m: Machine, zone: Zone, order: order_t, reclaim_idx: number): boolean {
  const suitable = compaction_suitable(m, zone, order, 0, reclaim_idx);
  if (suitable === COMPACT_SUCCESS) return true;
  if (suitable === COMPACT_SKIPPED) return false;
  // Others may use what is free meanwhile: only well above what compaction needs is enough.
  const watermark = wmark_pages(zone, WMARK_HIGH) + compact_gap(order);
  return zone_watermark_ok(m, zone, 0, watermark, reclaim_idx, 0);
}

/** What one request made of direct reclaim: pages reclaimed, or 1 when compaction is ready. */
export function try_to_free_pages(
  m: Machine,
  zonelist: readonly Zone[],
  highest_zoneidx: number,
  order: order_t,
): number {
  count_vm_event(m, ALLOCSTALL_ZONE + highest_zoneidx);
  for (let priority = DEF_PRIORITY; priority >= 0; priority--) {
    let ready = false;
    for (const zone of zonelist) {
      if (zone.zone_idx > highest_zoneidx || order <= PAGE_ALLOC_COSTLY_ORDER) continue;
      if (compaction_ready(m, zone, order, highest_zoneidx)) ready = true;
    }
    if (ready) return 1;
  }
  return 0;
}
