/**
 * Huge pages in address spaces: faults, private copies, fork, unmapping, what was promised to whom.
 *
 * An area of huge pages is a private mapping of a file of its own, as MAP_HUGETLB gives. Its maker is
 * promised every page of it; a page that it touches takes one promise away, and what is left when
 * the area goes is given back. A child of fork shares the pages until one side writes, and is
 * promised nothing. When its maker cannot get a copy, the page is taken out of the children, which
 * then get SIGBUS where they touch it: the maker's memory is safe, theirs is not.
 * A huge pte stands in the level of the tables that a page's size has: beside the pointers of a pmd
 * page, or as a pte for sizes below one pmd entry. The pool is in hugetlb_pool.ts.
 * Linux: mm/hugetlb.c, fs/hugetlbfs/inode.c. Differs: private mappings alone, no hugetlbfs to mount;
 * the file's inode takes no slab object; no memory policy of the area, the process's node comes first.
 */
import { BUG_ON } from '../lib/bug.ts';
import { EIO, ENOMEM } from '../lib/errno.ts';
import {
  type AddressSpace,
  type AddressSpaceOperations,
  MIGRATE_FALLBACK,
} from './address_space.ts';
import { GFP_HIGHUSER } from './gfp.ts';
import { type Hstate, ResvMap } from './hugetlb_def.ts';
import {
  alloc_huge_page as alloc_pool_page,
  free_huge_page,
  hugetlb_acct_memory,
} from './hugetlb_pool.ts';
import {
  find_vma,
  MmapFile,
  type MmStruct,
  MPOL_DEFAULT,
  MPOL_INTERLEAVE,
  VM_HUGETLB,
  VM_MAYWRITE,
  VM_SHARED,
  VM_WRITE,
  type VmArea,
  type vpn_t,
} from './mm_types.ts';
import { type Machine, numa_node_id } from './mmzone.ts';
import { type nid_t, type pfn_t, SetPageFlag } from './page.ts';
import { PG_uptodate } from './page_flags.ts';
import {
  huge_pte_alloc,
  huge_pte_get,
  huge_pte_set,
  mk_pte,
  pte_mkdirty,
  pte_mkwrite,
  pte_mkyoung,
  pte_pfn,
  pte_write,
  pte_wrprotect,
} from './page_table.ts';

/** The file behind an area: how large its pages are. It keeps nothing: it is anonymous. */
export class HugetlbInode {
  private readonly m: Machine;
  private readonly mapping: AddressSpace;
  readonly hstate_idx: number;

  constructor(m: Machine, mapping: AddressSpace, hstate_idx: number) {
    this.m = m;
    this.mapping = mapping;
    this.hstate_idx = hstate_idx;
  }

  /** The last area has gone. */
  release(): void {
    this.m.mappings.destroy(this.mapping);
  }
}

/** fs/hugetlbfs/inode.c: hugetlbfs_aops. */
export const hugetlbfs_aops: AddressSpaceOperations = {
  name: 'hugetlbfs',
  migratepage: MIGRATE_FALLBACK,
  account_dirty: false,
};

/** Minor number of the internal mount of hugetlbfs, as maps shows it. */
const HUGETLBFS_MINOR = 12;

export const is_vm_hugetlb_page = (vma: VmArea): boolean => (vma.vm_flags & VM_HUGETLB) !== 0;

/** The pool that an area's pages come from. */
export function hstate_vma(m: Machine, vma: VmArea): Hstate {
  return m.hstates[(vma.vm_file!.open as HugetlbInode).hstate_idx]!;
}

/** A file without a name for `pages` huge pages (hugetlb_file_setup). */
export function hugetlb_file_setup(m: Machine, hstate_idx: number, pages: number): MmapFile {
  const h = m.hstates[hstate_idx]!;
  const mapping = m.mappings.create(hugetlbfs_aops, GFP_HIGHUSER);
  mapping.i_size = pages * 2 ** (h.order + m.shape.page_shift);
  const path = '/anon_hugepage (deleted)';
  const file = new MmapFile(mapping, path, mapping.id, 0, HUGETLBFS_MINOR);
  file.open = new HugetlbInode(m, mapping, hstate_idx);
  return file;
}

// ---- promises

/** Which huge page of its file lies at `vpn` of the area. */
function page_idx(h: Hstate, vma: VmArea, vpn: vpn_t): number {
  return (vpn - vma.vm_start + vma.vm_pgoff) / 2 ** h.order;
}

/** Promises all pages of a new area: 0, or -ENOMEM when the pool cannot (hugetlb_reserve_pages). */
export function hugetlb_reserve_pages(m: Machine, vma: VmArea): number {
  const h = hstate_vma(m, vma);
  const pages = (vma.vm_end - vma.vm_start) / 2 ** h.order;
  const err = hugetlb_acct_memory(m, h, pages);
  if (err === 0) vma.resv_map = new ResvMap(pages);
  return err;
}

/** A part of an area has the same promises as the whole (hugetlb_vm_op_open). */
export function hugetlb_vm_op_open(vma: VmArea): void {
  if (vma.resv_map !== null) vma.resv_map.refs++;
}

/** The area goes: what was promised and not taken is free again (hugetlb_vm_op_close). */
export function hugetlb_vm_op_close(m: Machine, vma: VmArea): void {
  const map = vma.resv_map;
  if (map === null) return;
  vma.resv_map = null;
  const reserve = vma_resv_pages(m, vma, map);
  map.refs--;
  if (reserve > 0) hugetlb_acct_memory(m, hstate_vma(m, vma), -reserve);
}

/** Pages of the area that its maker is promised and has not taken. */
export function vma_resv_pages(m: Machine, vma: VmArea, map: ResvMap): number {
  const h = hstate_vma(m, vma);
  const start = page_idx(h, vma, vma.vm_start);
  const end = page_idx(h, vma, vma.vm_end);
  let left = 0;
  for (let i = start; i < end; i++) left += 1 - map.used[i]!;
  return left;
}

/** Where the page at `vpn` should lie: the node of the policy, or of the CPU. */
function vma_node(m: Machine, vma: VmArea, idx: number): nid_t {
  const { policy, policy_nid } = vma.vm_mm;
  if (policy === MPOL_DEFAULT) return numa_node_id(m);
  return policy === MPOL_INTERLEAVE ? idx % m.nodes.length : policy_nid;
}

/**
 * A page for the area, with a reference; -1 without one. Only the maker is promised pages, and with
 * `avoid_reserve` it does without its promises as well (alloc_huge_page).
 */
function alloc_huge_page(m: Machine, vma: VmArea, vpn: vpn_t, avoid_reserve: boolean): pfn_t | -1 {
  const h = hstate_vma(m, vma);
  const map = vma.resv_map;
  const idx = page_idx(h, vma, vpn);
  const reserved = map !== null && !avoid_reserve;
  const pfn = alloc_pool_page(m, h, reserved, vma_node(m, vma, idx));
  if (pfn >= 0 && map !== null) map.used[idx] = 1; // vma_commit_reservation
  return pfn;
}

/** Drops a reference; the last one gives the page to the pool. */
function put_huge_page(m: Machine, h: Hstate, pfn: pfn_t): void {
  if (m.memmap._count[pfn]! > 1) m.memmap._count[pfn]!--;
  else free_huge_page(m, h, pfn);
}

// ---- faults

/** The huge page at `vpn` of an address space as a pte of its first frame; 0 where none is. */
export function huge_pte(m: Machine, vma: VmArea, vpn: vpn_t): number {
  const { order } = hstate_vma(m, vma);
  return huge_pte_get(vma.vm_mm, huge_page_start(vpn, order), order);
}

const huge_page_start = (vpn: vpn_t, order: number): vpn_t => vpn - (vpn % 2 ** order);

/** The frame that `vpn` has in an area of huge pages, -1 where none is. */
export function huge_page_frame(m: Machine, mm: MmStruct, vpn: vpn_t): pfn_t | -1 {
  const vma = find_vma(mm, vpn);
  if (vma === null || vpn < vma.vm_start || !is_vm_hugetlb_page(vma)) return -1;
  const pte = huge_pte(m, vma, vpn);
  return pte === 0 ? -1 : pte_pfn(pte) + (vpn % 2 ** hstate_vma(m, vma).order);
}

/** Calls `visit` for the pte of each huge page of an area. */
export function for_each_huge_page(m: Machine, vma: VmArea, visit: (pte: number) => void): void {
  const size = 2 ** hstate_vma(m, vma).order;
  for (let vpn = vma.vm_start; vpn < vma.vm_end; vpn += size) {
    const pte = huge_pte(m, vma, vpn);
    if (pte !== 0) visit(pte);
  }
}

function make_huge_pte(pfn: pfn_t, writable: boolean): number {
  const pte = mk_pte(pfn);
  return writable ? pte_mkwrite(pte_mkdirty(pte)) : pte;
}

/** A touch of a huge page: 0, -ENOMEM (no page table), -EIO: SIGBUS (hugetlb.c). */
export function hugetlb_fault(m: Machine, vma: VmArea, vpn: vpn_t, write: boolean): number {
  const { order } = hstate_vma(m, vma);
  const mm = vma.vm_mm;
  const start = huge_page_start(vpn, order);
  if (!huge_pte_alloc(m, mm, start, order)) return -ENOMEM;
  const entry = huge_pte_get(mm, start, order);
  if (entry === 0) return hugetlb_no_page(m, vma, start, write);
  if (write && !pte_write(entry)) return hugetlb_cow(m, vma, start, entry);
  huge_pte_set(mm, start, order, write ? pte_mkdirty(pte_mkyoung(entry)) : pte_mkyoung(entry));
  return 0;
}

/** The first touch: a cleared page. */
function hugetlb_no_page(m: Machine, vma: VmArea, start: vpn_t, write: boolean): number {
  // What the area lost to its maker must not come back as zeroes.
  if (vma.resv_unmapped) return -EIO;
  const h = hstate_vma(m, vma);
  const mm = vma.vm_mm;
  const pfn = alloc_huge_page(m, vma, start, false);
  if (pfn < 0) return -EIO;
  for (let i = pfn; i < pfn + 2 ** h.order; i++) m.contents.zero_page(i);
  SetPageFlag(m.memmap, pfn, PG_uptodate);
  const entry = make_huge_pte(pfn, false);
  huge_pte_set(mm, start, h.order, entry);
  mm.hugetlb_usage += 2 ** h.order;
  return write ? hugetlb_cow(m, vma, start, entry) : 0;
}

/** A write to a page that may have other users: ours alone, or a copy. */
function hugetlb_cow(m: Machine, vma: VmArea, start: vpn_t, entry: number): number {
  const p = m.memmap;
  const h = hstate_vma(m, vma);
  const mm = vma.vm_mm;
  const old_page = pte_pfn(entry);
  const writable = (pte: number): number =>
    (vma.vm_flags & VM_WRITE) !== 0 ? pte_mkwrite(pte_mkdirty(pte_mkyoung(pte))) : pte;
  if (p._count[old_page] === 1) {
    huge_pte_set(mm, start, h.order, writable(entry));
    return 0;
  }
  // The maker's promises are for pages that it has not touched yet: this one took its own already.
  const outside_reserve = vma.resv_map !== null;
  p._count[old_page]!++;
  const new_page = alloc_huge_page(m, vma, start, outside_reserve);
  if (new_page < 0) {
    put_huge_page(m, h, old_page);
    if (!outside_reserve) return -EIO;
    unmap_ref_private(m, vma, start, old_page);
    BUG_ON(p._count[old_page] !== 1, 'hugetlb_cow: the children hold the page still');
    huge_pte_set(mm, start, h.order, writable(entry));
    return 0;
  }
  for (let i = 0; i < 2 ** h.order; i++) m.contents.copy_page(old_page + i, new_page + i);
  SetPageFlag(p, new_page, PG_uptodate);
  huge_pte_set(mm, start, h.order, make_huge_pte(new_page, (vma.vm_flags & VM_WRITE) !== 0));
  put_huge_page(m, h, old_page);
  put_huge_page(m, h, old_page);
  return 0;
}

/** Takes one page out of all areas of its file that are promised nothing (unmap_ref_private). */
function unmap_ref_private(m: Machine, vma: VmArea, start: vpn_t, page: pfn_t): void {
  const h = hstate_vma(m, vma);
  const pgoff = start - vma.vm_start + vma.vm_pgoff;
  for (const other of vma.vm_file!.mapping.i_mmap) {
    if (other === vma || other.resv_map !== null) continue;
    const at = other.vm_start + pgoff - other.vm_pgoff;
    if (at < other.vm_start || at >= other.vm_end) continue;
    unmap_hugepage_range(m, other, at, at + 2 ** h.order, page);
  }
}

// ---- fork, unmapping, protection

/** Shares an area's pages with a child: 0 or -ENOMEM (copy_hugetlb_page_range). */
export function copy_hugetlb_page_range(
  m: Machine,
  dst: MmStruct,
  src: MmStruct,
  vma: VmArea,
): number {
  const { order } = hstate_vma(m, vma);
  const cow = (vma.vm_flags & (VM_SHARED | VM_MAYWRITE)) === VM_MAYWRITE;
  for (let vpn = vma.vm_start; vpn < vma.vm_end; vpn += 2 ** order) {
    let entry = huge_pte_get(src, vpn, order);
    if (entry === 0) continue;
    if (!huge_pte_alloc(m, dst, vpn, order)) return -ENOMEM;
    if (cow) {
      entry = pte_wrprotect(entry);
      huge_pte_set(src, vpn, order, entry);
    }
    m.memmap._count[pte_pfn(entry)]!++;
    huge_pte_set(dst, vpn, order, entry);
    dst.hugetlb_usage += 2 ** order;
  }
  return 0;
}

/**
 * Unmaps the huge pages of [start, end) of an area. With `ref_page` only that page goes, and the area
 * remembers that it lost one (unmap_hugepage_range).
 */
export function unmap_hugepage_range(
  m: Machine,
  vma: VmArea,
  start: vpn_t,
  end: vpn_t,
  ref_page: pfn_t | -1 = -1,
): void {
  const h = hstate_vma(m, vma);
  const mm = vma.vm_mm;
  for (let vpn = start; vpn < end; vpn += 2 ** h.order) {
    const entry = huge_pte_get(mm, vpn, h.order);
    if (entry === 0) continue;
    if (ref_page >= 0) {
      if (pte_pfn(entry) !== ref_page) continue;
      vma.resv_unmapped = true;
    }
    huge_pte_set(mm, vpn, h.order, 0);
    mm.hugetlb_usage -= 2 ** h.order;
    put_huge_page(m, h, pte_pfn(entry));
  }
}

/** Takes write permission off the pages of [start, end) (hugetlb_change_protection). */
export function hugetlb_change_protection(m: Machine, vma: VmArea, start: vpn_t, end: vpn_t): void {
  const { order } = hstate_vma(m, vma);
  for (let vpn = start; vpn < end; vpn += 2 ** order) {
    const entry = huge_pte_get(vma.vm_mm, vpn, order);
    if (entry !== 0) huge_pte_set(vma.vm_mm, vpn, order, pte_wrprotect(entry));
  }
}
