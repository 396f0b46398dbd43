/**
 * kcompactd of 6.1: one thread a node that compacts ahead of need.
 *
 * It is woken for an order by kswapd before that sleeps, and by requests that may not reclaim when
 * kswapd would not help them. Every half second it also looks whether the node is more fragmented
 * than compaction_proactiveness allows, and compacts until it is not; without success it looks again
 * only after 32 seconds. It is a cooperative job on the virtual clock.
 * Linux: mm/compaction.c (wakeup_kcompactd, kcompactd_do_work, proactive_compact_node, kcompactd).
 */

import type { Job } from '../../lib/kthread.ts';
import { GFP_KERNEL } from '../../mm/gfp.ts';
import { as_kthread } from '../../mm/kthread.ts';
import type { Machine, Pgdat } from '../../mm/mmzone.ts';
import type { order_t } from '../../mm/page.ts';
import { drain_all_pages } from '../../mm/page_alloc.ts';
import {
  count_vm_event,
  count_vm_events,
  KCOMPACTD_FREE_SCANNED,
  KCOMPACTD_MIGRATE_SCANNED,
  KCOMPACTD_WAKE,
} from '../../mm/vmstat.ts';
import {
  COMPACT_COMPLETE,
  COMPACT_CONTINUE,
  COMPACT_PARTIAL_SKIPPED,
  COMPACT_SUCCESS,
  compact_zone,
  compaction_suitable,
  fragmentation_score_node,
  fragmentation_score_wmark,
} from './compaction.ts';
import { CompactControl } from './compaction_control.ts';
import {
  compaction_defer_reset,
  compaction_deferred,
  defer_compaction,
} from './compaction_hints.ts';
import { MIGRATE_SYNC_LIGHT } from './migrate.ts';

/** How often it looks at the score (HPAGE_FRAG_CHECK_INTERVAL_MSEC). */
const CHECK_INTERVAL_MS = 500;
const COMPACT_MAX_DEFER_SHIFT = 6;

/** Asks a node's kcompactd for blocks of an order, if compaction can make them (compaction.c). */
export function wakeup_kcompactd(
  m: Machine,
  pgdat: Pgdat,
  order: order_t,
  highest_zoneidx: number,
): void {
  if (order === 0 || !m.shape.compaction) return;
  const idle = pgdat.kcompactd_max_order === 0;
  pgdat.kcompactd_max_order = Math.max(pgdat.kcompactd_max_order, order);
  pgdat.kcompactd_highest_zoneidx = idle
    ? highest_zoneidx
    : Math.min(pgdat.kcompactd_highest_zoneidx, highest_zoneidx);
  const wanted = pgdat.kcompactd_max_order;
  const highest = pgdat.kcompactd_highest_zoneidx;
  const suitable = pgdat.zones.some(
    (zone) =>
      zone.zone_idx <= highest &&
      compaction_suitable(m, zone, wanted, 0, highest) === COMPACT_CONTINUE,
  );
  if (!suitable) return;
  pgdat.kcompactd_woken = true;
  const trace = m.trace.mm_compaction_wakeup_kcompactd;
  if (trace.enabled) trace.emit(pgdat.nid, order, highest_zoneidx);
}

/** Compacts the zones that were asked for, backing off from those where it failed (compaction.c). */
function* kcompactd_do_work(m: Machine, pgdat: Pgdat): Job {
  const order = pgdat.kcompactd_max_order;
  const highest_zoneidx = pgdat.kcompactd_highest_zoneidx;
  const trace = m.trace.mm_compaction_kcompactd_wake;
  if (trace.enabled) trace.emit(pgdat.nid, order, highest_zoneidx);
  count_vm_event(m, KCOMPACTD_WAKE);
  for (const zone of pgdat.zones) {
    if (zone.zone_idx > highest_zoneidx) continue;
    if (compaction_deferred(m, zone, order)) continue;
    if (compaction_suitable(m, zone, order, 0, zone.zone_idx) !== COMPACT_CONTINUE) continue;
    const cc = new CompactControl(m, zone, {
      order,
      gfp: GFP_KERNEL,
      mode: MIGRATE_SYNC_LIGHT,
      highest_zoneidx,
    });
    const status = yield* compact_zone(m, cc);
    if (status === COMPACT_SUCCESS) {
      compaction_defer_reset(m, zone, order, false);
    } else if (status === COMPACT_PARTIAL_SKIPPED || status === COMPACT_COMPLETE) {
      drain_all_pages(m);
      defer_compaction(m, zone, order);
    }
    count_vm_events(m, KCOMPACTD_MIGRATE_SCANNED, cc.total_migrate_scanned);
    count_vm_events(m, KCOMPACTD_FREE_SCANNED, cc.total_free_scanned);
  }
  if (pgdat.kcompactd_max_order <= order) pgdat.kcompactd_max_order = 0;
  return 0;
}

/** Compacts each zone of a node until its score is low (compaction.c: proactive_compact_node). */
function* proactive_compact_node(m: Machine, pgdat: Pgdat): Job {
  for (const zone of pgdat.zones) {
    const cc = new CompactControl(m, zone, {
      order: -1,
      gfp: GFP_KERNEL,
      mode: MIGRATE_SYNC_LIGHT,
      whole_zone: true,
      ignore_skip_hint: true,
      proactive_compaction: true,
    });
    yield* compact_zone(m, cc);
  }
  return 0;
}

/** Looks whether a node is too fragmented, and compacts it then. Sets when to look next. */
function* proactive_check(m: Machine, pgdat: Pgdat): Job {
  let timeout = CHECK_INTERVAL_MS;
  const score = fragmentation_score_node(m, pgdat.nid);
  if (m.sysctl['compaction_proactiveness'] !== 0 && score > fragmentation_score_wmark(m, false)) {
    yield* proactive_compact_node(m, pgdat);
    if (fragmentation_score_node(m, pgdat.nid) >= score) timeout <<= COMPACT_MAX_DEFER_SHIFT;
  }
  pgdat.kcompactd_timeout_at = m.clock.now_ms + timeout;
  pgdat.proactive_compact_trigger = false;
  return 0;
}

/** One turn of a node's kcompactd: what was asked for comes first (compaction.c: kcompactd). */
function* kcompactd(m: Machine, pgdat: Pgdat): Job {
  if (pgdat.kcompactd_max_order > 0 && !pgdat.proactive_compact_trigger) {
    yield* kcompactd_do_work(m, pgdat);
    pgdat.kcompactd_timeout_at = m.clock.now_ms + CHECK_INTERVAL_MS;
  } else {
    yield* proactive_check(m, pgdat);
  }
  const trace = m.trace.mm_compaction_kcompactd_sleep;
  if (trace.enabled) trace.emit(pgdat.nid);
  return 0;
}

/** Pids of the threads as traces name them. */
const FIRST_KCOMPACTD_PID = 200;

/** KernelProfile.kcompactd_tick: runs every node's that was woken or whose time has come. */
export function* kcompactd_tick(m: Machine): Job {
  if (!m.shape.compaction) return 0;
  for (const pgdat of m.nodes) {
    if (pgdat.zones.length === 0) continue;
    const timeout =
      m.sysctl['compaction_proactiveness'] !== 0 && m.clock.now_ms >= pgdat.kcompactd_timeout_at;
    if (!pgdat.kcompactd_woken && !pgdat.proactive_compact_trigger && !timeout) continue;
    pgdat.kcompactd_woken = false;
    const thread = { pid: FIRST_KCOMPACTD_PID + pgdat.nid, comm: `kcompactd${pgdat.nid}` };
    yield* as_kthread(m, thread, kcompactd(m, pgdat));
  }
  return 0;
}
