/**
 * The queue of huge pages that are no longer mapped in all their parts: a node splits them when it
 * needs the memory of the parts that nobody maps.
 *
 * A page is linked through the list field of its second tail page, so that it can be on an LRU list at
 * the same time. Below lru.ts, which takes a page off the queue when it is freed, and rmap.ts, which
 * puts it on when it loses a part. Linux: mm/huge_memory.c (deferred_split_huge_page,
 * free_transhuge_page), include/linux/huge_mm.h (page_deferred_list).
 */
import { list_add_tail, list_del } from '../lib/list.ts';
import { type Machine, type Pgdat, page_zone } from './mmzone.ts';
import { compound_head, type Memmap, PageSwapCache, type pfn_t } from './page.ts';
import { count_vm_event, THP_DEFERRED_SPLIT_PAGE } from './vmstat.ts';

/** The row of a huge page's link (huge_mm.h). */
export const page_deferred_list = (head: pfn_t): number => head + 2;
/** The huge page of such a row. */
export const page_of_deferred_list = (p: Memmap, row: number): pfn_t => compound_head(p, row);

/** The head row of a node's queue. */
export function split_queue(m: Machine, pgdat: Pgdat): number {
  if (pgdat.split_queue === 0) pgdat.split_queue = m.list_heads.take_for_good();
  return pgdat.split_queue;
}

/** Queues a huge page that is mapped in parts, unless reclaim has it already. */
export function deferred_split_huge_page(m: Machine, head: pfn_t): void {
  const p = m.memmap;
  const row = page_deferred_list(head);
  if (PageSwapCache(p, head) || p.next[row] !== 0) return;
  count_vm_event(m, THP_DEFERRED_SPLIT_PAGE);
  const pgdat = m.nodes[page_zone(m, head).nid]!;
  list_add_tail(p, row, split_queue(m, pgdat));
  pgdat.split_queue_len++;
}

/** Takes a huge page that is split or freed off its queue, if it is on one. */
export function undo_deferred_split(m: Machine, head: pfn_t): void {
  const row = page_deferred_list(head);
  if (m.memmap.next[row] === 0) return;
  list_del(m.memmap, row);
  m.nodes[page_zone(m, head).nid]!.split_queue_len--;
}
