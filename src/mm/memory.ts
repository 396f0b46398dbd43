/**
 * Page faults, fork's copying of page tables, and unmapping.
 *
 * A simulated program reads and writes memory with access_page, which does what the MMU and
 * do_page_fault do: walk, set young and dirty bits, and fault where the walk ends. What a page
 * holds is its 32-bit content tag (contents.ts). A fault that meets a page which migration has
 * locked waits: it returns VM_FAULT_RETRY with a reference held in task.wait_page, and the access
 * is repeated later.
 * Linux: mm/memory.c, arch/x86/mm/fault.c of 2.6.35 (no stack guard page), mm/mempolicy.c
 * (alloc_page_vma). Differs: no non-linear mappings; rss counters are exact.
 */
import { BUG_ON } from '../lib/bug.ts';
import { EAGAIN, EFAULT, EIO, ENOMEM } from '../lib/errno.ts';
import type { AddressSpace } from './address_space.ts';
import { set_page_dirty } from './filemap.ts';
import { filemap_fault } from './filemap_fault.ts';
import { __GFP_THISNODE, __GFP_ZERO, GFP_HIGHUSER_MOVABLE } from './gfp.ts';
import {
  __split_huge_pmd,
  copy_huge_pmd,
  HPAGE_PMD_NR,
  hpage_start,
  type ThpOps,
  zap_huge_pmd,
} from './huge_memory.ts';
import {
  copy_hugetlb_page_range,
  huge_page_frame,
  huge_pte,
  hugetlb_fault,
  is_vm_hugetlb_page,
  unmap_hugepage_range,
} from './hugetlb.ts';
import { clear_page_mlock } from './internal.ts';
import { lru_add_drain, mark_page_accessed, put_page } from './lru.ts';
import {
  find_vma,
  linear_page_index,
  MM_ANONPAGES,
  MM_FILEPAGES,
  MM_SWAPENTS,
  type MmStruct,
  MPOL_BIND,
  MPOL_DEFAULT,
  MPOL_INTERLEAVE,
  type Task,
  update_hiwater_rss,
  VM_EXEC,
  VM_GROWSDOWN,
  VM_LOCKED,
  VM_MAYWRITE,
  VM_READ,
  VM_SEQ_READ,
  VM_SHARED,
  VM_WRITE,
  type VmArea,
  type vpn_t,
} from './mm_types.ts';
import type { Machine } from './mmzone.ts';
import {
  compound_head,
  get_page,
  get_page_unless_zero,
  PageAnon,
  PageCompound,
  PageKsm,
  PageLocked,
  PageMlocked,
  PageSwapCache,
  PageUptodate,
  type pfn_t,
  SetPageFlag,
  trylock_page,
  unlock_page,
} from './page.ts';
import { PG_anon_exclusive, PG_uptodate } from './page_flags.ts';
import {
  _PAGE_ACCESSED,
  _PAGE_DIRTY,
  _PAGE_RW,
  free_pgd_range,
  get_pte,
  is_migration_entry,
  is_write_migration_entry,
  make_migration_entry_read,
  mk_pte,
  next_mapped,
  PGDIR_SHIFT,
  PMD_SHIFT,
  pmd_alloc,
  pmd_huge,
  pte_alloc,
  pte_dirty,
  pte_mkclean,
  pte_mkdirty,
  pte_mkold,
  pte_mkwrite,
  pte_mkyoung,
  pte_pfn,
  pte_present,
  pte_table,
  pte_to_swp_entry,
  pte_write,
  pte_wrprotect,
  pte_young,
  set_pmd,
  swp_entry_to_pte,
  swp_offset,
} from './page_table.ts';
import {
  anon_vma_prepare,
  page_add_anon_rmap,
  page_add_file_rmap,
  page_add_new_anon_rmap,
  page_dup_rmap,
  page_move_anon_rmap,
  page_remove_rmap,
  unlink_anon_vmas,
} from './rmap.ts';
import {
  free_swap_and_cache,
  lookup_swap_cache,
  reuse_swap_page,
  swap_duplicate,
  swap_free,
  swapin_readahead,
  try_to_free_swap,
  vm_swap_full,
} from './swap_state.ts';
import { MmuGather } from './tlb.ts';
import { COW_KSM, count_vm_event, PGFAULT, PGMAJFAULT } from './vmstat.ts';

// What a fault ends in (mm.h). MINOR is 0.
export const VM_FAULT_MINOR = 0;
export const VM_FAULT_OOM = 0x1;
export const VM_FAULT_SIGBUS = 0x2;
export const VM_FAULT_MAJOR = 0x4;
export const VM_FAULT_WRITE = 0x8;
/** The fault has to wait for a locked page: repeat the access (later kernels' name). */
export const VM_FAULT_RETRY = 0x400;
/** A huge page could not be used: map a small one. */
export const VM_FAULT_FALLBACK = 0x800;
export const VM_FAULT_ERROR = VM_FAULT_OOM | VM_FAULT_SIGBUS;

/** A private area whose pages may be written: copied at the first write (memory.c). */
export function is_cow_mapping(flags: number): boolean {
  return (flags & (VM_SHARED | VM_MAYWRITE)) === VM_MAYWRITE;
}

/**
 * A page for an area by its memory policy, the area's before the task's: -1 without memory
 * (mempolicy.c: alloc_pages_vma). A bound area allocates from its node only.
 */
export function alloc_page_vma(m: Machine, gfp: number, vma: VmArea, vpn: vpn_t): pfn_t | -1 {
  let policy = vma.vm_policy;
  let nid = vma.vm_policy_nid;
  if (policy === MPOL_DEFAULT) {
    policy = vma.vm_mm.policy;
    nid = vma.vm_mm.policy_nid;
  }
  if (policy === MPOL_DEFAULT) return m.kernel.alloc_pages(m, gfp, 0);
  if (policy === MPOL_INTERLEAVE) {
    const nodes = m.nodes.length;
    return m.kernel.alloc_pages(m, gfp, 0, linear_page_index(vma, vpn) % nodes);
  }
  if (policy === MPOL_BIND) gfp |= __GFP_THISNODE;
  return m.kernel.alloc_pages(m, gfp, 0, nid);
}

/** The page of a present pte that has rmap and references; -1: the page of zeroes. */
function vm_normal_page(m: Machine, pte: number): pfn_t | -1 {
  const pfn = pte_pfn(pte);
  if (pfn === m.zero_pfn) return -1;
  // A part of the huge page of zeroes, as get_pte tells it.
  return m.huge_zero_pfn >= 0 && (pfn & ~511) === m.huge_zero_pfn ? -1 : pfn;
}

/** Write permission for areas that have it; a copy made for a read-only one stays so. */
function maybe_mkwrite(pte: number, vma: VmArea): number {
  return (vma.vm_flags & VM_WRITE) !== 0 ? pte_mkwrite(pte) : pte;
}

// ---- faults

/** First touch of anonymous memory: the page of zeroes for a read, a page of its own for a write. */
function do_anonymous_page(
  m: Machine,
  vma: VmArea,
  vpn: vpn_t,
  ptes: Int32Array,
  write: boolean,
): number {
  if (!write) {
    ptes[vpn & 511] = mk_pte(m.zero_pfn);
    return VM_FAULT_MINOR;
  }
  if (anon_vma_prepare(m, vma) !== 0) return VM_FAULT_OOM;
  const pfn = alloc_page_vma(m, GFP_HIGHUSER_MOVABLE | __GFP_ZERO, vma, vpn);
  if (pfn < 0) return VM_FAULT_OOM;
  SetPageFlag(m.memmap, pfn, PG_uptodate);
  let pte = mk_pte(pfn);
  if ((vma.vm_flags & VM_WRITE) !== 0) pte |= _PAGE_RW | _PAGE_DIRTY;
  vma.vm_mm.rss_stat[MM_ANONPAGES]!++;
  page_add_new_anon_rmap(m, pfn, vma, vpn);
  ptes[vpn & 511] = pte;
  return VM_FAULT_MINOR;
}

/** A fault on a page that somebody has locked: wait for it with a reference, then fault again. */
function wait_on_locked_page(m: Machine, task: Task | null, pfn: pfn_t): number {
  if (task !== null && get_page_unless_zero(m.memmap, pfn)) {
    BUG_ON(task.wait_page >= 0, 'fault: the task waits for a page already');
    task.wait_page = pfn;
  }
  return VM_FAULT_RETRY;
}

/** Ends a wait: drops the reference that the waiter held. */
export function finish_wait_on_page(m: Machine, task: Task): void {
  if (task.wait_page < 0) return;
  const pfn = task.wait_page;
  task.wait_page = -1;
  put_page(m, pfn);
}

/** A write to a present pte without write permission: reuse the page or copy it. */
function do_wp_page(
  m: Machine,
  task: Task | null,
  vma: VmArea,
  vpn: vpn_t,
  ptes: Int32Array,
): number {
  const p = m.memmap;
  const slot = vpn & 511;
  const orig = ptes[slot]!;
  const old_page = vm_normal_page(m, orig);
  const shared = (vma.vm_flags & (VM_WRITE | VM_SHARED)) === (VM_WRITE | VM_SHARED);
  if (old_page >= 0) {
    let reuse = false;
    if (PageCompound(p, old_page)) {
      reuse = m.kernel.thp!.reuse_huge_part(m, vma, old_page);
    } else if (PageAnon(p, old_page) && !PageKsm(p, old_page)) {
      if (!trylock_page(p, old_page)) return wait_on_locked_page(m, task, old_page);
      reuse = reuse_swap_page(m, old_page);
      // The page is ours alone: the anon_vma that others could share need not list it any more.
      if (reuse) page_move_anon_rmap(m, old_page, vma);
      unlock_page(p, old_page);
    } else if (shared) {
      reuse = true;
    }
    if (reuse) {
      ptes[slot] = maybe_mkwrite(pte_mkdirty(pte_mkyoung(orig)), vma);
      if (shared) set_page_dirty(m, old_page);
      return VM_FAULT_WRITE;
    }
    if (PageKsm(p, old_page)) m.vm_events[COW_KSM]!++;
    get_page(p, old_page);
  }
  const err = wp_page_copy(m, vma, vpn, ptes, old_page);
  if (old_page >= 0) put_page(m, old_page);
  return err;
}

/** The copying half of do_wp_page (label gotten); the caller holds a reference to the old page. */
function wp_page_copy(
  m: Machine,
  vma: VmArea,
  vpn: vpn_t,
  ptes: Int32Array,
  old_page: pfn_t | -1,
): number {
  const p = m.memmap;
  const mm = vma.vm_mm;
  const orig = ptes[vpn & 511]!;
  if (anon_vma_prepare(m, vma) !== 0) return VM_FAULT_OOM;
  const zero = old_page < 0 ? __GFP_ZERO : 0;
  const new_page = alloc_page_vma(m, GFP_HIGHUSER_MOVABLE | zero, vma, vpn);
  if (new_page < 0) return VM_FAULT_OOM;
  // Reclaim may have taken the old page out of the page table meanwhile: fault again (pte_same).
  if (ptes[vpn & 511] !== orig) {
    put_page(m, new_page);
    return VM_FAULT_MINOR;
  }
  if (old_page >= 0) m.contents.copy_page(old_page, new_page);
  SetPageFlag(p, new_page, PG_uptodate);
  // Another task, with an unlocked area, must not keep the mlocked page.
  if ((vma.vm_flags & VM_LOCKED) !== 0 && old_page >= 0 && !PageCompound(p, old_page)) {
    clear_page_mlock(m, old_page);
  }
  if (old_page < 0) mm.rss_stat[MM_ANONPAGES]!++;
  else if (!PageAnon(p, old_page)) {
    mm.rss_stat[MM_FILEPAGES]!--;
    mm.rss_stat[MM_ANONPAGES]!++;
  }
  ptes[vpn & 511] = 0;
  page_add_new_anon_rmap(m, new_page, vma, vpn);
  ptes[vpn & 511] = maybe_mkwrite(pte_mkdirty(mk_pte(new_page)), vma);
  if (old_page >= 0) {
    page_remove_rmap(m, old_page);
    put_page(m, old_page);
  }
  return VM_FAULT_WRITE;
}

/** First touch of a mapped file: its cached page, or a private copy for a write. */
function do_linear_fault(
  m: Machine,
  vma: VmArea,
  vpn: vpn_t,
  ptes: Int32Array,
  write: boolean,
): number {
  const p = m.memmap;
  const mm = vma.vm_mm;
  const slot = vpn & 511;
  const nr_major = m.vm_events[PGMAJFAULT]!;
  const page = filemap_fault(m, vma, linear_page_index(vma, vpn));
  if (page === -ENOMEM) return VM_FAULT_OOM;
  if (page === -EAGAIN) return VM_FAULT_RETRY;
  if (page < 0) return VM_FAULT_SIGBUS;
  const major = m.vm_events[PGMAJFAULT]! > nr_major ? VM_FAULT_MAJOR : VM_FAULT_MINOR;
  // From here on the page is ours: locked, uptodate, with a reference.
  BUG_ON(!PageLocked(p, page), 'do_fault: the page is not locked');
  if (write && (vma.vm_flags & VM_SHARED) === 0) {
    const copy = anon_vma_prepare(m, vma) !== 0 ? -1 : alloc_file_copy(m, vma, vpn, page);
    unlock_page(p, page);
    put_page(m, page);
    if (copy < 0) return VM_FAULT_OOM;
    mm.rss_stat[MM_ANONPAGES]!++;
    page_add_new_anon_rmap(m, copy, vma, vpn);
    ptes[slot] = maybe_mkwrite(pte_mkdirty(mk_pte(copy)), vma);
    return major;
  }
  let pte = mk_pte(page);
  if (write) pte = maybe_mkwrite(pte_mkdirty(pte), vma);
  mm.rss_stat[MM_FILEPAGES]!++;
  page_add_file_rmap(m, page);
  ptes[slot] = pte;
  if (write) set_page_dirty(m, page);
  unlock_page(p, page);
  return major;
}

function alloc_file_copy(m: Machine, vma: VmArea, vpn: vpn_t, page: pfn_t): pfn_t | -1 {
  const copy = alloc_page_vma(m, GFP_HIGHUSER_MOVABLE, vma, vpn);
  if (copy < 0) return -1;
  if ((vma.vm_flags & VM_LOCKED) !== 0) clear_page_mlock(m, page);
  m.contents.copy_page(page, copy);
  SetPageFlag(m.memmap, copy, PG_uptodate);
  return copy;
}

/** The pte holds a migration entry: wait until the page is unlocked (migrate.c). */
function migration_entry_wait(m: Machine, task: Task | null, entry: number): number {
  const pfn = swp_offset(entry);
  BUG_ON(!PageLocked(m.memmap, pfn), 'migration_entry_wait: nobody will wake us');
  return wait_on_locked_page(m, task, pfn);
}

/** A pte with a swap or migration entry. Also for khugepaged, which needs all pages of a range. */
export function do_swap_page(
  m: Machine,
  task: Task | null,
  vma: VmArea,
  vpn: vpn_t,
  ptes: Int32Array,
  write: boolean,
): number {
  const p = m.memmap;
  const mm = vma.vm_mm;
  const slot = vpn & 511;
  const entry = pte_to_swp_entry(ptes[slot]!);
  if (is_migration_entry(entry)) return migration_entry_wait(m, task, entry);
  let ret = VM_FAULT_MINOR;
  let page = lookup_swap_cache(m, entry);
  if (page < 0) {
    const nid = vma.vm_policy !== MPOL_DEFAULT ? vma.vm_policy_nid : -1;
    page = swapin_readahead(m, entry, GFP_HIGHUSER_MOVABLE, nid);
    if (page < 0) return VM_FAULT_OOM;
    ret = VM_FAULT_MAJOR;
    count_vm_event(m, PGMAJFAULT);
  }
  if (!trylock_page(p, page)) {
    const wait = wait_on_locked_page(m, task, page);
    put_page(m, page);
    return wait;
  }
  BUG_ON(!PageSwapCache(p, page), 'do_swap_page: the page left the swap cache');
  if (!PageUptodate(p, page)) {
    // It could not be read. Nobody else's contents may take its place.
    unlock_page(p, page);
    put_page(m, page);
    return VM_FAULT_SIGBUS;
  }
  if (m.kernel.ksm !== undefined) {
    page = m.kernel.ksm.ksm_might_need_to_copy(m, page, vma, vpn);
    if (page < 0) return VM_FAULT_OOM;
  }
  mm.rss_stat[MM_ANONPAGES]!++;
  mm.rss_stat[MM_SWAPENTS]!--;
  let pte = mk_pte(page);
  if (write && reuse_swap_page(m, page)) {
    pte = maybe_mkwrite(pte_mkdirty(pte), vma);
    write = false;
  }
  ptes[slot] = pte;
  page_add_anon_rmap(m, page, vma, vpn);
  swap_free(m, entry);
  if (vm_swap_full(m) || (vma.vm_flags & VM_LOCKED) !== 0 || PageMlocked(p, page)) {
    try_to_free_swap(m, page);
  }
  unlock_page(p, page);
  if (write) ret |= do_wp_page(m, task, vma, vpn, ptes);
  return ret;
}

/** Makes the page at `vpn` present and, for a write, writable: VM_FAULT_*. */
export function handle_mm_fault(
  m: Machine,
  task: Task | null,
  mm: MmStruct,
  vma: VmArea,
  vpn: vpn_t,
  write: boolean,
): number {
  // The OOM killer must not take the address space apart under the fault.
  const outer = m.current_mm;
  m.current_mm = mm;
  const fault = handle_pte_fault(m, task, mm, vma, vpn, write);
  m.current_mm = outer;
  return fault;
}

/** The upper level's part of a fault: a huge page, or VM_FAULT_FALLBACK to go on with ptes. */
function handle_pmd_fault(
  m: Machine,
  thp: ThpOps,
  vma: VmArea,
  vpn: vpn_t,
  write: boolean,
): number {
  const mm = vma.vm_mm;
  const table = pmd_alloc(m, mm, vpn);
  if (table === null) return VM_FAULT_OOM;
  if (table.tables![(vpn >>> PMD_SHIFT) & 511]! !== null) return VM_FAULT_FALLBACK;
  const pmd = pmd_huge(mm, vpn);
  if (pmd === 0) return thp.create_huge_pmd(m, vma, vpn, write);
  if (write && !pte_write(pmd)) return thp.wp_huge_pmd(m, vma, vpn);
  set_pmd(mm, vpn, pmd | _PAGE_ACCESSED | (write ? _PAGE_DIRTY : 0));
  return VM_FAULT_MINOR;
}

function handle_pte_fault(
  m: Machine,
  task: Task | null,
  mm: MmStruct,
  vma: VmArea,
  vpn: vpn_t,
  write: boolean,
): number {
  count_vm_event(m, PGFAULT);
  if (is_vm_hugetlb_page(vma)) {
    const err = hugetlb_fault(m, vma, vpn, write);
    return err === 0 ? VM_FAULT_MINOR : err === -EIO ? VM_FAULT_SIGBUS : VM_FAULT_OOM;
  }
  if (m.kernel.thp !== undefined && mm.last_table_index !== vpn >>> PMD_SHIFT) {
    const fault = handle_pmd_fault(m, m.kernel.thp, vma, vpn, write);
    if ((fault & VM_FAULT_FALLBACK) === 0) return fault;
  }
  const table = pte_alloc(m, mm, vpn);
  if (table === null) return VM_FAULT_OOM;
  const ptes = table.ptes!;
  const pte = ptes[vpn & 511]!;
  if (!pte_present(pte)) {
    if (pte !== 0) return do_swap_page(m, task, vma, vpn, ptes, write);
    if (vma.vm_file !== null) return do_linear_fault(m, vma, vpn, ptes, write);
    return do_anonymous_page(m, vma, vpn, ptes, write);
  }
  if (write && !pte_write(pte)) return do_wp_page(m, task, vma, vpn, ptes);
  ptes[vpn & 511] = pte | _PAGE_ACCESSED | (write ? _PAGE_DIRTY : 0);
  return VM_FAULT_MINOR;
}

/** Pages that a stack may have (RLIMIT_STACK, 8 MiB). */
export const STACK_LIMIT_BYTES = 8 * 1024 * 1024;

/** Grows a stack area down to `vpn`: 0 or -ENOMEM (mmap.c: expand_downwards). */
function expand_stack(m: Machine, vma: VmArea, vpn: vpn_t): number {
  // Even without a page yet, so that the anon_vma covers what grows (as Linux does it).
  if (anon_vma_prepare(m, vma) !== 0) return -ENOMEM;
  const size = vma.vm_end - vpn;
  if (size * (1 << m.shape.page_shift) > STACK_LIMIT_BYTES) return -ENOMEM;
  const grow = vma.vm_start - vpn;
  if (grow > vma.vm_pgoff) return -ENOMEM;
  const mm = vma.vm_mm;
  mm.total_vm += grow;
  mm.stack_vm += grow;
  m.vm_committed_as += grow;
  if ((vma.vm_flags & VM_LOCKED) !== 0) mm.locked_vm += grow;
  vma.vm_start = vpn;
  vma.vm_pgoff -= grow;
  m.kernel.thp?.khugepaged_enter_vma(m, vma, vma.vm_flags);
  return 0;
}

/**
 * One access of a task to memory, as CPU and do_page_fault carry it out. 0; -EFAULT (SIGSEGV);
 * -EIO (SIGBUS: behind the end of a file); -ENOMEM; -EAGAIN: a page is locked, repeat later. The
 * OOM killer may have chosen the task meanwhile: fork.ts, finish_call.
 */
export function access_page(m: Machine, task: Task, vpn: vpn_t, write: boolean): number {
  const mm = task.mm;
  if (mm === null) return -EFAULT;
  const table = pte_table(mm, vpn);
  const pte = table !== null ? table.ptes![vpn & 511]! : pmd_huge(mm, vpn);
  if (pte_present(pte) && (!write || pte_write(pte))) {
    // The area must allow reading: PROT_NONE is not kept in ptes here.
    const vma = find_vma(mm, vpn)!;
    if ((vma.vm_flags & (VM_READ | VM_WRITE | VM_EXEC)) === 0) return -EFAULT;
    const used = pte | _PAGE_ACCESSED | (write ? _PAGE_DIRTY : 0);
    if (table !== null) table.ptes![vpn & 511] = used;
    else set_pmd(mm, vpn, used);
    return 0;
  }
  for (;;) {
    const err = do_page_fault(m, task, mm, vpn, write);
    if (err !== 0) return err;
    // A fault that lost its page to reclaim meanwhile has done nothing: the access faults again.
    const vma = find_vma(mm, vpn)!;
    const pte = is_vm_hugetlb_page(vma) ? huge_pte(m, vma, vpn) : get_pte(mm, vpn);
    if (pte_present(pte) && (!write || pte_write(pte))) return 0;
  }
}

function do_page_fault(m: Machine, task: Task, mm: MmStruct, vpn: vpn_t, write: boolean): number {
  if (task.wait_page >= 0) {
    if (PageLocked(m.memmap, task.wait_page)) return -EAGAIN;
    finish_wait_on_page(m, task);
  }
  const vma = find_vma(mm, vpn);
  if (vma === null) return -EFAULT;
  if (vpn < vma.vm_start) {
    if ((vma.vm_flags & VM_GROWSDOWN) === 0) return -EFAULT;
    if (expand_stack(m, vma, vpn) !== 0) return -EFAULT;
  }
  if (write ? (vma.vm_flags & VM_WRITE) === 0 : (vma.vm_flags & 7) === 0) return -EFAULT;
  const current = m.current;
  m.current = task;
  const fault = handle_mm_fault(m, task, mm, vma, vpn, write);
  m.current = current;
  if ((fault & VM_FAULT_RETRY) !== 0) return -EAGAIN;
  if ((fault & VM_FAULT_OOM) !== 0) return -ENOMEM;
  if ((fault & VM_FAULT_SIGBUS) !== 0) return -EIO;
  if ((fault & VM_FAULT_MAJOR) !== 0) task.maj_flt++;
  else task.min_flt++;
  return 0;
}

/** The frame at `vpn`, which an access has just found. */
function accessed_frame(m: Machine, mm: MmStruct, vpn: vpn_t): pfn_t {
  const pte = get_pte(mm, vpn);
  return pte !== 0 ? pte_pfn(pte) : huge_page_frame(m, mm, vpn);
}

/** Writes the content tag of the page at `vpn`: 0 or an errno of access_page. */
export function write_tag(m: Machine, task: Task, vpn: vpn_t, tag: number): number {
  const err = access_page(m, task, vpn, true);
  if (err !== 0) return err;
  m.contents.set_tag(accessed_frame(m, task.mm!, vpn), tag);
  return 0;
}

/** Reads the content tag of the page at `vpn`: 0 .. 2^32-1, or an errno of access_page. */
export function read_tag(m: Machine, task: Task, vpn: vpn_t): number {
  const err = access_page(m, task, vpn, false);
  if (err !== 0) return err;
  return m.contents.get_tag(accessed_frame(m, task.mm!, vpn));
}

/**
 * Faults a page in without a user's access, as mlock and MAP_POPULATE do (__get_user_pages): the
 * page with a reference, or the page of zeroes (m.zero_pfn) without one. -EAGAIN, -ENOMEM, -EFAULT.
 */
export function get_user_page(m: Machine, vma: VmArea, vpn: vpn_t, write: boolean): pfn_t {
  const mm = vma.vm_mm;
  let copied = false;
  for (;;) {
    const pte = get_pte(mm, vpn);
    // follow_page; after do_wp_page made a copy for a read-only area the write flag is dropped.
    if (pte_present(pte) && (!write || pte_write(pte) || copied)) {
      const pfn = vm_normal_page(m, pte);
      if (pfn < 0) return m.zero_pfn;
      get_page(m.memmap, pfn);
      const head = compound_head(m.memmap, pfn);
      if (write && !pte_dirty(pte)) set_page_dirty(m, head);
      mark_page_accessed(m, head);
      return pfn;
    }
    const fault = handle_mm_fault(m, null, mm, vma, vpn, write);
    if ((fault & VM_FAULT_RETRY) !== 0) return -EAGAIN;
    if ((fault & VM_FAULT_OOM) !== 0) return -ENOMEM;
    if ((fault & VM_FAULT_SIGBUS) !== 0) return -EFAULT;
    copied = (fault & VM_FAULT_WRITE) !== 0;
  }
}

/** Faults in all pages of [start, end): 0 or -errno (memory.c: make_pages_present). */
export function make_pages_present(m: Machine, mm: MmStruct, start: vpn_t, end: vpn_t): number {
  for (let vpn = start; vpn < end; vpn++) {
    const vma = find_vma(mm, vpn);
    if (vma === null || vpn < vma.vm_start) return -ENOMEM;
    const pfn = get_user_page(m, vma, vpn, (vma.vm_flags & VM_WRITE) !== 0);
    if (pfn < 0) return pfn;
    if (pfn !== m.zero_pfn) put_page(m, pfn);
  }
  return 0;
}

// ---- fork

/** Copies one pte that is not empty to the child (memory.c: copy_one_pte): 0 or -ENOMEM. */
function copy_one_pte(
  m: Machine,
  dst: MmStruct,
  dst_ptes: Int32Array,
  src_ptes: Int32Array,
  slot: number,
  vma: VmArea,
): number {
  let pte = src_ptes[slot]!;
  if (!pte_present(pte)) {
    const entry = pte_to_swp_entry(pte);
    if (!is_migration_entry(entry)) {
      if (swap_duplicate(m, entry) < 0) return -ENOMEM;
      dst.rss_stat[MM_SWAPENTS]!++;
    } else if (is_write_migration_entry(entry) && is_cow_mapping(vma.vm_flags)) {
      // Both sides must copy at their next write, whatever migration restores.
      pte = swp_entry_to_pte(make_migration_entry_read(entry));
      src_ptes[slot] = pte;
    }
    dst_ptes[slot] = pte;
    return 0;
  }
  if (is_cow_mapping(vma.vm_flags)) {
    pte = pte_wrprotect(pte);
    src_ptes[slot] = pte;
  }
  if ((vma.vm_flags & VM_SHARED) !== 0) pte = pte_mkclean(pte);
  pte = pte_mkold(pte);
  const page = vm_normal_page(m, pte);
  if (page >= 0) {
    get_page(m.memmap, page);
    page_dup_rmap(m, page);
    // What fork shares is nobody's own any more; single pages go by their map count.
    m.memmap.flags[page]! &= ~PG_anon_exclusive;
    dst.rss_stat[PageAnon(m.memmap, page) ? MM_ANONPAGES : MM_FILEPAGES]!++;
  }
  dst_ptes[slot] = pte;
  return 0;
}

/** Copies an area's ptes from one address space to another at fork: 0 or -ENOMEM. */
export function copy_page_range(m: Machine, dst: MmStruct, src: MmStruct, vma: VmArea): number {
  if (is_vm_hugetlb_page(vma)) return copy_hugetlb_page_range(m, dst, src, vma);
  // What only faults can bring back is not copied: file pages without private copies.
  if (vma.anon_vma === null) return 0;
  let vpn = next_mapped(src, vma.vm_start, vma.vm_end);
  while (vpn < vma.vm_end) {
    if (pmd_huge(src, vpn) !== 0) {
      if (pmd_alloc(m, dst, vpn) === null) return -ENOMEM;
      const err = copy_huge_pmd(m, dst, src, hpage_start(vpn));
      if (err === -ENOMEM) return err;
      if (err === 0) vpn = next_mapped(src, (vpn | 511) + 1, vma.vm_end);
      continue;
    }
    const dst_table = pte_alloc(m, dst, vpn);
    if (dst_table === null) return -ENOMEM;
    const src_ptes = pte_table(src, vpn)!.ptes!;
    const dst_ptes = dst_table.ptes!;
    const end = Math.min(vma.vm_end, (vpn | 511) + 1);
    for (; vpn < end; vpn++) {
      if (src_ptes[vpn & 511] === 0) continue;
      if (copy_one_pte(m, dst, dst_ptes, src_ptes, vpn & 511, vma) !== 0) return -ENOMEM;
    }
    vpn = next_mapped(src, vpn, vma.vm_end);
  }
  return 0;
}

// ---- unmapping

/**
 * Clears the ptes of [start, end) of an area. With `check_mapping` only pages of that file go, and
 * swap entries stay (truncation that keeps private copies). (memory.c: zap_pte_range)
 */
function unmap_page_range(
  m: Machine,
  tlb: MmuGather,
  vma: VmArea,
  start: vpn_t,
  end: vpn_t,
  check_mapping: AddressSpace | null,
): void {
  const p = m.memmap;
  const mm = vma.vm_mm;
  const rss = mm.rss_stat;
  for (let vpn = next_mapped(mm, start, end); vpn < end; vpn = next_mapped(mm, vpn, end)) {
    const stop = Math.min(end, (vpn | 511) + 1);
    if (pmd_huge(mm, vpn) !== 0) {
      if (stop - vpn === HPAGE_PMD_NR) {
        zap_huge_pmd(m, tlb, mm, vpn);
        vpn = stop;
        continue;
      }
      __split_huge_pmd(m, vma, vpn);
    }
    const ptes = pte_table(mm, vpn)!.ptes!;
    for (; vpn < stop; vpn++) {
      const pte = ptes[vpn & 511]!;
      if (pte === 0) continue;
      if (!pte_present(pte)) {
        if (check_mapping !== null) continue;
        const entry = pte_to_swp_entry(pte);
        // A migration entry does not change rss here, as in 2.6.35.
        if (!is_migration_entry(entry)) rss[MM_SWAPENTS]!--;
        BUG_ON(!free_swap_and_cache(m, entry), 'zap_pte_range: a bad pte');
        ptes[vpn & 511] = 0;
        continue;
      }
      const page = vm_normal_page(m, pte);
      if (check_mapping !== null) {
        if (page < 0 || p.mapping[page] !== check_mapping.id << 2) continue;
      }
      ptes[vpn & 511] = 0;
      if (page < 0) continue;
      if (PageAnon(p, page)) rss[MM_ANONPAGES]!--;
      else {
        if (pte_dirty(pte)) set_page_dirty(m, page);
        if (pte_young(pte) && (vma.vm_flags & VM_SEQ_READ) === 0) mark_page_accessed(m, page);
        rss[MM_FILEPAGES]!--;
      }
      page_remove_rmap(m, page);
      tlb.tlb_remove_page(m, page);
    }
  }
}

/** Unmaps [start, end) of the areas from index `first` on that it covers (memory.c: unmap_vmas). */
export function unmap_vmas(
  m: Machine,
  tlb: MmuGather,
  areas: readonly VmArea[],
  start: vpn_t,
  end: vpn_t,
): void {
  for (const vma of areas) {
    const from = Math.max(vma.vm_start, start);
    const to = Math.min(vma.vm_end, end);
    if (from >= to) continue;
    if (is_vm_hugetlb_page(vma)) unmap_hugepage_range(m, vma, from, to);
    else unmap_page_range(m, tlb, vma, from, to, null);
  }
}

/** Throws away the pages of a part of one area (memory.c: zap_page_range). */
export function zap_page_range(m: Machine, vma: VmArea, start: vpn_t, end: vpn_t): void {
  lru_add_drain(m);
  const tlb = new MmuGather(m);
  update_hiwater_rss(vma.vm_mm);
  unmap_page_range(m, tlb, vma, start, end, null);
  tlb.tlb_finish_mmu(m);
}

/**
 * Takes a file's pages [first, last] out of all address spaces, before they are truncated. With
 * `even_cows` private copies go too. (memory.c: unmap_mapping_range)
 */
export function unmap_mapping_range(
  m: Machine,
  mapping: AddressSpace,
  first: number,
  last: number,
  even_cows: boolean,
): void {
  for (const vma of mapping.i_mmap) {
    const start = Math.max(first, vma.vm_pgoff);
    const end = Math.min(last + 1, vma.vm_pgoff + vma.vm_end - vma.vm_start);
    if (start >= end) continue;
    const base = vma.vm_start - vma.vm_pgoff;
    const tlb = new MmuGather(m);
    unmap_page_range(m, tlb, vma, base + start, base + end, even_cows ? null : mapping);
    tlb.tlb_finish_mmu(m);
  }
}

/**
 * Takes areas that are unmapped already out of reverse mapping, then frees the page tables that
 * only they needed: those between `floor` and `ceiling`, where other areas begin (memory.c).
 */
export function free_pgtables(
  m: Machine,
  tlb: MmuGather,
  areas: readonly VmArea[],
  floor: vpn_t,
  ceiling: vpn_t,
): void {
  for (let i = 0; i < areas.length; i++) {
    const vma = areas[i]!;
    const addr = vma.vm_start;
    unlink_anon_vmas(m, vma);
    unlink_file_vma(vma);
    // Areas close to each other share tables: one walk for all of them.
    let last = vma;
    while (i + 1 < areas.length && areas[i + 1]!.vm_start <= last.vm_end + (1 << PMD_SHIFT)) {
      last = areas[++i]!;
      unlink_anon_vmas(m, last);
      unlink_file_vma(last);
    }
    const above = areas[i + 1];
    const limit = above === undefined ? ceiling : above.vm_start;
    free_pgd_range(m, tlb, vma.vm_mm, addr, last.vm_end, floor, limit);
  }
}

/** The file no longer lists the area (mmap.c: unlink_file_vma). */
export function unlink_file_vma(vma: VmArea): void {
  if (vma.vm_file === null) return;
  const list = vma.vm_file.mapping.i_mmap;
  const at = list.lastIndexOf(vma);
  if (at >= 0) list.splice(at, 1);
}

/** Everything of an address space that is above all areas. */
export const NO_CEILING = 2 ** (PGDIR_SHIFT + 4);

/** The present page at `vpn` or -1; the page of zeroes counts as none (memory.c: follow_page). */
export function follow_page(m: Machine, mm: MmStruct, vpn: vpn_t): pfn_t | -1 {
  const pte = get_pte(mm, vpn);
  return pte_present(pte) ? vm_normal_page(m, pte) : huge_page_frame(m, mm, vpn);
}
