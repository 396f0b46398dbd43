/**
 * The LRU lists, the per-CPU vectors in front of them, and dropping page references.
 *
 * New pages wait in a vector of 14 per CPU and list; while there they have no PG_lru, hold one more
 * reference, and nobody can isolate them. A full vector puts all its pages on the list heads, then
 * drops its references; pages that lose their last one go straight back to the allocator, together,
 * last first. The page whose addition fills the vector still has its adder's reference then, so it
 * is freed after the others, alone.
 * Linux: mm/swap.c, include/linux/mm_inline.h, mm/vmscan.c (isolate_lru_page, putback_lru_page);
 * called lru.ts because "swap" would mislead.
 */
import { BUG_ON } from '../lib/bug.ts';
import { EBUSY, EINVAL } from '../lib/errno.ts';
import { list_add, list_add_tail, list_del } from '../lib/list.ts';
import { AS_UNEVICTABLE } from './address_space.ts';
import { undo_deferred_split } from './deferred_split.ts';
import {
  LRU_ACTIVE_ANON,
  LRU_ACTIVE_FILE,
  LRU_INACTIVE_ANON,
  LRU_INACTIVE_FILE,
  LRU_UNEVICTABLE,
  type Machine,
  NR_LRU_LISTS,
  PAGEVEC_SIZE,
  type Pagevec,
  page_zone,
  type Zone,
} from './mmzone.ts';
import {
  compound_head,
  compound_nr,
  get_page_unless_zero,
  type Memmap,
  PAGE_MAPPING_FLAGS,
  PageActive,
  PageDirty,
  PageHead,
  PageLocked,
  PageLRU,
  PageMlocked,
  PageReferenced,
  PageUnevictable,
  page_is_file_cache,
  type pfn_t,
  put_page_testzero,
  TestClearPageFlag,
} from './page.ts';
import {
  PG_active,
  PG_head,
  PG_lru,
  PG_referenced,
  PG_tail,
  PG_unevictable,
} from './page_flags.ts';
import {
  count_vm_event,
  count_vm_events,
  NR_LRU_BASE,
  PGACTIVATE,
  PGROTATED,
  UNEVICTABLE_PGCULLED,
  UNEVICTABLE_PGRESCUED,
} from './vmstat.ts';

export const ISOLATE_INACTIVE = 0;
export const ISOLATE_ACTIVE = 1;
export const ISOLATE_BOTH = 2;

export const is_active_lru = (lru: number): boolean =>
  lru === LRU_ACTIVE_ANON || lru === LRU_ACTIVE_FILE;
export const is_file_lru = (lru: number): boolean =>
  lru === LRU_INACTIVE_FILE || lru === LRU_ACTIVE_FILE;

/** The inactive list of the page's kind (mm_inline.h: page_lru_base_type). */
export function page_lru_base_type(p: Memmap, pfn: pfn_t): number {
  return page_is_file_cache(p, pfn) ? LRU_INACTIVE_FILE : LRU_INACTIVE_ANON;
}

/** The list that the page's flags name (mm_inline.h: page_lru). */
export function page_lru(p: Memmap, pfn: pfn_t): number {
  if (PageUnevictable(p, pfn)) return LRU_UNEVICTABLE;
  return page_lru_base_type(p, pfn) + (PageActive(p, pfn) ? 1 : 0);
}

export function add_page_to_lru_list(m: Machine, zone: Zone, pfn: pfn_t, lru: number): void {
  list_add(m.memmap, pfn, zone.lru + lru);
  zone.vm_stat[NR_LRU_BASE + lru]! += compound_nr(m.memmap, pfn);
}

export function del_page_from_lru_list(m: Machine, zone: Zone, pfn: pfn_t, lru: number): void {
  list_del(m.memmap, pfn);
  zone.vm_stat[NR_LRU_BASE + lru]! -= compound_nr(m.memmap, pfn);
}

/** Takes the page off the list that its flags name, and clears those flags (mm_inline.h). */
function del_page_from_lru(m: Machine, zone: Zone, pfn: pfn_t): void {
  const p = m.memmap;
  del_page_from_lru_list(m, zone, pfn, page_lru(p, pfn));
  p.flags[pfn]! &= ~(PG_unevictable | PG_active);
}

function update_page_reclaim_stat(zone: Zone, file: boolean, rotated: boolean): void {
  const i = file ? 1 : 0;
  zone.recent_scanned[i]!++;
  if (rotated) zone.recent_rotated[i]!++;
}

/** Puts the vector's pages on the list, then drops the vector's references (____pagevec_lru_add). */
function ____pagevec_lru_add(m: Machine, pvec: Pagevec, lru: number): void {
  const p = m.memmap;
  const active = is_active_lru(lru);
  const file = is_file_lru(lru);
  const set = PG_lru | (active ? PG_active : 0);
  for (let i = 0; i < pvec.nr; i++) {
    const pfn = pvec.pages[i]!;
    const zone = page_zone(m, pfn);
    BUG_ON(
      (p.flags[pfn]! & (PG_lru | PG_active | PG_unevictable)) !== 0,
      'pagevec_lru_add: the page is on a list already',
    );
    p.flags[pfn]! |= set;
    update_page_reclaim_stat(zone, file, active);
    add_page_to_lru_list(m, zone, pfn, lru);
  }
  const nr = pvec.nr;
  pvec.nr = 0;
  release_pages(m, pvec.pages, nr, false);
}

/** Takes a reference and queues the page for a list (swap.c: __lru_cache_add). */
export function __lru_cache_add(m: Machine, pfn: pfn_t, lru: number): void {
  const pvec = m.lru_add_pvecs[m.this_cpu]![lru]!;
  m.memmap._count[pfn]!++;
  pvec.pages[pvec.nr++] = pfn;
  // A huge page does not wait: the vector's reference would keep it from being split.
  if (pvec.nr === PAGEVEC_SIZE || PageHead(m.memmap, pfn)) ____pagevec_lru_add(m, pvec, lru);
}

/** swap.c: lru_cache_add_lru. PG_active and PG_unevictable are decided by the list alone. */
export function lru_cache_add_lru(m: Machine, pfn: pfn_t, lru: number): void {
  m.memmap.flags[pfn]! &= ~(PG_active | PG_unevictable);
  BUG_ON(PageLRU(m.memmap, pfn), 'lru_cache_add_lru: the page is on a list already');
  __lru_cache_add(m, pfn, lru);
}

export function lru_cache_add_file(m: Machine, pfn: pfn_t): void {
  __lru_cache_add(m, pfn, LRU_INACTIVE_FILE);
}

export function lru_cache_add_anon(m: Machine, pfn: pfn_t): void {
  __lru_cache_add(m, pfn, LRU_INACTIVE_ANON);
}

/** Straight to the unevictable list, past the vectors (swap.c). */
export function add_page_to_unevictable_list(m: Machine, pfn: pfn_t): void {
  m.memmap.flags[pfn]! |= PG_unevictable | PG_lru;
  add_page_to_lru_list(m, page_zone(m, pfn), pfn, LRU_UNEVICTABLE);
}

/** Moves the vector's pages to the tails of their inactive lists (swap.c: pagevec_move_tail). */
function pagevec_move_tail(m: Machine, pvec: Pagevec): void {
  const p = m.memmap;
  for (let i = 0; i < pvec.nr; i++) {
    const pfn = pvec.pages[i]!;
    if ((p.flags[pfn]! & (PG_lru | PG_active | PG_unevictable)) !== PG_lru) continue;
    list_del(p, pfn);
    list_add_tail(p, pfn, page_zone(m, pfn).lru + page_lru_base_type(p, pfn));
    count_vm_events(m, PGROTATED, compound_nr(p, pfn));
  }
  const nr = pvec.nr;
  pvec.nr = 0;
  release_pages(m, pvec.pages, nr, false);
}

/** Write-back for reclaim is done: the page goes to the tail, to be reclaimed next (swap.c). */
export function rotate_reclaimable_page(m: Machine, pfn: pfn_t): void {
  const p = m.memmap;
  if (PageLocked(p, pfn) || PageDirty(p, pfn) || PageUnevictable(p, pfn) || !PageLRU(p, pfn)) {
    return;
  }
  const pvec = m.lru_rotate_pvecs[m.this_cpu]!;
  p._count[pfn]!++;
  pvec.pages[pvec.nr++] = pfn;
  if (pvec.nr === PAGEVEC_SIZE) pagevec_move_tail(m, pvec);
}

function drain_cpu_pagevecs(m: Machine, cpu: number): void {
  const pvecs = m.lru_add_pvecs[cpu]!;
  for (let lru = 0; lru < NR_LRU_LISTS; lru++) {
    if (pvecs[lru]!.nr > 0) ____pagevec_lru_add(m, pvecs[lru]!, lru);
  }
  const rotate = m.lru_rotate_pvecs[cpu]!;
  if (rotate.nr > 0) pagevec_move_tail(m, rotate);
}

/** Empties this CPU's vectors. */
export function lru_add_drain(m: Machine): void {
  drain_cpu_pagevecs(m, m.this_cpu);
}

/** Empties every CPU's vectors, each on its own CPU: what they free goes to that CPU's lists. */
export function lru_add_drain_all(m: Machine): void {
  const cpu = m.this_cpu;
  for (m.this_cpu = 0; m.this_cpu < m.shape.nr_cpus; m.this_cpu++) {
    drain_cpu_pagevecs(m, m.this_cpu);
    if (m.kernel.lru_drain_bh_lrus) m.buffer_heads.invalidate_bh_lru(m.this_cpu);
  }
  m.this_cpu = cpu;
}

/** Moves an inactive page to the head of its active list (swap.c: activate_page). */
export function activate_page(m: Machine, pfn: pfn_t): void {
  const p = m.memmap;
  if ((p.flags[pfn]! & (PG_lru | PG_active | PG_unevictable)) !== PG_lru) return;
  const zone = page_zone(m, pfn);
  const lru = page_lru_base_type(p, pfn);
  del_page_from_lru_list(m, zone, pfn, lru);
  p.flags[pfn]! |= PG_active;
  add_page_to_lru_list(m, zone, pfn, lru + 1);
  count_vm_events(m, PGACTIVATE, compound_nr(p, pfn));
  update_page_reclaim_stat(zone, is_file_lru(lru), true);
}

/** A use: first marks the page referenced, the second one activates it (swap.c). */
export function mark_page_accessed(m: Machine, pfn: pfn_t): void {
  const p = m.memmap;
  if (!PageReferenced(p, pfn)) {
    p.flags[pfn]! |= PG_referenced;
  } else if (!PageActive(p, pfn) && !PageUnevictable(p, pfn) && PageLRU(p, pfn)) {
    activate_page(m, pfn);
    p.flags[pfn]! &= ~PG_referenced;
  }
}

/** Frees the vector's pages, last first (page_alloc.c: __pagevec_free). */
export function __pagevec_free(m: Machine, pvec: Pagevec, cold: boolean): void {
  const trace = m.trace.mm_pagevec_free;
  for (let i = pvec.nr - 1; i >= 0; i--) {
    if (trace.enabled) trace.emit(pvec.pages[i]!, 0, cold ? 1 : 0);
    m.kernel.free_hot_cold_page(m, pvec.pages[i]!, cold);
  }
  pvec.nr = 0;
}

/** Drops a reference to each page; those without another are freed together (swap.c). */
export function release_pages(m: Machine, pages: Int32Array, nr: number, cold: boolean): void {
  const p = m.memmap;
  const to_free = m.free_pvec;
  BUG_ON(to_free.nr !== 0, 'release_pages: called from itself');
  for (let i = 0; i < nr; i++) {
    const pfn = pages[i]!;
    if ((p.flags[pfn]! & (PG_head | PG_tail)) !== 0) {
      put_page(m, pfn);
      continue;
    }
    if (!put_page_testzero(p, pfn)) continue;
    if ((p.flags[pfn]! & PG_lru) !== 0) {
      p.flags[pfn]! &= ~PG_lru;
      del_page_from_lru(m, page_zone(m, pfn), pfn);
    }
    to_free.pages[to_free.nr++] = pfn;
    if (to_free.nr === PAGEVEC_SIZE) __pagevec_free(m, to_free, cold);
  }
  if (to_free.nr > 0) __pagevec_free(m, to_free, cold);
}

/** Frees a compound block whose last reference went (swap.c: __put_compound_page). */
function __put_compound_page(m: Machine, head: pfn_t): void {
  const p = m.memmap;
  const order = p.private_[head + 1]!;
  if ((p.flags[head]! & PG_lru) !== 0) {
    p.flags[head]! &= ~PG_lru;
    del_page_from_lru(m, page_zone(m, head), head);
  }
  // free_transhuge_page; a block of two pages has no room for the link.
  if (order > 1) undo_deferred_split(m, head);
  m.kernel.__free_pages_ok(m, head, order);
}

/** Drops a reference; the last one frees the page, or the whole compound block (swap.c). */
export function put_page(m: Machine, pfn: pfn_t): void {
  const p = m.memmap;
  if ((p.flags[pfn]! & (PG_head | PG_tail)) !== 0) {
    const head = compound_head(p, pfn);
    if (put_page_testzero(p, head)) __put_compound_page(m, head);
    return;
  }
  if (!put_page_testzero(p, pfn)) return;
  if ((p.flags[pfn]! & PG_lru) !== 0) {
    p.flags[pfn]! &= ~PG_lru;
    del_page_from_lru(m, page_zone(m, pfn), pfn);
  }
  m.kernel.free_hot_cold_page(m, pfn, false);
}

/**
 * Makes a page that is on an LRU list the caller's: takes a reference and clears PG_lru. The caller
 * unlinks it and accounts. 0, -EINVAL (not of the kind asked for), -EBUSY (being freed).
 * (vmscan.c: __isolate_lru_page; with ISOLATE_BOTH the `file` argument is not looked at)
 */
export function __isolate_lru_page(m: Machine, pfn: pfn_t, mode: number, file: boolean): number {
  const p = m.memmap;
  if (!PageLRU(p, pfn)) return -EINVAL;
  if (mode !== ISOLATE_BOTH) {
    if (PageActive(p, pfn) !== (mode === ISOLATE_ACTIVE)) return -EINVAL;
    if (page_is_file_cache(p, pfn) !== file) return -EINVAL;
  }
  if (PageUnevictable(p, pfn)) return -EINVAL;
  if (!get_page_unless_zero(p, pfn)) return -EBUSY;
  p.flags[pfn]! &= ~PG_lru;
  return 0;
}

/** Takes one page off its list, unevictable ones too, with a reference. 0 or -EBUSY (vmscan.c). */
export function isolate_lru_page(m: Machine, pfn: pfn_t): number {
  const p = m.memmap;
  if (!PageLRU(p, pfn) || !get_page_unless_zero(p, pfn)) return -EBUSY;
  const lru = page_lru(p, pfn);
  p.flags[pfn]! &= ~PG_lru;
  del_page_from_lru_list(m, page_zone(m, pfn), pfn, lru);
  return 0;
}

/** False for pages that reclaim must leave alone: mlocked, or of an unevictable mapping (vmscan.c). */
export function page_evictable(m: Machine, pfn: pfn_t): boolean {
  const p = m.memmap;
  if (PageMlocked(p, pfn)) return false;
  const mapping = p.mapping[pfn]!;
  if (mapping === 0 || (mapping & PAGE_MAPPING_FLAGS) !== 0) return true;
  return (m.mappings.get(mapping >>> 2).flags & AS_UNEVICTABLE) === 0;
}

/** Gives an isolated page back to the list it belongs on, and drops the isolation's reference. */
export function putback_lru_page(m: Machine, pfn: pfn_t): void {
  const p = m.memmap;
  BUG_ON(PageLRU(p, pfn), 'putback_lru_page: the page is on a list');
  const active = TestClearPageFlag(p, pfn, PG_active);
  const was_unevictable = TestClearPageFlag(p, pfn, PG_unevictable);
  if (page_evictable(m, pfn)) {
    __lru_cache_add(m, pfn, page_lru_base_type(p, pfn) + (active ? 1 : 0));
    if (was_unevictable) count_vm_event(m, UNEVICTABLE_PGRESCUED);
  } else {
    add_page_to_unevictable_list(m, pfn);
    if (!was_unevictable) count_vm_event(m, UNEVICTABLE_PGCULLED);
  }
  put_page(m, pfn);
}
