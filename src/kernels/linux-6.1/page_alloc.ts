/**
 * The page allocator of 6.1 from the watermarks up: zonelist walk, fast path, slow path.
 *
 * A request walks its zonelist at the LOW watermark; in a Normal zone with a DMA32 zone below it first
 * tries without mixing types in a pageblock. The slow path tries MIN with what reserves the request
 * may use, and NO_WATERMARKS for who is about to free memory.
 * Linux: mm/page_alloc.c, from get_page_from_freelist to __alloc_pages.
 */
import {
  __GFP_HARDWALL,
  __GFP_HIGH,
  __GFP_NOMEMALLOC,
  __GFP_THISNODE,
  __GFP_WAIT,
  allocflags_to_migratetype,
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
import { __GFP_MEMALLOC, __GFP_NO_KSWAPD } from './gfp.ts';
import { reserve_highatomic_pageblock, rmqueue } from './rmqueue.ts';
import {
  ALLOC_CPUSET,
  ALLOC_HIGHATOMIC,
  ALLOC_KSWAPD,
  ALLOC_MIN_RESERVE,
  ALLOC_NO_WATERMARKS,
  ALLOC_NOFRAGMENT,
  ALLOC_NON_BLOCK,
  ALLOC_WMARK_MASK,
  wmark_pages,
  zone_watermark_fast,
} from './watermark.ts';

/** What stays the same through one request (mm/internal.h: struct alloc_context). */
export interface AllocContext {
  readonly zonelist: readonly Zone[];
  readonly preferred_zone: Zone;
  readonly highest_zoneidx: number;
  readonly migratetype: number;
}

/** The first zone of the list that a mask may use; undefined when there is none. */
function first_zones_zonelist(zonelist: readonly Zone[], highest: number): Zone | undefined {
  for (let i = 0; i < zonelist.length; i++) {
    if (zonelist[i]!.zone_idx <= highest) return zonelist[i];
  }
  return undefined;
}

/**
 * One walk of the zonelist at one watermark. Without success and with ALLOC_NOFRAGMENT it walks
 * again without, at once when it comes to another node: being near is worth more than unmixed
 * pageblocks. (page_alloc.c: get_page_from_freelist)
 */
export function get_page_from_freelist(
  m: Machine,
  gfp: number,
  order: order_t,
  alloc_flags: number,
  ac: AllocContext,
): pfn_t | -1 {
  const { zonelist, preferred_zone } = ac;
  for (;;) {
    const no_fallback = (alloc_flags & ALLOC_NOFRAGMENT) !== 0;
    for (let i = 0; i < zonelist.length; i++) {
      const zone = zonelist[i]!;
      if (zone.zone_idx > ac.highest_zoneidx) continue;
      if (no_fallback && zone.nid !== preferred_zone.nid) break;
      if ((alloc_flags & ALLOC_NO_WATERMARKS) === 0) {
        const mark = wmark_pages(zone, alloc_flags & ALLOC_WMARK_MASK);
        if (!zone_watermark_fast(m, zone, order, mark, ac.highest_zoneidx, alloc_flags)) continue;
      }
      const pfn = rmqueue(m, preferred_zone, zone, order, gfp, alloc_flags, ac.migratetype);
      if (pfn < 0) continue;
      if ((alloc_flags & ALLOC_HIGHATOMIC) !== 0) reserve_highatomic_pageblock(m, zone, pfn);
      return pfn;
    }
    if (!no_fallback) return -1;
    alloc_flags &= ~ALLOC_NOFRAGMENT;
  }
}

/** page_alloc.c: alloc_flags_nofragment. */
function alloc_flags_nofragment(m: Machine, zone: Zone, gfp: number): number {
  const flags = (gfp & __GFP_NO_KSWAPD) === 0 ? ALLOC_KSWAPD : 0;
  if (zone.zone_idx !== m.shape.ZONE_NORMAL) return flags;
  // A machine with one node is taken to have a lower zone without looking.
  const lower = m.zones[zone.id - 1];
  if (m.nodes.length > 1 && (lower === undefined || lower.present_pages === 0)) return flags;
  return flags | ALLOC_NOFRAGMENT;
}

/**
 * What a slow-path request may do, from its mask. Not blocking alone opens HIGHATOMIC blocks only as
 * a last resort; first choice, and the right to reserve more of them, needs __GFP_HIGH too (recorded:
 * g1-buddy B010 and B053 against B007). (page_alloc.c: gfp_to_alloc_flags)
 */
function gfp_to_alloc_flags(gfp: number, order: order_t): number {
  let alloc_flags = WMARK_MIN | ALLOC_CPUSET;
  if ((gfp & __GFP_HIGH) !== 0) alloc_flags |= ALLOC_MIN_RESERVE;
  if ((gfp & __GFP_NO_KSWAPD) === 0) alloc_flags |= ALLOC_KSWAPD;
  if ((gfp & __GFP_WAIT) === 0) {
    if ((gfp & __GFP_NOMEMALLOC) === 0) {
      alloc_flags |= ALLOC_NON_BLOCK;
      if (order > 0 && (alloc_flags & ALLOC_MIN_RESERVE) !== 0) alloc_flags |= ALLOC_HIGHATOMIC;
    }
    if ((alloc_flags & ALLOC_MIN_RESERVE) !== 0) alloc_flags &= ~ALLOC_CPUSET;
  }
  return alloc_flags;
}

/** page_alloc.c: __gfp_pfmemalloc_flags, for tasks that are not PF_MEMALLOC themselves. */
function __gfp_pfmemalloc_flags(gfp: number): number {
  if ((gfp & __GFP_NOMEMALLOC) !== 0) return 0;
  return (gfp & __GFP_MEMALLOC) !== 0 ? ALLOC_NO_WATERMARKS : 0;
}

/** page_alloc.c: __alloc_pages_slowpath. */
function __alloc_pages_slowpath(
  m: Machine,
  gfp: number,
  order: order_t,
  ac: AllocContext,
): pfn_t | -1 {
  let alloc_flags = gfp_to_alloc_flags(gfp, order);
  let pfn = get_page_from_freelist(m, gfp, order, alloc_flags, ac);
  if (pfn >= 0) return pfn;
  const reserve_flags = __gfp_pfmemalloc_flags(gfp);
  if (reserve_flags !== 0) {
    alloc_flags = reserve_flags | (alloc_flags & ALLOC_KSWAPD);
    pfn = get_page_from_freelist(m, gfp, order, alloc_flags, ac);
  }
  return pfn;
}

/** The heart of the allocator: one block from a zonelist, or -1 (page_alloc.c: __alloc_pages). */
export function __alloc_pages(
  m: Machine,
  gfp: number,
  order: order_t,
  zonelist: readonly Zone[],
): pfn_t | -1 {
  if (order >= m.shape.max_order) return -1;
  const highest_zoneidx = gfp_zone(m.shape, gfp);
  const migratetype = m.page_group_by_mobility_disabled
    ? MIGRATE_UNMOVABLE
    : allocflags_to_migratetype(gfp);
  const preferred_zone = first_zones_zonelist(zonelist, highest_zoneidx);
  if (preferred_zone === undefined) return -1;
  const ac: AllocContext = { zonelist, preferred_zone, highest_zoneidx, migratetype };
  const alloc_flags = WMARK_LOW | alloc_flags_nofragment(m, preferred_zone, gfp);
  let pfn = get_page_from_freelist(m, gfp | __GFP_HARDWALL, order, alloc_flags, ac);
  if (pfn < 0) pfn = __alloc_pages_slowpath(m, gfp, order, ac);
  if (m.trace.mm_page_alloc.enabled) m.trace.mm_page_alloc.emit(pfn, order, gfp, migratetype);
  return pfn;
}

/** A block for a request of node `nid` (the current CPU's when negative) (gfp.h: alloc_pages_node). */
export function alloc_pages(m: Machine, gfp: number, order: order_t, nid: nid_t = -1): pfn_t | -1 {
  const node = m.nodes[nid < 0 ? numa_node_id(m) : nid]!;
  const thisnode = m.shape.numa && (gfp & __GFP_THISNODE) !== 0;
  return __alloc_pages(m, gfp, order, node.node_zonelists[thisnode ? 1 : 0]!);
}
