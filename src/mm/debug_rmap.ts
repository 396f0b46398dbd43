/**
 * Checks of processes: each pte maps a page that the reverse mapping leads back to.
 *
 * Map counts, resident sizes, migration entries of locked pages only, users of swap slots, upper page
 * tables, huge pages and what pools have promised for them. anon_vmas: freed exactly when no area and
 * no external reference is left; chains in both directions.
 */
import { check_ksm, is_stable_page } from './debug_ksm.ts';
import { pages_of } from './debug_lists.ts';
import { bad, type DebugState, FREE, PCP, same } from './debug_state.ts';
import { hstate_vma, huge_pte, is_vm_hugetlb_page, vma_resv_pages } from './hugetlb.ts';
import { find_vma, linear_page_index, type MmStruct, type VmArea, type vpn_t } from './mm_types.ts';
import type { Machine } from './mmzone.ts';
import { PAGE_MAPPING_ANON, PAGE_MAPPING_FLAGS, type pfn_t } from './page.ts';
import { PG_head, PG_locked, PG_private, PG_reserved, PG_tail } from './page_flags.ts';
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

// ---- processes

/** The address spaces of all tasks; several tasks may share one. */
export function all_mms(m: Machine): Set<MmStruct> {
  const mms: Set<MmStruct> = new Set();
  for (const task of m.tasks.values()) if (task.mm !== null) mms.add(task.mm);
  return mms;
}

export function check_page_tables(m: Machine, d: DebugState): void {
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

export function check_anon_vmas(m: Machine): void {
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
