/**
 * The page allocator, as far as kernels agree: what happens to a block that comes or goes.
 *
 * A block that is handed out gets its first reference and, if asked, zeroes and the marks of a
 * compound page; one that is freed must have no user left, and loses all of that. Which zones a
 * request may use, and what it counts as on NUMA machines, is here too. Whose block a request gets,
 * the per-CPU lists and what is done when there is none are in the kernels' own rmqueue.ts and
 * page_alloc.ts; the lists of free blocks are in buddy.ts.
 * Linux: mm/page_alloc.c, include/linux/gfp.h.
 */
import { BUG_ON } from '../lib/bug.ts';
import {
  __GFP_COMP,
  __GFP_THISNODE,
  __GFP_ZERO,
  allocflags_to_migratetype,
  MIGRATE_UNMOVABLE,
} from './gfp.ts';
import { type Machine, numa_node_id, type Zone } from './mmzone.ts';
import { type Memmap, type nid_t, type order_t, PAGE_MAPPING_ANON, type pfn_t } from './page.ts';
import { PAGE_FLAGS_CHECK_AT_FREE, PG_head, PG_tail } from './page_flags.ts';
import { NUMA_FOREIGN, NUMA_HIT, NUMA_LOCAL, NUMA_MISS, NUMA_OTHER } from './vmstat.ts';

/** The first zone of the list that a mask may use; undefined when there is none. */
export function first_zones_zonelist(
  zonelist: readonly Zone[],
  high_zoneidx: number,
): Zone | undefined {
  for (let i = 0; i < zonelist.length; i++) {
    if (zonelist[i]!.zone_idx <= high_zoneidx) return zonelist[i];
  }
  return undefined;
}

/** The lists that a request is served from first. */
export const gfp_migratetype = (m: Machine, gfp: number): number =>
  m.page_group_by_mobility_disabled ? MIGRATE_UNMOVABLE : allocflags_to_migratetype(gfp);

/** Where a request goes that prefers node `nid`, the current CPU's when negative (gfp.h). */
export function node_zonelist(m: Machine, gfp: number, nid: nid_t): readonly Zone[] {
  const node = m.nodes[nid < 0 ? numa_node_id(m) : nid]!;
  const thisnode = m.shape.numa && (gfp & __GFP_THISNODE) !== 0;
  return node.node_zonelists[thisnode ? 1 : 0]!;
}

/** Checks and readies a block that is being handed out (page_alloc.c: prep_new_page). */
export function prep_new_page(m: Machine, pfn: pfn_t, order: order_t, gfp: number): void {
  const p = m.memmap;
  const end = pfn + (1 << order);
  for (let i = pfn; i < end; i++) {
    BUG_ON(
      p._count[i] !== 0 || p._mapcount[i] !== 0 || p.mapping[i] !== 0 || p.flags[i] !== 0,
      'prep_new_page: a bad page is on the free lists',
    );
  }
  p.private_[pfn] = 0;
  p._count[pfn] = 1;
  if ((gfp & __GFP_ZERO) !== 0) {
    for (let i = pfn; i < end; i++) m.contents.zero_page(i);
  }
  if (order > 0 && (gfp & __GFP_COMP) !== 0) prep_compound_page(p, pfn, order);
}

/** Marks a block as one page of many frames (page_alloc.c). */
export function prep_compound_page(p: Memmap, pfn: pfn_t, order: order_t): void {
  p.flags[pfn]! |= PG_head;
  p.private_[pfn + 1] = order;
  for (let i = pfn + 1; i < pfn + (1 << order); i++) {
    p.flags[i]! |= PG_tail;
    p.index[i] = pfn;
  }
}

function destroy_compound_page(p: Memmap, pfn: pfn_t, order: order_t): void {
  BUG_ON(p.private_[pfn + 1] !== order, 'destroy_compound_page: freed at another order');
  p.flags[pfn]! &= ~PG_head;
  p.private_[pfn + 1] = 0;
  for (let i = pfn + 1; i < pfn + (1 << order); i++) p.flags[i]! &= ~PG_tail;
}

/** Takes a block out of service: checks and clears its state (page_alloc.c: free_pages_prepare). */
export function free_pages_prepare(m: Machine, pfn: pfn_t, order: order_t): void {
  const p = m.memmap;
  if (m.trace.mm_page_free_direct.enabled) m.trace.mm_page_free_direct.emit(pfn, order);
  if ((p.flags[pfn]! & PG_head) !== 0) destroy_compound_page(p, pfn, order);
  if ((p.mapping[pfn]! & PAGE_MAPPING_ANON) !== 0) p.mapping[pfn] = 0;
  const end = pfn + (1 << order);
  for (let i = pfn; i < end; i++) {
    BUG_ON((p.flags[i]! & PAGE_FLAGS_CHECK_AT_FREE) !== 0, 'free_pages_check: a bad page is freed');
    BUG_ON(
      p._count[i] !== 0 || p._mapcount[i] !== 0 || p.mapping[i] !== 0,
      'free_pages_check: a page in use is freed',
    );
    p.flags[i] = 0;
  }
  p.private_[pfn] = 0;
}

/** vmstat.c: zone_statistics. */
export function zone_statistics(m: Machine, preferred_zone: Zone, zone: Zone): void {
  if (zone.nid === preferred_zone.nid) {
    zone.vm_stat[NUMA_HIT]!++;
  } else {
    zone.vm_stat[NUMA_MISS]!++;
    preferred_zone.vm_stat[NUMA_FOREIGN]!++;
  }
  if (zone.nid === numa_node_id(m)) zone.vm_stat[NUMA_LOCAL]!++;
  else zone.vm_stat[NUMA_OTHER]!++;
}

/** The lists of all CPUs back to the buddy lists (page_alloc.c). */
export function drain_all_pages(m: Machine): void {
  for (let cpu = 0; cpu < m.shape.nr_cpus; cpu++) m.kernel.drain_pages(m, cpu);
}
