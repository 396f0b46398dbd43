/**
 * Checks of lists: links agree in both directions, and no page is on two lists.
 *
 * 1. Free blocks are on the list of their order, aligned, unused, disjoint, not mergeable; nr_free and
 *    NR_FREE_PAGES; per-CPU lists and their counts.
 * 2. LRU lists against flags and counters; pages in vectors are on no list. What is linked and on no
 *    known list is isolated, and the isolated counters say how many.
 * 3. Every frame is free, in use, reserved, or inside a block whose head is in use.
 */
import {
  bad,
  type DebugState,
  FREE,
  LINKED,
  LRU,
  PCP,
  same,
  UNKNOWN,
  walk,
} from './debug_state.ts';
import { MIGRATE_PCPTYPES, MIGRATE_TYPES } from './gfp.ts';
import {
  type Machine,
  NR_LRU_LISTS,
  page_zone,
  pfn_valid,
  type Zone,
  zone_end_pfn,
} from './mmzone.ts';
import { PAGE_MAPPING_ANON, type pfn_t } from './page.ts';
import {
  PG_active,
  PG_buddy,
  PG_head,
  PG_lru,
  PG_private,
  PG_reserved,
  PG_slab,
  PG_swapbacked,
  PG_swapcache,
  PG_tail,
  PG_unevictable,
} from './page_flags.ts';
import { NR_FREE_PAGES, NR_ISOLATED_ANON, NR_ISOLATED_FILE, NR_LRU_BASE } from './vmstat.ts';

export function check_free_lists(m: Machine, d: DebugState): void {
  const p = m.memmap;
  for (const zone of m.populated_zones) {
    let pages = 0;
    for (let order = 0; order < m.shape.max_order; order++) {
      let blocks = 0;
      for (let type = 0; type < MIGRATE_TYPES; type++) {
        const head = zone.free_list + order * MIGRATE_TYPES + type;
        blocks += walk(m, d, head, FREE, zone);
        for (let pfn = p.next[head]!; pfn !== head; pfn = p.next[pfn]!) {
          check_free_block(m, d, zone, pfn, order);
        }
      }
      same(m, `zone ${zone.id}: nr_free[${order}]`, zone.nr_free[order]!, blocks);
      pages += blocks * 2 ** order;
    }
    same(m, `zone ${zone.id}: NR_FREE_PAGES`, zone.vm_stat[NR_FREE_PAGES]!, pages);
    let unfolded = 0;
    for (const diff of zone.nr_free_diff) {
      unfolded += diff;
      if (Math.abs(diff) > zone.stat_threshold)
        bad(m, `zone ${zone.id}: a CPU keeps ${diff} pages`);
    }
    same(m, `zone ${zone.id}: nr_free_unfolded`, zone.nr_free_unfolded, unfolded);
  }
  // A second pass, now that all heads are known: insides and buddies.
  for (const zone of m.populated_zones) {
    const end = zone_end_pfn(zone);
    for (let pfn = zone.zone_start_pfn; pfn < end; pfn++) {
      if ((p.flags[pfn]! & PG_buddy) === 0) continue;
      if (d.place[pfn] !== FREE) bad(m, 'PG_buddy and on no free list', pfn);
      const order = p.private_[pfn]!;
      const buddy = pfn ^ (2 ** order);
      if (
        order < m.shape.max_order - 1 &&
        buddy >= zone.zone_start_pfn &&
        buddy < end &&
        (p.flags[buddy]! & PG_buddy) !== 0 &&
        p.private_[buddy] === order &&
        !(m.kernel.pageblocks_stay_apart && order >= m.shape.pageblock_order)
      ) {
        bad(m, 'two buddies are free and not merged', pfn);
      }
      for (let i = pfn + 1; i < pfn + 2 ** order; i++) {
        if (d.place[i] !== UNKNOWN) bad(m, 'a page inside a free block is on a list', i);
        if ((p.flags[i]! & PG_buddy) !== 0) bad(m, 'free blocks overlap', i);
        if (p._count[i] !== 0) bad(m, 'a page inside a free block is in use', i);
        d.place[i] = FREE;
      }
      pfn += 2 ** order - 1;
    }
  }
}

function check_free_block(m: Machine, _d: DebugState, zone: Zone, pfn: pfn_t, order: number): void {
  const p = m.memmap;
  if (p.flags[pfn] !== PG_buddy) bad(m, 'a free block has other flags than PG_buddy', pfn);
  if (p.private_[pfn] !== order) bad(m, `on the free list of order ${order}`, pfn);
  if (pfn % 2 ** order !== 0) bad(m, 'a free block is not aligned', pfn);
  if (p._count[pfn] !== 0 || p._mapcount[pfn] !== 0 || p.mapping[pfn] !== 0) {
    bad(m, 'a free block is in use', pfn);
  }
  if (pfn + 2 ** order > zone_end_pfn(zone)) bad(m, 'a free block leaves its zone', pfn);
}

export function check_pcp_lists(m: Machine, d: DebugState): void {
  const p = m.memmap;
  for (const zone of m.populated_zones) {
    for (const pcp of zone.pageset) {
      let count = 0;
      for (let i = 0; i < pcp.nr_lists; i++) {
        const head = pcp.lists + i;
        const order = m.kernel.pcp_list_order?.(m, i) ?? 0;
        count += walk(m, d, head, PCP, zone) * 2 ** order;
        for (let pfn = p.next[head]!; pfn !== head; pfn = p.next[pfn]!) {
          for (let i = pfn; i < pfn + 2 ** order; i++) {
            if (p.flags[i] !== 0 || p._count[i] !== 0 || p.mapping[i] !== 0) {
              bad(m, 'a page on a per-CPU list is in use', i);
            }
            d.place[i] = PCP;
          }
          const type = p.private_[pfn]!;
          if (type < 0 || type >= MIGRATE_TYPES) bad(m, 'a per-CPU page has no type', pfn);
          // RESERVE pages lie on the MOVABLE list.
          const list = Math.min(type, MIGRATE_PCPTYPES - 1);
          if (pcp.nr_lists === MIGRATE_PCPTYPES && list !== i) {
            bad(m, `on the per-CPU list of type ${i}`, pfn);
          }
        }
      }
      same(m, `zone ${zone.id}: pcp count`, pcp.count, count);
    }
  }
}

/** The list that the flags name: recomputed here, not asked of lru.ts. */
function lru_of_flags(flags: number): number {
  if ((flags & PG_unevictable) !== 0) return 4;
  return ((flags & PG_swapbacked) !== 0 ? 0 : 2) + ((flags & PG_active) !== 0 ? 1 : 0);
}

export function check_lru_lists(m: Machine, d: DebugState): void {
  const p = m.memmap;
  for (const zone of m.populated_zones) {
    for (let lru = 0; lru < NR_LRU_LISTS; lru++) {
      const head = zone.lru + lru;
      walk(m, d, head, LRU, zone);
      let count = 0;
      for (let pfn = p.next[head]!; pfn !== head; pfn = p.next[pfn]!) {
        const flags = p.flags[pfn]!;
        if ((flags & PG_lru) === 0) bad(m, `on LRU list ${lru} without PG_lru`, pfn);
        if (lru_of_flags(flags) !== lru) bad(m, `on LRU list ${lru} against its flags`, pfn);
        if (p._count[pfn]! <= 0) bad(m, 'a page without references is on an LRU list', pfn);
        if ((flags & (PG_slab | PG_reserved | PG_tail)) !== 0) bad(m, 'not an LRU page', pfn);
        count += pages_of(m, pfn);
      }
      same(m, `zone ${zone.id}: pages on LRU list ${lru}`, zone.vm_stat[NR_LRU_BASE + lru]!, count);
    }
  }
}

/** Pages that a head stands for. */
export function pages_of(m: Machine, pfn: pfn_t): number {
  return (m.memmap.flags[pfn]! & PG_head) !== 0 ? 2 ** m.memmap.private_[pfn + 1]! : 1;
}

/** Queues of huge pages that lost a part: linked through second tail pages, counted, mapped in parts. */
export function check_split_queues(m: Machine, d: DebugState): void {
  const p = m.memmap;
  for (const pgdat of m.nodes) {
    const head = pgdat.split_queue;
    const count = head === 0 ? 0 : walk(m, d, head, LINKED, null);
    same(m, `node ${pgdat.nid}: split_queue_len`, pgdat.split_queue_len, count);
    if (head === 0) continue;
    for (let row = p.next[head]!; row !== head; row = p.next[row]!) {
      const page = p.index[row]!;
      if ((p.flags[row]! & PG_tail) === 0 || row !== page + 2) bad(m, 'queued to be split', row);
      if (page_zone(m, page).nid !== pgdat.nid) bad(m, 'queued to be split elsewhere', page);
      if ((p.mapping[page]! & PAGE_MAPPING_ANON) === 0) bad(m, 'no huge page to be split', page);
    }
  }
}

export function check_vectors(m: Machine, d: DebugState): void {
  const p = m.memmap;
  for (const pvecs of m.lru_add_pvecs) {
    for (const pvec of pvecs) {
      for (let i = 0; i < pvec.nr; i++) {
        const pfn = pvec.pages[i]!;
        if ((p.flags[pfn]! & PG_lru) !== 0) bad(m, 'a page in a vector has PG_lru', pfn);
        if (d.place[pfn] !== UNKNOWN) bad(m, 'a page in a vector is on a list', pfn);
        if (d.in_vector[pfn] !== 0) bad(m, 'a page is in two vectors', pfn);
        d.in_vector[pfn] = 1;
      }
    }
  }
  // Pages to be rotated stay on their lists meanwhile.
  for (const pvec of m.lru_rotate_pvecs) {
    for (let i = 0; i < pvec.nr; i++) d.in_vector[pvec.pages[i]!]!++;
  }
  for (let pfn = 0; pfn < p.nr_pages; pfn++) {
    if (d.in_vector[pfn]! > p._count[pfn]!) bad(m, 'a vector holds no reference of its page', pfn);
    if ((p.flags[pfn]! & PG_lru) !== 0 && d.place[pfn] !== LRU) {
      bad(m, 'PG_lru and on no LRU list', pfn);
    }
  }
  same(m, 'pages left in free_pvec', m.free_pvec.nr, 0);
}

/** What is linked to none of the lists above is isolated from the LRU, or kept by compaction. */
export function check_other_links(m: Machine, d: DebugState): void {
  const p = m.memmap;
  for (const zone of m.populated_zones) {
    const isolated = [0, 0];
    const end = zone_end_pfn(zone);
    for (let pfn = zone.zone_start_pfn; pfn < end; pfn++) {
      if (p.next[pfn] === 0) {
        if (p.prev[pfn] !== 0) bad(m, 'half unlinked', pfn);
        continue;
      }
      if (d.place[pfn] !== UNKNOWN) continue;
      d.place[pfn] = LINKED;
      if (p._count[pfn]! <= 0) bad(m, 'on no known list and without a reference', pfn);
      if (p.prev[p.next[pfn]!] !== pfn || p.next[p.prev[pfn]!] !== pfn) {
        bad(m, 'links disagree', pfn);
      }
      const owned = p.mapping[pfn] !== 0 || (p.flags[pfn]! & (PG_swapcache | PG_private)) !== 0;
      if (owned) isolated[(p.flags[pfn]! & PG_swapbacked) !== 0 ? 0 : 1]! += pages_of(m, pfn);
    }
    same(m, `zone ${zone.id}: isolated anon`, zone.vm_stat[NR_ISOLATED_ANON]!, isolated[0]!);
    same(m, `zone ${zone.id}: isolated file`, zone.vm_stat[NR_ISOLATED_FILE]!, isolated[1]!);
  }
}

/** Free pages of the huge page pools: compound blocks without a reference. Checks the counters. */
function huge_page_pool(m: Machine): Set<pfn_t> {
  const p = m.memmap;
  const pool: Set<pfn_t> = new Set();
  for (const h of m.hstates) {
    let free = 0;
    h.hugepage_freelists.forEach((list, nid) => {
      for (const pfn of list) {
        if (p._count[pfn] !== 0) bad(m, 'a free huge page is in use', pfn);
        if ((p.flags[pfn]! & PG_head) === 0 || p.private_[pfn + 1] !== h.order) {
          bad(m, 'a huge page of another size', pfn);
        }
        if (page_zone(m, pfn).nid !== nid) bad(m, 'a huge page on another node', pfn);
        if (pool.has(pfn)) bad(m, 'a huge page is free twice', pfn);
        pool.add(pfn);
      }
      same(m, `node ${nid}: free huge pages`, h.free_huge_pages_node[nid]!, list.length);
      free += list.length;
    });
    const sum = (column: Int32Array): number => column.reduce((a, b) => a + b, 0);
    same(m, 'free huge pages', h.free_huge_pages, free);
    same(m, 'huge pages', h.nr_huge_pages, sum(h.nr_huge_pages_node));
    same(m, 'surplus huge pages', h.surplus_huge_pages, sum(h.surplus_huge_pages_node));
    if (h.resv_huge_pages > h.free_huge_pages) same(m, 'promised huge pages', 0, 1);
  }
  return pool;
}

/** Every frame is accounted for. */
export function check_frames(m: Machine, d: DebugState): void {
  const p = m.memmap;
  const pool = huge_page_pool(m);
  for (const zone of m.populated_zones) {
    const end = zone_end_pfn(zone);
    for (let pfn = zone.zone_start_pfn; pfn < end; pfn++) {
      if (!pfn_valid(m, pfn) || d.place[pfn] === FREE || d.place[pfn] === PCP) continue;
      const flags = p.flags[pfn]!;
      if (p._count[pfn]! < 0 || p._mapcount[pfn]! < 0) bad(m, 'a negative count', pfn);
      if ((flags & PG_tail) !== 0) {
        const head = p.index[pfn]!;
        if ((p.flags[head]! & PG_head) === 0) bad(m, 'a tail page without a head', pfn);
        if (pfn >= head + 2 ** p.private_[head + 1]!) bad(m, 'a tail page behind its block', pfn);
        if (p._count[pfn] !== 0) bad(m, 'a tail page has references of its own', pfn);
        continue;
      }
      if ((flags & PG_reserved) !== 0 || p._count[pfn]! > 0 || pool.has(pfn)) continue;
      if (flags !== 0 || !inside_used_block(m, pfn)) bad(m, 'a lost page', pfn);
    }
  }
}

/** A block that was allocated without __GFP_COMP: only its first page has a reference. */
function inside_used_block(m: Machine, pfn: pfn_t): boolean {
  const p = m.memmap;
  for (let order = 1; order < m.shape.max_order; order++) {
    const head = pfn - (pfn % 2 ** order);
    if (head !== pfn && p._count[head]! > 0) return (p.flags[head]! & (PG_lru | PG_buddy)) === 0;
  }
  return false;
}
