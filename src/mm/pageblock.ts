/**
 * The migrate type of each pageblock. Linux: include/linux/pageblock-flags.h, page_alloc.c
 * (get_pageblock_flags_group). One byte a block here, four bits of it used (Linux: packed bits).
 */
import { MIGRATE_UNMOVABLE } from './gfp.ts';
import { type Machine, type Zone, zone_end_pfn } from './mmzone.ts';
import type { pfn_t } from './page.ts';

export function get_pageblock_migratetype(m: Machine, zone: Zone, pfn: pfn_t): number {
  return zone.pageblock_flags[(pfn - zone.pageblock_base) >>> m.shape.pageblock_order]!;
}

/** While grouping by mobility is disabled every block is stored as UNMOVABLE. */
export function set_pageblock_migratetype(m: Machine, zone: Zone, pfn: pfn_t, type: number): void {
  if (m.page_group_by_mobility_disabled) type = MIGRATE_UNMOVABLE;
  zone.pageblock_flags[(pfn - zone.pageblock_base) >>> m.shape.pageblock_order] = type;
}

/** Sets the type of every pageblock in [pfn, pfn + 2^order) (page_alloc.c: change_pageblock_range). */
export function change_pageblock_range(
  m: Machine,
  zone: Zone,
  pfn: pfn_t,
  order: number,
  type: number,
): void {
  const step = 1 << m.shape.pageblock_order;
  const end = Math.min(pfn + (1 << order), zone_end_pfn(zone));
  for (; pfn < end; pfn += step) set_pageblock_migratetype(m, zone, pfn, type);
}
