/**
 * One run of 6.1's compaction over one zone: what was asked, where its scanners are, what they hold.
 *
 * Both scanners and compaction.ts work on it. The marks of pageblocks that a run makes go to the zone
 * (compaction_hints.ts), unless the run ignores them.
 * Linux: mm/internal.h (struct compact_control), mm/compaction.c (isolation_suitable,
 * update_cached_migrate, update_pageblock_skip).
 */
import { allocflags_to_migratetype, MIGRATE_UNMOVABLE } from '../../mm/gfp.ts';
import type { Machine, Zone } from '../../mm/mmzone.ts';
import type { order_t, pfn_t } from '../../mm/page.ts';
import {
  get_pageblock_skip,
  pageblock_aligned,
  pageblock_end_pfn,
  set_pageblock_skip,
} from './compaction_hints.ts';
import { MIGRATE_ASYNC } from './migrate.ts';

export const COMPACT_CLUSTER_MAX = 32;

/** fast_start_pfn when the restart that it allows has been used. */
export const FAST_START_USED = -1;

/** Above every pfn. */
export const NO_PFN = 2 ** 31;

export interface CompactOptions {
  order: order_t | -1;
  gfp: number;
  mode: number;
  alloc_flags?: number;
  highest_zoneidx?: number;
  whole_zone?: boolean;
  ignore_skip_hint?: boolean;
  ignore_block_suitable?: boolean;
  direct_compaction?: boolean;
  /** Of kcompactd on its own account: until the zone's score is low enough. */
  proactive_compaction?: boolean;
}

/** One run over one zone (mm/internal.h: struct compact_control). */
export class CompactControl {
  readonly zone: Zone;
  /** Head rows of the isolated free pages and of the pages to migrate. */
  freepages = 0;
  migratepages = 0;
  nr_freepages = 0;
  nr_migratepages = 0;
  free_pfn: pfn_t = 0;
  migrate_pfn: pfn_t = 0;
  /** Lowest pfn that the fast search for sources found; 0: none, FAST_START_USED. */
  fast_start_pfn: pfn_t = 0;
  total_migrate_scanned = 0;
  total_free_scanned = 0;
  /** Fast searches that failed in a row: each halves the next. */
  fast_search_fail = 0;
  /** Where the fast search for targets starts. */
  search_order: number;
  readonly gfp: number;
  /** The request's order, -1 for a run over everything. */
  readonly order: number;
  readonly migratetype: number;
  readonly alloc_flags: number;
  readonly highest_zoneidx: number;
  readonly mode: number;
  readonly ignore_skip_hint: boolean;
  readonly ignore_block_suitable: boolean;
  readonly direct_compaction: boolean;
  readonly proactive_compaction: boolean;
  whole_zone: boolean;
  /** The pageblock gave a batch already: take the rest of it at once. */
  rescan = false;

  constructor(m: Machine, zone: Zone, o: CompactOptions) {
    this.zone = zone;
    this.order = o.order;
    this.search_order = o.order;
    this.gfp = o.gfp;
    this.migratetype = m.page_group_by_mobility_disabled
      ? MIGRATE_UNMOVABLE
      : allocflags_to_migratetype(o.gfp);
    this.alloc_flags = o.alloc_flags ?? 0;
    this.highest_zoneidx = o.highest_zoneidx ?? 0;
    this.mode = o.mode;
    this.whole_zone = o.whole_zone ?? false;
    this.ignore_skip_hint = o.ignore_skip_hint ?? false;
    this.ignore_block_suitable = o.ignore_block_suitable ?? false;
    this.direct_compaction = o.direct_compaction ?? false;
    this.proactive_compaction = o.proactive_compaction ?? false;
  }
}

/** Whether the run may look at the pageblock (compaction.c). */
export function isolation_suitable(m: Machine, cc: CompactControl, pfn: pfn_t): boolean {
  return cc.ignore_skip_hint || !get_pageblock_skip(m, cc.zone, pfn);
}

/**
 * Claims a pageblock for this run when its first page is isolated; true when another had done so
 * before. (compaction.c: test_and_set_skip)
 */
export function test_and_set_skip(m: Machine, cc: CompactControl, pfn: pfn_t): boolean {
  if (cc.ignore_skip_hint || !pageblock_aligned(m, pfn)) return false;
  const skip = get_pageblock_skip(m, cc.zone, pfn);
  if (!skip) set_pageblock_skip(m, cc.zone, pfn);
  return skip;
}

/** The next run need not look before the end of this pageblock (compaction.c). */
export function update_cached_migrate(m: Machine, cc: CompactControl, pfn: pfn_t): void {
  const cached = cc.zone.compact_cached_migrate_pfn;
  pfn = pageblock_end_pfn(m, pfn);
  if (pfn > cached[0]!) cached[0] = pfn;
  if (cc.mode !== MIGRATE_ASYNC && pfn > cached[1]!) cached[1] = pfn;
}

/** The free scanner has seen the whole pageblock (compaction.c: update_pageblock_skip). */
export function update_pageblock_skip(m: Machine, cc: CompactControl, pfn: pfn_t): void {
  set_pageblock_skip(m, cc.zone, pfn);
  if (pfn < cc.zone.compact_cached_free_pfn) cc.zone.compact_cached_free_pfn = pfn;
}

/** Entries of free lists that a fast search looks at (compaction.c). */
export function freelist_scan_limit(cc: CompactControl): number {
  return (COMPACT_CLUSTER_MAX >> Math.min(31, cc.fast_search_fail)) + 1;
}

/** True when both scanners are in one pageblock, or past each other (compaction.c). */
export function compact_scanners_met(m: Machine, cc: CompactControl): boolean {
  const order = m.shape.pageblock_order;
  return cc.free_pfn >>> order <= cc.migrate_pfn >>> order;
}
