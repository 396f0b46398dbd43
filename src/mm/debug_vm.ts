/**
 * Whole-state checks: everything that the machine caches, recomputed from scratch and compared.
 *
 * debug_vm runs a list of checks over one machine between two operations and throws KernelBug at
 * the first thing that is wrong, with a dump of the page. Each check reads the state and derives
 * what must follow; none calls the code that keeps the state. Cost is a few passes over the memmap,
 * so tests sample it. Files that know more add checks of their own with add_debug_check.
 *
 * 1. Lists: links agree in both directions; no page is on two lists; what is linked and on no known
 *    list is isolated, and the isolated counters say how many.
 * 2. Free blocks: on the list of their order, aligned, unused, disjoint, not mergeable; nr_free and
 *    NR_FREE_PAGES; per-CPU lists and their counts.
 * 3. LRU lists against flags and counters; pages in vectors are on no list.
 * 4. Every frame is free, in use, reserved, or inside a block whose head is in use.
 * 5. Page tables: each pte maps a page that the reverse mapping leads back to it; map counts, resident
 *    sizes, migration entries of locked pages only, swap slots' users.
 * 6. anon_vmas: freed exactly when no area and no external reference is left; chains in both directions.
 * 7. Page cache: a page is in its mapping's tree at its index, and only there; tags; buffers.
 * 8. Slab: pages, objects, partial lists. 9. Zone counters of all kinds; watermarks; pageblocks.
 * Linux has parts of this: CONFIG_DEBUG_VM, DEBUG_LIST, SLUB_DEBUG, mm/debug.c (dump_page).
 */
import { KernelBug } from '../lib/bug.ts';
import { type AddressSpace, RADIX_TREE_MAP_SIZE } from './address_space.ts';
import { MIGRATE_PCPTYPES, MIGRATE_TYPES } from './gfp.ts';
import { hstate_vma, huge_pte, is_vm_hugetlb_page, vma_resv_pages } from './hugetlb.ts';
import { check_ksm, is_stable_page } from './ksm.ts';
import { find_vma, linear_page_index, type MmStruct, type VmArea, type vpn_t } from './mm_types.ts';
import {
  type Machine,
  NR_LRU_LISTS,
  page_zone,
  pfn_valid,
  type Zone,
  zone_end_pfn,
} from './mmzone.ts';
import { PAGE_MAPPING_ANON, PAGE_MAPPING_FLAGS, type pfn_t } from './page.ts';
import {
  PG_active,
  PG_buddy,
  PG_dirty,
  PG_head,
  PG_locked,
  PG_lru,
  PG_mlocked,
  PG_private,
  PG_reserved,
  PG_slab,
  PG_swapbacked,
  PG_swapcache,
  PG_tail,
  PG_unevictable,
  PG_writeback,
} from './page_flags.ts';
import {
  get_pte,
  is_migration_entry,
  next_mapped,
  type PageTable,
  pmd_huge,
  pte_none,
  pte_pfn,
  pte_present,
  pte_to_swp_entry,
  pte_write,
  swp_entry,
  swp_offset,
} from './page_table.ts';
import {
  NR_ANON_PAGES,
  NR_ANON_THPS,
  NR_FILE_DIRTY,
  NR_FILE_MAPPED,
  NR_FILE_PAGES,
  NR_FREE_PAGES,
  NR_ISOLATED_ANON,
  NR_ISOLATED_FILE,
  NR_LRU_BASE,
  NR_MLOCK,
  NR_PAGETABLE,
  NR_SLAB_RECLAIMABLE,
  NR_SLAB_UNRECLAIMABLE,
  NR_WRITEBACK,
} from './vmstat.ts';

const FLAG_NAMES =
  'locked error referenced uptodate dirty lru active slab checked arch_1 reserved private private_2 writeback head tail swapcache mappedtodisk reclaim buddy swapbacked unevictable mlocked anon_exclusive'.split(
    ' ',
  );

/** One page in words (mm/debug.c: dump_page). */
export function dump_page(m: Machine, pfn: pfn_t): string {
  const p = m.memmap;
  const flags = FLAG_NAMES.filter((_, bit) => (p.flags[pfn]! & (1 << bit)) !== 0).join('|');
  return (
    `page:${pfn} flags:${flags || 'none'} count:${p._count[pfn]} mapcount:${p._mapcount[pfn]} ` +
    `mapping:${p.mapping[pfn]!.toString(16)} index:${p.index[pfn]} private:${p.private_[pfn]} ` +
    `next:${p.next[pfn]} prev:${p.prev[pfn]}`
  );
}

/** Throws: the check found something wrong. With a page, its dump is part of the message. */
export function bad(m: Machine, what: string, pfn: pfn_t | -1 = -1): never {
  throw new KernelBug(pfn < 0 ? what : `${what}: ${dump_page(m, pfn)}`);
}

/** Compares a cached number with the recomputed one. */
function same(m: Machine, what: string, cached: number, counted: number): void {
  if (cached !== counted) bad(m, `${what}: cached ${cached}, counted ${counted}`);
}

/** What a frame was found to be: filled by the checks of lists, used by those after them. */
const UNKNOWN = 0;
const FREE = 1;
const PCP = 2;
const LRU = 3;
const LINKED = 4;

/** What one run of the checks has found so far. */
export class DebugState {
  /** By pfn: UNKNOWN, FREE (inside a free block too), PCP, LRU, LINKED (to some other list). */
  readonly place: Uint8Array;
  /** By pfn: ptes that map it. */
  readonly mapped: Int32Array;
  /** By pfn: entries of per-CPU vectors. */
  readonly in_vector: Uint8Array;
  /** By pfn: slots of page cache trees and of the swap cache. */
  readonly cached: Uint8Array;
  /** By head: entries of upper page tables that map the huge page. */
  readonly mapped_whole: Map<pfn_t, number> = new Map();

  constructor(m: Machine) {
    this.place = new Uint8Array(m.memmap.nr_pages);
    this.mapped = new Int32Array(m.memmap.nr_pages);
    this.in_vector = new Uint8Array(m.memmap.nr_pages);
    this.cached = new Uint8Array(m.memmap.nr_pages);
  }
}

export type DebugCheck = (m: Machine, d: DebugState) => void;

const checks: DebugCheck[] = [
  check_free_lists,
  check_pcp_lists,
  check_lru_lists,
  check_split_queues,
  check_vectors,
  check_other_links,
  check_frames,
  check_page_cache,
  check_page_tables,
  check_anon_vmas,
  check_buffers,
  check_slabs,
  check_counters,
  check_zones,
];

/** Adds a check that runs after those of this file, on every machine. */
export function add_debug_check(check: DebugCheck): void {
  if (!checks.includes(check)) checks.push(check);
}

/**
 * Checks the whole machine; throws KernelBug at the first violation.
 * Precondition: between two operations. A job may be suspended at one of its yields.
 */
export function debug_vm(m: Machine): void {
  const d = new DebugState(m);
  for (const check of checks) check(m, d);
}

/** Walks a list and marks its pages; returns how many. */
function walk(m: Machine, d: DebugState, head: number, place: number, zone: Zone | null): number {
  const p = m.memmap;
  let count = 0;
  let prev = head;
  for (let pfn = p.next[head]!; pfn !== head; pfn = p.next[pfn]!) {
    if (pfn <= 0 || pfn >= p.nr_pages) bad(m, `list ${head}: link to row ${pfn}, not a page`);
    if (p.prev[pfn] !== prev) bad(m, `list ${head}: links disagree`, pfn);
    if (d.place[pfn] !== UNKNOWN) bad(m, `list ${head}: the page is on two lists`, pfn);
    if (zone !== null && page_zone(m, pfn) !== zone) bad(m, 'a list of another zone', pfn);
    d.place[pfn] = place;
    prev = pfn;
    count++;
  }
  if (p.prev[head] !== prev) bad(m, `list ${head}: the head's links disagree`);
  return count;
}

function check_free_lists(m: Machine, d: DebugState): void {
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

function check_pcp_lists(m: Machine, d: DebugState): void {
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

function check_lru_lists(m: Machine, d: DebugState): void {
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
function pages_of(m: Machine, pfn: pfn_t): number {
  return (m.memmap.flags[pfn]! & PG_head) !== 0 ? 2 ** m.memmap.private_[pfn + 1]! : 1;
}

/** Queues of huge pages that lost a part: linked through second tail pages, counted, mapped in parts. */
function check_split_queues(m: Machine, d: DebugState): void {
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

function check_vectors(m: Machine, d: DebugState): void {
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
function check_other_links(m: Machine, d: DebugState): void {
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
function check_frames(m: Machine, d: DebugState): void {
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

// ---- page cache

/** Calls `visit` with each item of a mapping's tree, by walking its nodes. */
function for_each_item(
  m: Machine,
  mapping: AddressSpace,
  visit: (index: number, pfn: pfn_t, tags: number) => void,
): void {
  const root = mapping.page_tree;
  if (root.rnode === 0) return;
  if (root.height === 0) {
    visit(0, root.rnode, root.tags);
    return;
  }
  const nodes = m.radix_nodes;
  const tag_words = nodes.tags.length / (nodes.slots.length / RADIX_TREE_MAP_SIZE);
  const descend = (node: number, level: number, base: number): void => {
    let count = 0;
    for (let i = 0; i < RADIX_TREE_MAP_SIZE; i++) {
      const item = nodes.slots[node * RADIX_TREE_MAP_SIZE + i]!;
      if (item === 0) continue;
      count++;
      const index = base + i * RADIX_TREE_MAP_SIZE ** level;
      if (level > 0) {
        descend(item, level - 1, index);
        continue;
      }
      let tags = 0;
      for (let t = 0; t < tag_words / 2; t++) {
        const word = nodes.tags[node * tag_words + t * 2 + (i >>> 5)]!;
        if ((word & (1 << (i & 31))) !== 0) tags |= 1 << t;
      }
      visit(index, item, tags);
    }
    same(m, `mapping ${mapping.id}: slots used in a tree node`, nodes.count[node]!, count);
  };
  descend(root.rnode, root.height - 1, 0);
}

function check_page_cache(m: Machine, d: DebugState): void {
  const p = m.memmap;
  const swap = m.swapper_space;
  for (const mapping of new Set([...m.mappings.all(), swap])) {
    let nr = 0;
    for_each_item(m, mapping, (index, pfn, tags) => {
      nr++;
      if (d.cached[pfn] !== 0) bad(m, 'a page is in the page cache twice', pfn);
      d.cached[pfn] = 1;
      const flags = p.flags[pfn]!;
      if (p._count[pfn]! <= 0) bad(m, 'a cached page without a reference', pfn);
      if (mapping === swap) {
        if ((flags & PG_swapcache) === 0 || p.private_[pfn] !== index) {
          bad(m, `in the swap cache at ${index}`, pfn);
        }
        return;
      }
      if (p.mapping[pfn] !== mapping.id << 2) bad(m, `in the tree of mapping ${mapping.id}`, pfn);
      if (p.index[pfn] !== index) bad(m, `in its mapping's tree at ${index}`, pfn);
      if ((flags & PG_dirty) !== 0 && mapping.a_ops.account_dirty && (tags & 1) === 0) {
        bad(m, 'a dirty page without the dirty tag', pfn);
      }
      if (((flags & PG_writeback) !== 0) !== ((tags & 2) !== 0)) {
        bad(m, 'PG_writeback and the write-back tag disagree', pfn);
      }
    });
    same(m, `mapping ${mapping.id}: nrpages`, mapping.nrpages, nr);
  }
  for (let pfn = 1; pfn < p.nr_pages; pfn++) {
    const mapping = p.mapping[pfn]!;
    const file = mapping !== 0 && (mapping & PAGE_MAPPING_FLAGS) === 0;
    const in_swap = (p.flags[pfn]! & PG_swapcache) !== 0;
    if ((file || in_swap) !== (d.cached[pfn] !== 0)) bad(m, 'mapping and page cache disagree', pfn);
  }
}

function check_buffers(m: Machine): void {
  const p = m.memmap;
  const b = m.buffer_heads;
  for (let pfn = 1; pfn < p.nr_pages; pfn++) {
    if ((p.flags[pfn]! & PG_private) === 0) continue;
    if ((p.flags[pfn]! & PG_slab) !== 0) bad(m, 'a slab page with buffers', pfn);
    const first = p.private_[pfn]!;
    let bh = first;
    do {
      if (bh <= 0) bad(m, 'PG_private without buffers', pfn);
      if (b.b_page[bh] !== pfn) bad(m, `buffer ${bh} belongs to page ${b.b_page[bh]}`, pfn);
      if (b.b_count[bh]! < 0) bad(m, `buffer ${bh} has a negative count`, pfn);
      bh = b.b_this_page[bh]!;
    } while (bh !== first);
  }
  const listed: Map<number, number> = new Map();
  for (const bhs of b.bh_lrus) {
    for (const bh of bhs) if (bh !== 0) listed.set(bh, (listed.get(bh) ?? 0) + 1);
    const own = [...bhs].filter((bh) => bh !== 0);
    if (new Set(own).size !== own.length) bad(m, "a buffer is twice on a CPU's list");
    if (own.length < bhs.length && bhs[own.length] !== 0) bad(m, "a CPU's buffers have a gap");
  }
  for (const [bh, nr] of listed) {
    if (b.b_count[bh]! < nr) bad(m, `buffer ${bh} is on ${nr} lists of CPUs`, b.b_page[bh]);
    if ((p.flags[b.b_page[bh]!]! & PG_private) === 0)
      bad(m, 'a listed buffer has gone', b.b_page[bh]);
  }
}

// ---- processes

/** The address spaces of all tasks; several tasks may share one. */
function all_mms(m: Machine): Set<MmStruct> {
  const mms: Set<MmStruct> = new Set();
  for (const task of m.tasks.values()) if (task.mm !== null) mms.add(task.mm);
  return mms;
}

function check_page_tables(m: Machine, d: DebugState): void {
  const p = m.memmap;
  const swap_users: Map<number, number> = new Map();
  const h: HugeState = { areas: 0, users: new Map(), resv: new Array(m.hstates.length).fill(0) };
  let foreign = false;
  for (const mm of all_mms(m)) {
    const rss = [0, 0, 0];
    let huge = 0;
    let end = 0;
    for (const vma of mm.mmap) {
      if (vma.vm_start < end || vma.vm_end <= vma.vm_start) bad(m, 'areas overlap or are empty');
      end = vma.vm_end;
      if (is_vm_hugetlb_page(vma)) huge += check_huge_area(m, h, vma);
      else check_area(m, d, vma, rss, swap_users);
    }
    same(m, 'hugetlb_usage', mm.hugetlb_usage, huge);
    for (let i = 0; i < 3; i++) same(m, `rss_stat[${i}]`, mm.rss_stat[i]!, rss[i]!);
    check_tables(m, mm);
  }
  // Rebuilt recordings map pages from address spaces that no task owns.
  for (let pfn = 1; pfn < p.nr_pages; pfn++) {
    if (p._mapcount[pfn] !== d.mapped[pfn]) {
      if (m.tasks.size === 0) foreign = true;
      else bad(m, `the page has ${d.mapped[pfn]} ptes`, pfn);
    }
    // References of a part are the block's.
    if ((p.flags[pfn]! & PG_tail) !== 0) continue;
    let held = d.mapped[pfn]! + d.cached[pfn]! + d.in_vector[pfn]!;
    const whole = d.mapped_whole.get(pfn) ?? 0;
    if ((p.flags[pfn]! & PG_head) !== 0 && p.private_[pfn + 1]! > 1) {
      if (p.private_[pfn + 2] !== whole) bad(m, `mapped ${whole} times as a whole`, pfn);
      for (let i = pfn + 1; i < pfn + pages_of(m, pfn); i++) held += d.mapped[i]!;
    } else if (whole > 0) bad(m, 'mapped as a whole, and no huge page', pfn);
    held += whole;
    const buffers = (p.flags[pfn]! & PG_private) !== 0 ? 1 : 0;
    if (held + buffers > p._count[pfn]! && (p.flags[pfn]! & PG_reserved) === 0) {
      bad(m, `${held + buffers} holders`, pfn);
    }
  }
  if (!foreign) check_swap_users(m, swap_users);
  check_huge_pages(m, h);
}

function check_area(
  m: Machine,
  d: DebugState,
  vma: VmArea,
  rss: number[],
  swap_users: Map<number, number>,
): void {
  const mm = vma.vm_mm;
  for (let vpn = vma.vm_start; vpn < vma.vm_end; vpn++) {
    vpn = next_mapped(mm, vpn, vma.vm_end);
    if (vpn >= vma.vm_end) break;
    const pmd = pmd_huge(mm, vpn);
    if (pmd !== 0) {
      check_huge_mapping(m, d, vma, vpn, pmd, rss);
      vpn += 511;
      continue;
    }
    const pte = get_pte(mm, vpn);
    if (pte_none(pte)) continue;
    if (pte_present(pte)) {
      const kind = check_mapping(m, d, vma, vpn, pte_pfn(pte));
      if (kind >= 0) rss[kind]!++;
      continue;
    }
    const entry = pte_to_swp_entry(pte);
    if (is_migration_entry(entry)) {
      const pfn = swp_offset(entry);
      if ((m.memmap.flags[pfn]! & PG_locked) === 0) bad(m, 'a migration entry, not locked', pfn);
      rss[(m.memmap.mapping[pfn]! & PAGE_MAPPING_ANON) !== 0 ? 1 : 0]!++;
      continue;
    }
    rss[2]!++;
    swap_users.set(entry, (swap_users.get(entry) ?? 0) + 1);
  }
}

/** An entry that maps 512 pages: aligned, inside of its area, and the reverse mapping leads back. */
function check_huge_mapping(
  m: Machine,
  d: DebugState,
  vma: VmArea,
  vpn: vpn_t,
  pmd: number,
  rss: number[],
): void {
  const p = m.memmap;
  const head = pte_pfn(pmd);
  if (vpn % 512 !== 0 || vpn + 512 > vma.vm_end)
    bad(m, `a huge page at ${vpn} leaves its area`, head);
  if (!pte_present(pmd) || head % 512 !== 0) bad(m, 'a bad entry for a huge page', head);
  if (head === m.huge_zero_pfn) {
    if (pte_write(pmd)) bad(m, 'the huge page of zeroes may be written', head);
    if (!vma.vm_mm.huge_zero_page) bad(m, 'the huge page of zeroes is not held', head);
    return;
  }
  if ((p.flags[head]! & PG_head) === 0 || p.private_[head + 1] !== 9) bad(m, 'no huge page', head);
  d.mapped_whole.set(head, (d.mapped_whole.get(head) ?? 0) + 1);
  check_anon_mapping(m, vma, vpn, head, p.index[head]!);
  rss[1]! += 512;
}

/** The page's anon_vma must know the area, and its index the place. */
function check_anon_mapping(m: Machine, vma: VmArea, vpn: vpn_t, pfn: pfn_t, index: number): void {
  if (linear_page_index(vma, vpn) !== index) bad(m, `mapped at page ${vpn}`, pfn);
  const anon_vma = m.anon_vmas[m.memmap.mapping[pfn]! >>> 2];
  if (anon_vma == null || !anon_vma.live) bad(m, 'mapped, and its anon_vma is freed', pfn);
  let avc = anon_vma!.head;
  while (avc !== null && avc.vma !== vma) avc = avc.av_next;
  if (avc === null) bad(m, 'mapped by an area that its anon_vma does not know', pfn);
}

/** One present pte: reverse mapping must lead back. Returns the rss kind, -1 for special pages. */
function check_mapping(m: Machine, d: DebugState, vma: VmArea, vpn: vpn_t, pfn: pfn_t): number {
  const p = m.memmap;
  if (pfn === m.zero_pfn || (p.flags[pfn]! & PG_reserved) !== 0) return -1;
  d.mapped[pfn]!++;
  const place = d.place[pfn]!;
  if (place === FREE || place === PCP) bad(m, 'a free page is mapped', pfn);
  const head = (p.flags[pfn]! & PG_tail) !== 0 ? p.index[pfn]! : pfn;
  const mapping = p.mapping[head]!;
  if ((mapping & PAGE_MAPPING_FLAGS) === PAGE_MAPPING_ANON) {
    check_anon_mapping(m, vma, vpn, head, p.index[head]! + (pfn - head));
    return 1;
  }
  if ((mapping & PAGE_MAPPING_FLAGS) === PAGE_MAPPING_FLAGS) {
    if (!is_stable_page(m, pfn)) bad(m, `mapped at ${vpn}, and its KSM node is another's`, pfn);
    if (pte_write(get_pte(vma.vm_mm, vpn))) bad(m, 'a KSM page may be written', pfn);
    return 1;
  }
  if (mapping !== 0 && (mapping & PAGE_MAPPING_FLAGS) === 0) {
    if (vma.vm_file === null || vma.vm_file.mapping.id !== mapping >>> 2) {
      bad(m, 'mapped by an area of another file', pfn);
    }
    if (linear_page_index(vma, vpn) !== p.index[pfn]) bad(m, `mapped at page ${vpn}`, pfn);
    if (!vma.vm_file!.mapping.i_mmap.includes(vma)) bad(m, 'its file does not know the area', pfn);
    return 0;
  }
  return -1;
}

/** What areas of huge pages add up to. */
interface HugeState {
  areas: number;
  /** Huge ptes of each page. */
  users: Map<pfn_t, number>;
  /** Promises that were not called in, by pool. */
  resv: number[];
}

/** One area of huge pages. Returns the frames that it maps. */
function check_huge_area(m: Machine, h: HugeState, vma: VmArea): number {
  const { order } = hstate_vma(m, vma);
  const p = m.memmap;
  let frames = 0;
  h.areas++;
  if (vma.vm_start % 2 ** order !== 0 || vma.vm_end % 2 ** order !== 0) bad(m, 'a cut huge page');
  if (!vma.vm_file!.mapping.i_mmap.includes(vma)) bad(m, 'a huge file does not know its area');
  for (let vpn = vma.vm_start; vpn < vma.vm_end; vpn += 2 ** order) {
    const pte = huge_pte(m, vma, vpn);
    if (pte === 0) continue;
    const pfn = pte_pfn(pte);
    frames += 2 ** order;
    h.users.set(pfn, (h.users.get(pfn) ?? 0) + 1);
    if ((p.flags[pfn]! & PG_head) === 0 || p.private_[pfn + 1] !== order) {
      bad(m, 'mapped as a huge page', pfn);
    }
    if (pte_write(pte) && p._count[pfn] !== 1) bad(m, 'a shared huge page may be written', pfn);
  }
  const map = vma.resv_map;
  if (map !== null) h.resv[m.hstates.indexOf(hstate_vma(m, vma))]! += vma_resv_pages(m, vma, map);
  return frames;
}

/** All huge pages in use have as many references as huge ptes, and all promises are somebody's. */
function check_huge_pages(m: Machine, h: HugeState): void {
  for (const [pfn, users] of h.users) {
    same(m, `huge page ${pfn}: references`, m.memmap._count[pfn]!, users);
  }
  // Without areas the pages may be a test's own.
  if (h.areas === 0) return;
  m.hstates.forEach((hstate, i) => {
    let used = 0;
    for (const pfn of h.users.keys()) if (m.memmap.private_[pfn + 1] === hstate.order) used++;
    same(m, 'huge pages in use', hstate.nr_huge_pages - hstate.free_huge_pages, used);
    same(m, 'promised huge pages', hstate.resv_huge_pages, h.resv[i]!);
  });
}

/** Page table pages: in use, one for each table; counted per address space. */
function check_tables(m: Machine, mm: MmStruct): void {
  let ptes = 0;
  const visit = (table: PageTable | null): void => {
    if (table === null) return;
    if (m.memmap._count[table.pfn] !== 1) bad(m, 'a page of a page table', table.pfn);
    if (table.ptes !== null) {
      ptes++;
      return;
    }
    // One pte page is kept for each huge page, empty.
    let huge = 0;
    table.tables!.forEach((below, i) => {
      const pmd = table.pmds?.[i] ?? 0;
      if (pmd !== 0) huge++;
      if (pmd !== 0 && below !== null) bad(m, 'a huge page and a pte page in one entry', table.pfn);
      visit(below);
    });
    const kept = table.deposits ?? [];
    same(m, 'pte pages kept for huge pages', kept.length, huge);
    for (const below of kept) {
      if (below.ptes!.some((pte) => pte !== 0)) bad(m, 'a kept pte page is in use', below.pfn);
      visit(below);
    }
  };
  visit(mm.pgd);
  same(m, 'nr_ptes', mm.nr_ptes, ptes);
}

function check_swap_users(m: Machine, users: Map<number, number>): void {
  let free = 0;
  for (const si of m.swap_info) {
    let inuse = 0;
    for (let offset = 1; offset < si.swap_map.length; offset++) {
      const count = si.swap_map[offset]! & 0x3fff;
      if (si.swap_map[offset] !== 0) inuse++;
      const ptes = users.get(swp_entry(si.type, offset)) ?? 0;
      same(m, `swap slot ${offset}: users`, count, ptes);
    }
    same(m, 'inuse_pages of swap', si.inuse_pages, inuse);
    free += si.pages - inuse;
  }
  same(m, 'nr_swap_pages', m.nr_swap_pages, free);
}

function check_anon_vmas(m: Machine): void {
  const ksm = check_ksm(m);
  if (ksm !== null) bad(m, `ksm: ${ksm}`);
  const free = new Set(m.anon_vma_free);
  same(m, 'free anon_vma ids', free.size, m.anon_vma_free.length);
  for (const anon_vma of m.anon_vmas) {
    if (anon_vma === null) continue;
    const used = anon_vma.head !== null || anon_vma.external_refcount > 0;
    if (anon_vma.live !== used) {
      bad(m, `anon_vma ${anon_vma.id}: ${used ? 'used and freed' : 'unused and not freed'}`);
    }
    if (free.has(anon_vma.id) === anon_vma.live) {
      bad(m, `anon_vma ${anon_vma.id}: live and on the free list, or neither`);
    }
    let prev = null;
    for (let avc = anon_vma.head; avc !== null; avc = avc.av_next) {
      if (avc.anon_vma !== anon_vma || avc.av_prev !== prev)
        bad(m, 'anon_vma chain: links disagree');
      let own = avc.vma.avc_first;
      while (own !== null && own !== avc) own = own.vma_next;
      if (own === null) bad(m, 'anon_vma chain: its area does not know it');
      prev = avc;
    }
    if (anon_vma.tail !== prev) bad(m, `anon_vma ${anon_vma.id}: wrong tail`);
  }
  for (const mm of all_mms(m)) {
    for (const vma of mm.mmap) {
      let found = vma.anon_vma === null;
      let prev = null;
      for (let avc = vma.avc_first; avc !== null; avc = avc.vma_next) {
        if (avc.vma !== vma || avc.vma_prev !== prev) bad(m, 'area chain: links disagree');
        if (!avc.anon_vma.live) bad(m, 'an area is chained to a freed anon_vma');
        if (avc.anon_vma === vma.anon_vma) found = true;
        prev = avc;
      }
      if (vma.avc_last !== prev) bad(m, 'area chain: wrong last entry');
      if (!found) bad(m, 'an area is not chained to its own anon_vma');
      if (find_vma(mm, vma.vm_start) !== vma) bad(m, 'find_vma does not find an area');
    }
  }
}

// ---- slab and counters

function check_slabs(m: Machine): void {
  const p = m.memmap;
  const slab_pages: Map<pfn_t, string> = new Map();
  for (const s of m.slab.caches) {
    for (let row = 0; row < s.nr_rows; row++) {
      const pfn = s.slab_pfn[row]!;
      if (pfn < 0) continue;
      if ((p.flags[pfn]! & PG_slab) === 0 || p._count[pfn]! <= 0)
        bad(m, `a slab of ${s.name}`, pfn);
      if (slab_pages.has(pfn)) bad(m, `a slab of ${s.name} and ${slab_pages.get(pfn)}`, pfn);
      slab_pages.set(pfn, s.name);
      if (s.slab_inuse[row]! < 0 || s.slab_inuse[row]! > s.slab_objects[row]!) {
        bad(m, `a slab of ${s.name} with ${s.slab_inuse[row]} objects in use`, pfn);
      }
    }
  }
  for (const zone of m.populated_zones) {
    const end = zone_end_pfn(zone);
    for (let pfn = zone.zone_start_pfn; pfn < end; pfn++) {
      const flags = p.flags[pfn]!;
      if ((flags & PG_slab) !== 0 && (flags & PG_tail) === 0 && !slab_pages.has(pfn)) {
        bad(m, 'PG_slab and in no cache', pfn);
      }
    }
  }
}

function check_counters(m: Machine): void {
  const p = m.memmap;
  const slab: Map<number, number> = new Map();
  for (const s of m.slab.caches) {
    const item = s.reclaimable() ? NR_SLAB_RECLAIMABLE : NR_SLAB_UNRECLAIMABLE;
    for (let row = 0; row < s.nr_rows; row++) {
      if (s.slab_pfn[row]! < 0) continue;
      const key = page_zone(m, s.slab_pfn[row]!).id * 64 + item;
      slab.set(key, (slab.get(key) ?? 0) + 2 ** s.slab_order[row]!);
    }
  }
  const tables: Map<number, number> = new Map();
  for (const mm of all_mms(m)) count_tables(m, mm, tables);
  for (const zone of m.populated_zones) {
    const counted = new Map<number, number>([
      [NR_ANON_PAGES, 0],
      [NR_ANON_THPS, 0],
      [NR_FILE_MAPPED, 0],
      [NR_FILE_PAGES, 0],
      [NR_FILE_DIRTY, 0],
      [NR_WRITEBACK, 0],
      [NR_MLOCK, 0],
      [NR_SLAB_RECLAIMABLE, slab.get(zone.id * 64 + NR_SLAB_RECLAIMABLE) ?? 0],
      [NR_SLAB_UNRECLAIMABLE, slab.get(zone.id * 64 + NR_SLAB_UNRECLAIMABLE) ?? 0],
      [NR_PAGETABLE, tables.get(zone.id) ?? 0],
    ]);
    const add = (item: number, nr = 1): void => {
      counted.set(item, counted.get(item)! + nr);
    };
    const end = zone_end_pfn(zone);
    for (let pfn = zone.zone_start_pfn; pfn < end; pfn++) {
      const flags = p.flags[pfn]!;
      const head = (flags & PG_tail) !== 0 ? p.index[pfn]! : pfn;
      const mapping = p.mapping[head]!;
      const anon = (mapping & PAGE_MAPPING_ANON) !== 0;
      const huge = (p.flags[head]! & PG_head) !== 0 && p.private_[head + 1]! > 1;
      const whole = huge && p.private_[head + 2]! > 0;
      if (whole) add(NR_ANON_THPS);
      const file = mapping !== 0 && (mapping & PAGE_MAPPING_FLAGS) === 0;
      if (p._mapcount[pfn]! > 0 || whole) {
        if (anon) add(NR_ANON_PAGES);
        else if (file) add(NR_FILE_MAPPED);
      }
      if (file || (flags & PG_swapcache) !== 0) add(NR_FILE_PAGES);
      if (file && (flags & PG_dirty) !== 0 && m.mappings.get(mapping >>> 2).a_ops.account_dirty) {
        add(NR_FILE_DIRTY);
      }
      if ((flags & PG_writeback) !== 0) add(NR_WRITEBACK);
      if ((flags & PG_mlocked) !== 0) add(NR_MLOCK, pages_of(m, pfn));
    }
    for (const [item, n] of counted) {
      same(m, `zone ${zone.id}: counter ${item}`, zone.vm_stat[item]!, n);
    }
  }
}

function count_tables(m: Machine, mm: MmStruct, by_zone: Map<number, number>): void {
  const visit = (table: PageTable | null): void => {
    if (table === null) return;
    if (table.ptes !== null) {
      const id = page_zone(m, table.pfn).id;
      by_zone.set(id, (by_zone.get(id) ?? 0) + 1);
    } else {
      for (const below of table.tables!) visit(below);
      for (const below of table.deposits ?? []) visit(below);
    }
  };
  visit(mm.pgd);
}

function check_zones(m: Machine): void {
  for (const zone of m.populated_zones) {
    const [min, low, high] = zone.watermark;
    if (!(min! <= low! && low! <= high!)) bad(m, `zone ${zone.id}: watermarks ${zone.watermark}`);
    for (const type of zone.pageblock_flags) {
      if (type >= MIGRATE_TYPES) bad(m, `zone ${zone.id}: a pageblock of type ${type}`);
    }
    for (let item = 0; item < zone.vm_stat.length; item++) {
      if (zone.vm_stat[item]! < 0) bad(m, `zone ${zone.id}: counter ${item} is negative`);
    }
  }
}
