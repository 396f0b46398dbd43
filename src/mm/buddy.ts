/**
 * The buddy lists: taking, splitting, merging and moving free blocks.
 *
 * Each zone has one list per order and migrate type, and one counter of blocks per order. A free
 * block is its first frame: PG_buddy, its order in private_, count 0. Blocks merge with their buddy
 * (the pfn with bit `order` flipped) whatever the types. Which list a request may fall back to and
 * what it then steals is the kernel's business (kernels/<name>/page_alloc.ts).
 * Linux: mm/page_alloc.c (__rmqueue_smallest, expand, __free_one_page, move_freepages). None of
 * these functions touches NR_FREE_PAGES: callers account, as in Linux.
 */
import { BUG_ON } from '../lib/bug.ts';
import { list_add, list_add_tail, list_del } from '../lib/list.ts';
import { MIGRATE_TYPES } from './gfp.ts';
import { type Machine, type Zone, zone_end_pfn } from './mmzone.ts';
import type { Memmap, order_t, pfn_t } from './page.ts';
import { PG_buddy } from './page_flags.ts';

/** The head row of the list of `order` and `type`. */
export function free_list_head(zone: Zone, order: order_t, type: number): number {
  return zone.free_list + order * MIGRATE_TYPES + type;
}

function set_page_order(p: Memmap, pfn: pfn_t, order: order_t): void {
  p.private_[pfn] = order;
  p.flags[pfn]! |= PG_buddy;
}

export function rmv_page_order(p: Memmap, pfn: pfn_t): void {
  p.flags[pfn]! &= ~PG_buddy;
  p.private_[pfn] = 0;
}

/** Takes the free block at pfn off its list and out of nr_free (its order is read from it). */
export function del_page_from_free_list(m: Machine, zone: Zone, pfn: pfn_t): void {
  const p = m.memmap;
  zone.nr_free[p.private_[pfn]!]!--;
  list_del(p, pfn);
  rmv_page_order(p, pfn);
}

/** Makes [pfn, pfn + 2^order) a free block at the front, or the end, of the list of `type`. */
export function add_to_free_list(
  m: Machine,
  zone: Zone,
  pfn: pfn_t,
  order: order_t,
  type: number,
  tail = false,
): void {
  const p = m.memmap;
  set_page_order(p, pfn, order);
  const head = zone.free_list + order * MIGRATE_TYPES + type;
  if (tail) list_add_tail(p, pfn, head);
  else list_add(p, pfn, head);
  zone.nr_free[order]!++;
}

/**
 * Splits a block of order `high` down to `low`: the upper half of each step becomes a free block
 * at the head of its list; the lowest frames stay with the caller. (page_alloc.c: expand)
 */
export function expand(
  m: Machine,
  zone: Zone,
  pfn: pfn_t,
  low: order_t,
  high: order_t,
  type: number,
): void {
  const p = m.memmap;
  while (high > low) {
    high--;
    const half = pfn + (1 << high);
    p.private_[half] = high;
    p.flags[half]! |= PG_buddy;
    list_add(p, half, zone.free_list + high * MIGRATE_TYPES + type);
    zone.nr_free[high]!++;
  }
}

/**
 * The head of the first list of this type that can serve the order, split down to it; -1 when the
 * type has nothing of that size. (page_alloc.c: __rmqueue_smallest)
 */
export function __rmqueue_smallest(
  m: Machine,
  zone: Zone,
  order: order_t,
  type: number,
): pfn_t | -1 {
  const p = m.memmap;
  const max_order = zone.nr_free.length;
  for (let current = order; current < max_order; current++) {
    const head = zone.free_list + current * MIGRATE_TYPES + type;
    const pfn = p.next[head]!;
    if (pfn === head) continue;
    list_del(p, pfn);
    p.flags[pfn]! &= ~PG_buddy;
    p.private_[pfn] = 0;
    zone.nr_free[current]!--;
    if (current > order) expand(m, zone, pfn, order, current, type);
    return pfn;
  }
  return -1;
}

/** True when `buddy` is a free block of exactly this order in the zone (page_is_buddy). */
export function page_is_buddy(p: Memmap, zone: Zone, buddy: pfn_t, order: order_t): boolean {
  return (
    (p.flags[buddy]! & PG_buddy) !== 0 &&
    p.private_[buddy] === order &&
    buddy >= zone.zone_start_pfn &&
    buddy < zone.zone_start_pfn + zone.spanned_pages
  );
}

/**
 * Frees a block: merges it with its buddies as far as they are free, then puts the result on the
 * list of `type`. It goes to the tail when its parent's buddy is free as a whole, because then the
 * next merge is likely and the block had better not be handed out. (page_alloc.c: __free_one_page)
 *
 * Preconditions: pfn is aligned to 2^order, count 0, not PG_buddy, on no list.
 */
export function __free_one_page(
  m: Machine,
  zone: Zone,
  pfn: pfn_t,
  order: order_t,
  type: number,
): void {
  const p = m.memmap;
  const { flags, private_ } = p;
  const nr_free = zone.nr_free;
  const top = nr_free.length - 1;
  BUG_ON((pfn & ((1 << order) - 1)) !== 0, '__free_one_page: the block is not aligned');
  BUG_ON((flags[pfn]! & PG_buddy) !== 0, '__free_one_page: the block is free already');
  while (order < top) {
    const buddy = pfn ^ (1 << order);
    if (!page_is_buddy(p, zone, buddy, order)) break;
    list_del(p, buddy);
    nr_free[order]!--;
    flags[buddy]! &= ~PG_buddy;
    private_[buddy] = 0;
    pfn &= ~(1 << order);
    order++;
  }
  private_[pfn] = order;
  flags[pfn]! |= PG_buddy;
  const head = zone.free_list + order * MIGRATE_TYPES + type;
  if (order <= top - m.kernel.tail_insert_margin) {
    const parent = pfn & ~(1 << order);
    if (page_is_buddy(p, zone, parent ^ (1 << (order + 1)), order + 1)) {
      list_add_tail(p, pfn, head);
      nr_free[order]!++;
      return;
    }
  }
  list_add(p, pfn, head);
  nr_free[order]!++;
}

/**
 * Moves every free block in [start, end] to the list of `type`, at the head, or at the tail when
 * asked; returns the number of pages moved. (page_alloc.c: move_freepages)
 */
export function move_freepages(
  m: Machine,
  zone: Zone,
  start: pfn_t,
  end: pfn_t,
  type: number,
  tail: boolean,
): number {
  const p = m.memmap;
  let moved = 0;
  for (let pfn = start; pfn <= end; ) {
    if ((p.flags[pfn]! & PG_buddy) === 0) {
      pfn++;
      continue;
    }
    const order = p.private_[pfn]!;
    const head = zone.free_list + order * MIGRATE_TYPES + type;
    list_del(p, pfn);
    if (tail) list_add_tail(p, pfn, head);
    else list_add(p, pfn, head);
    moved += 1 << order;
    pfn += 1 << order;
  }
  return moved;
}

/**
 * Moves the free blocks of the pageblock that holds pfn to the list of `type`. A block that starts
 * before the zone is taken from `pfn` on; one that reaches past the zone's last frame is left
 * alone and 0 returned. (page_alloc.c: move_freepages_block)
 */
export function move_freepages_block(
  m: Machine,
  zone: Zone,
  pfn: pfn_t,
  type: number,
  tail = false,
): number {
  const block = 1 << m.shape.pageblock_order;
  let start = pfn - (pfn % block);
  const end = start + block - 1;
  if (start < zone.zone_start_pfn) start = pfn;
  if (end >= zone_end_pfn(zone)) return 0;
  return move_freepages(m, zone, start, end, type, tail);
}
