/**
 * kswapd of 6.1, as far as compaction depends on it.
 *
 * A request that the LOW watermark refused wakes the node's kswapd. Before it sleeps again it has the
 * skip bits looked over, if the scanners of a direct compaction have met since: later runs start
 * where that found something (recorded: g4-hugepages, `init_free` and `init_mig` afterwards, in the
 * layouts whose counters show that kswapd ran). After 16 runs in a row that reclaimed nothing it is
 * not woken any more. It runs where the task that woke it calls cond_resched.
 * Linux: mm/vmscan.c (wakeup_kswapd, pgdat_balanced, balance_pgdat, kswapd_try_to_sleep). The scan
 * itself is missing, as in vmscan.ts.
 */
import { __GFP_WAIT } from '../../mm/gfp.ts';
import { type Machine, type Pgdat, WMARK_HIGH, type Zone } from '../../mm/mmzone.ts';
import type { order_t } from '../../mm/page.ts';
import { count_vm_event, PAGEOUTRUN } from '../../mm/vmstat.ts';
import { reset_isolation_suitable } from './compaction_hints.ts';
import { wakeup_kcompactd } from './kcompactd.ts';
import { wmark_pages, zone_watermark_ok } from './watermark.ts';

/** Fruitless runs after which a node is hopeless. */
export const MAX_RECLAIM_RETRIES = 16;

/** True when some zone could serve the order above its HIGH watermark (vmscan.c). */
function pgdat_balanced(
  m: Machine,
  pgdat: Pgdat,
  order: order_t,
  highest_zoneidx: number,
): boolean {
  for (const zone of pgdat.zones) {
    if (zone.zone_idx > highest_zoneidx) continue;
    const mark = wmark_pages(zone, WMARK_HIGH);
    if (zone_watermark_ok(m, zone, order, mark, highest_zoneidx, 0)) return true;
  }
  return false;
}

/** Wakes the zone's kswapd, unless its node is fine or hopeless: perhaps kcompactd (vmscan.c). */
export function wakeup_kswapd(
  m: Machine,
  zone: Zone,
  gfp: number,
  order: order_t,
  highest_zoneidx: number,
): void {
  const pgdat = m.nodes[zone.nid]!;
  pgdat.kswapd_max_order = Math.max(pgdat.kswapd_max_order, order);
  const boosted = pgdat.zones.some((z) => z.watermark_boost > 0);
  if (
    pgdat.kswapd_failures >= MAX_RECLAIM_RETRIES ||
    (pgdat_balanced(m, pgdat, order, highest_zoneidx) && !boosted)
  ) {
    // There may be plenty of free memory, but too fragmented for a request that cannot compact.
    if ((gfp & __GFP_WAIT) === 0) wakeup_kcompactd(m, pgdat, order, highest_zoneidx);
    return;
  }
  if (pgdat.kswapd_woken) return;
  pgdat.kswapd_woken = true;
  pgdat.kswapd_wakeups++;
}

/** page_alloc.c: wake_all_kswapds. */
export function wake_all_kswapds(
  m: Machine,
  gfp: number,
  order: order_t,
  zonelist: readonly Zone[],
  highest_zoneidx: number,
): void {
  let last = -1;
  for (const zone of zonelist) {
    if (zone.zone_idx > highest_zoneidx || zone.nid === last) continue;
    wakeup_kswapd(m, zone, gfp, order, highest_zoneidx);
    last = zone.nid;
  }
}

/** Lets every kswapd that was woken have its turn; called where Linux calls cond_resched. */
export function kswapd_cond_resched(m: Machine): void {
  for (const pgdat of m.nodes) {
    if (!pgdat.kswapd_woken) continue;
    if (pgdat.kswapd_wakeups === pgdat.kswapd_late_wakeup && pgdat.kswapd_late_by > 0) {
      pgdat.kswapd_late_by--;
    } else {
      kswapd_run(m, pgdat);
    }
  }
}

/** From being woken to the next sleep (vmscan.c: balance_pgdat, kswapd_try_to_sleep). */
function kswapd_run(m: Machine, pgdat: Pgdat): void {
  const order = pgdat.kswapd_max_order;
  const highest = m.shape.zone_names.length - 1;
  pgdat.kswapd_woken = false;
  pgdat.kswapd_max_order = 0;
  count_vm_event(m, PAGEOUTRUN);
  if (!pgdat_balanced(m, pgdat, order, highest)) pgdat.kswapd_failures++;
  // What the request wanted is forgotten by now: single pages are enough for a sleep.
  const hopeless = pgdat.kswapd_failures >= MAX_RECLAIM_RETRIES;
  if (hopeless || pgdat_balanced(m, pgdat, 0, highest)) reset_isolation_suitable(m, pgdat.nid);
}
