/**
 * The page allocator of 2.6.35 from the watermarks up: zonelist walk, fast path, slow path.
 *
 * A request walks its zonelist at the LOW watermark. If no zone serves it, the slow path tries MIN,
 * then direct compaction (orders above 3), behind the deferral of the preferred zone.
 * Linux: mm/page_alloc.c, from get_page_from_freelist to __alloc_pages_nodemask. Differs: no
 * zonelist cache (it only saves time); one thread at a time, so nothing is retried because somebody
 * else was faster.
 */
import { run_job } from '../../lib/kthread.ts';
import {
  __GFP_HARDWALL,
  __GFP_HIGH,
  __GFP_THISNODE,
  __GFP_WAIT,
  allocflags_to_migratetype,
  GFP_THISNODE,
  MIGRATE_UNMOVABLE,
} from '../../mm/gfp.ts';
import {
  gfp_zone,
  type Machine,
  numa_node_id,
  WMARK_LOW,
  WMARK_MIN,
  type Zone,
} from '../../mm/mmzone.ts';
import type { nid_t, order_t, pfn_t } from '../../mm/page.ts';
import { COMPACTFAIL, COMPACTSUCCESS, count_vm_event } from '../../mm/vmstat.ts';
import {
  COMPACT_SKIPPED,
  compaction_deferred,
  defer_compaction,
  try_to_compact_pages,
} from './compaction.ts';
import { buffered_rmqueue, drain_local_pages } from './rmqueue.ts';
import {
  ALLOC_CPUSET,
  ALLOC_HARDER,
  ALLOC_HIGH,
  ALLOC_NO_WATERMARKS,
  ALLOC_WMARK_MASK,
  zone_watermark_ok,
} from './watermark.ts';

/** The first zone of the list that a mask may use; undefined when there is none. */
function first_zones_zonelist(zonelist: readonly Zone[], high_zoneidx: number): Zone | undefined {
  for (let i = 0; i < zonelist.length; i++) {
    if (zonelist[i]!.zone_idx <= high_zoneidx) return zonelist[i];
  }
  return undefined;
}

/** One walk of the zonelist at one watermark (page_alloc.c: get_page_from_freelist). */
export function get_page_from_freelist(
  m: Machine,
  gfp: number,
  order: order_t,
  zonelist: readonly Zone[],
  high_zoneidx: number,
  alloc_flags: number,
  preferred_zone: Zone,
  migratetype: number,
): pfn_t | -1 {
  const classzone_idx = preferred_zone.zone_idx;
  for (let i = 0; i < zonelist.length; i++) {
    const zone = zonelist[i]!;
    if (zone.zone_idx > high_zoneidx) continue;
    if ((alloc_flags & ALLOC_NO_WATERMARKS) === 0) {
      const mark = zone.watermark[alloc_flags & ALLOC_WMARK_MASK]!;
      if (!zone_watermark_ok(zone, order, mark, classzone_idx, alloc_flags)) continue;
    }
    const pfn = buffered_rmqueue(m, preferred_zone, zone, order, gfp, migratetype);
    if (pfn >= 0) return pfn;
  }
  return -1;
}

/** What a slow-path request may do, from its mask (page_alloc.c: gfp_to_alloc_flags). */
function gfp_to_alloc_flags(gfp: number): number {
  let alloc_flags = WMARK_MIN | ALLOC_CPUSET;
  if ((gfp & __GFP_HIGH) !== 0) alloc_flags |= ALLOC_HIGH;
  if ((gfp & __GFP_WAIT) === 0) {
    alloc_flags |= ALLOC_HARDER;
    alloc_flags &= ~ALLOC_CPUSET;
  }
  return alloc_flags;
}

/**
 * Compacts for one request, then tries the lists again. (page_alloc.c: __alloc_pages_direct_compact)
 * The preferred zone carries the deferral, whichever zone was compacted.
 */
function __alloc_pages_direct_compact(
  m: Machine,
  gfp: number,
  order: order_t,
  zonelist: readonly Zone[],
  high_zoneidx: number,
  alloc_flags: number,
  preferred_zone: Zone,
  migratetype: number,
): pfn_t | -1 {
  if (!m.shape.compaction || order === 0 || compaction_deferred(preferred_zone)) return -1;
  const rc = run_job(try_to_compact_pages(m, zonelist, high_zoneidx, order, gfp));
  if (rc === COMPACT_SKIPPED) return -1;
  // Pages that compaction freed may wait on this CPU's lists instead of having merged.
  drain_local_pages(m);
  const pfn = get_page_from_freelist(
    m,
    gfp,
    order,
    zonelist,
    high_zoneidx,
    alloc_flags,
    preferred_zone,
    migratetype,
  );
  if (pfn >= 0) {
    preferred_zone.compact_considered = 0;
    preferred_zone.compact_defer_shift = 0;
    count_vm_event(m, COMPACTSUCCESS);
    return pfn;
  }
  count_vm_event(m, COMPACTFAIL);
  defer_compaction(preferred_zone);
  return -1;
}

/** page_alloc.c: __alloc_pages_slowpath. */
function __alloc_pages_slowpath(
  m: Machine,
  gfp: number,
  order: order_t,
  zonelist: readonly Zone[],
  high_zoneidx: number,
  preferred_zone: Zone,
  migratetype: number,
): pfn_t | -1 {
  if (order >= m.shape.max_order) return -1;
  if (m.shape.numa && (gfp & GFP_THISNODE) === GFP_THISNODE) return -1;
  const alloc_flags = gfp_to_alloc_flags(gfp);
  const pfn = get_page_from_freelist(
    m,
    gfp,
    order,
    zonelist,
    high_zoneidx,
    alloc_flags,
    preferred_zone,
    migratetype,
  );
  if (pfn >= 0) return pfn;
  if ((gfp & __GFP_WAIT) === 0) return -1;
  return __alloc_pages_direct_compact(
    m,
    gfp,
    order,
    zonelist,
    high_zoneidx,
    alloc_flags,
    preferred_zone,
    migratetype,
  );
}

/** The heart of the allocator: one block from a zonelist, or -1 (page_alloc.c). */
export function __alloc_pages_nodemask(
  m: Machine,
  gfp: number,
  order: order_t,
  zonelist: readonly Zone[],
): pfn_t | -1 {
  const high_zoneidx = gfp_zone(m.shape, gfp);
  const migratetype = m.page_group_by_mobility_disabled
    ? MIGRATE_UNMOVABLE
    : allocflags_to_migratetype(gfp);
  const preferred_zone = first_zones_zonelist(zonelist, high_zoneidx);
  if (preferred_zone === undefined) return -1;
  let pfn = get_page_from_freelist(
    m,
    gfp | __GFP_HARDWALL,
    order,
    zonelist,
    high_zoneidx,
    WMARK_LOW | ALLOC_CPUSET,
    preferred_zone,
    migratetype,
  );
  if (pfn < 0) {
    pfn = __alloc_pages_slowpath(
      m,
      gfp,
      order,
      zonelist,
      high_zoneidx,
      preferred_zone,
      migratetype,
    );
  }
  if (m.trace.mm_page_alloc.enabled) m.trace.mm_page_alloc.emit(pfn, order, gfp, migratetype);
  return pfn;
}

/** A block for a request of node `nid` (the current CPU's when negative) (gfp.h: alloc_pages_node). */
export function alloc_pages(m: Machine, gfp: number, order: order_t, nid: nid_t = -1): pfn_t | -1 {
  const node = m.nodes[nid < 0 ? numa_node_id(m) : nid]!;
  const thisnode = m.shape.numa && (gfp & __GFP_THISNODE) !== 0;
  return __alloc_pages_nodemask(m, gfp, order, node.node_zonelists[thisnode ? 1 : 0]!);
}
