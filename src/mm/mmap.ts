/**
 * Areas of an address space: mapping, unmapping, splitting, merging, brk.
 *
 * New areas come below mmap_base, top down, with Linux's cache of the last place and the largest
 * hole passed over. Adjacent areas of the same kind merge, in the eight cases that mmap.c draws;
 * a split clones the anon_vma chains. All addresses and lengths are pages.
 * Linux: mm/mmap.c of 2.6.35. Differs: no
 * address randomization; no bottom-up search when the top-down one fails; areas of a file are
 * listed in the order of mapping.
 */
import { BUG_ON } from '../lib/bug.ts';
import { EINVAL, ENOMEM } from '../lib/errno.ts';
import { vma_adjust_trans_huge } from './huge_memory.ts';
import {
  hstate_vma,
  hugetlb_file_setup,
  hugetlb_reserve_pages,
  hugetlb_vm_op_close,
  hugetlb_vm_op_open,
  is_vm_hugetlb_page,
} from './hugetlb.ts';
import { hugetlb_total_pages } from './hugetlb_def.ts';
import { lru_add_drain } from './lru.ts';
import {
  free_pgtables,
  make_pages_present,
  NO_CEILING,
  unlink_file_vma,
  unmap_vmas,
} from './memory.ts';
import { mlock_vma_pages_range, munlock_vma_pages_range } from './mlock.ts';
import {
  find_vma_index,
  type MmapFile,
  MmStruct,
  MPOL_DEFAULT,
  TASK_SIZE_PAGES,
  VM_ACCOUNT,
  VM_CAN_NONLINEAR,
  VM_EXEC,
  VM_GROWSDOWN,
  VM_HUGETLB,
  VM_LOCKED,
  VM_MAYEXEC,
  VM_MAYREAD,
  VM_MAYSHARE,
  VM_MAYWRITE,
  VM_NORESERVE,
  VM_READ,
  VM_RESERVED,
  VM_SHARED,
  VM_SPECIAL,
  VM_WRITE,
  VmArea,
  type vpn_t,
} from './mm_types.ts';
import type { Machine } from './mmzone.ts';
import { pgd_alloc, pgd_free } from './page_table.ts';
import { PROC_MM, PROC_VMA, proc_object_alloc, proc_object_free } from './proc_caches.ts';
import { anon_vma_clone, unlink_anon_vmas } from './rmap.ts';
import { shmem_file_setup } from './shmem.ts';
import { MmuGather } from './tlb.ts';
import { global_page_state, NR_FILE_PAGES, NR_FREE_PAGES, NR_SLAB_RECLAIMABLE } from './vmstat.ts';

export const PROT_READ = VM_READ;
export const PROT_WRITE = VM_WRITE;
export const PROT_EXEC = VM_EXEC;

export const MAP_SHARED = 0x01;
export const MAP_PRIVATE = 0x02;
export const MAP_FIXED = 0x10;
export const MAP_ANONYMOUS = 0x20;
export const MAP_GROWSDOWN = 0x100;
export const MAP_LOCKED = 0x2000;
export const MAP_NORESERVE = 0x4000;
export const MAP_POPULATE = 0x8000;

/** Areas of a process at most (vm.max_map_count while that is not set). */
const DEFAULT_MAX_MAP_COUNT = 65530;
/** Room kept for the stack below the top: 128 MiB (arch/x86/mm/mmap.c: MIN_GAP). */
const STACK_GAP_BYTES = 128 * 1024 * 1024;

const OVERCOMMIT_GUESS = 0;
const OVERCOMMIT_ALWAYS = 1;

// ---- address spaces

/** A new, empty address space, or null without memory (fork.c: mm_alloc, mm_init). */
export function mm_alloc(m: Machine): MmStruct | null {
  const object = proc_object_alloc(m, PROC_MM);
  if (object === 0) return null;
  const mm = new MmStruct();
  mm.object = object;
  mm.mmap_base = TASK_SIZE_PAGES - STACK_GAP_BYTES / 2 ** m.shape.page_shift;
  mm.free_area_cache = mm.mmap_base;
  if (!pgd_alloc(m, mm)) {
    proc_object_free(m, PROC_MM, object);
    return null;
  }
  return mm;
}

/** Drops a user; the last one tears everything down (fork.c: mmput). */
export function mmput(m: Machine, mm: MmStruct): void {
  if (--mm.mm_users > 0) return;
  m.kernel.ksm?.ksm_exit(m, mm);
  m.kernel.thp?.khugepaged_exit(m, mm);
  exit_mmap(m, mm);
  m.kernel.thp?.mm_put_huge_zero_page(m, mm);
  mmdrop(m, mm);
}

/** Drops a hold on the structure; the last one frees it and its page directory (fork.c). */
export function mmdrop(m: Machine, mm: MmStruct): void {
  if (--mm.mm_count > 0) return;
  pgd_free(m, mm);
  proc_object_free(m, PROC_MM, mm.object);
}

/** Frees all areas, pages and tables (mmap.c: exit_mmap). */
export function exit_mmap(m: Machine, mm: MmStruct): void {
  if (mm.locked_vm > 0) {
    for (const vma of mm.mmap) {
      if ((vma.vm_flags & VM_LOCKED) !== 0) {
        munlock_vma_pages_range(m, vma, vma.vm_start, vma.vm_end);
      }
    }
  }
  if (mm.mmap.length === 0) return;
  lru_add_drain(m);
  const tlb = new MmuGather(m);
  const areas = mm.mmap.slice();
  unmap_vmas(m, tlb, areas, 0, NO_CEILING);
  for (const vma of areas) unaccount(m, vma);
  free_pgtables(m, tlb, areas, 0, NO_CEILING);
  tlb.tlb_finish_mmu(m);
  for (const vma of areas) free_vma(m, vma);
  mm.mmap.length = 0;
  BUG_ON(mm.nr_ptes !== 0, 'exit_mmap: page tables are left');
}

function unaccount(m: Machine, vma: VmArea): void {
  if ((vma.vm_flags & VM_ACCOUNT) !== 0) m.vm_committed_as -= vma.vm_end - vma.vm_start;
}

// ---- areas

/** A copy of an area without chains and lists, or null without memory. */
export function copy_vma_struct(m: Machine, mm: MmStruct, from: VmArea): VmArea | null {
  const vma = alloc_vma(m, mm, from.vm_start, from.vm_end, from.vm_flags, from.vm_pgoff);
  if (vma === null) return null;
  vma.vm_file = from.vm_file;
  vma.anon_vma = from.anon_vma;
  vma.vm_policy = from.vm_policy;
  vma.vm_policy_nid = from.vm_policy_nid;
  return vma;
}

function alloc_vma(
  m: Machine,
  mm: MmStruct,
  start: vpn_t,
  end: vpn_t,
  flags: number,
  pgoff: number,
): VmArea | null {
  const object = proc_object_alloc(m, PROC_VMA);
  if (object === 0) return null;
  const vma = new VmArea(mm, start, end, flags, pgoff);
  vma.object = object;
  return vma;
}

/** Frees an area that is on no list any more, and its hold on the file (mmap.c: remove_vma). */
function free_vma(m: Machine, vma: VmArea): void {
  if (is_vm_hugetlb_page(vma)) hugetlb_vm_op_close(m, vma);
  if (vma.vm_file !== null) fput(vma.vm_file);
  proc_object_free(m, PROC_VMA, vma.object);
}

/** One more area holds the file. */
export function get_file(file: MmapFile): void {
  file.f_count++;
}

/** Drops it; at 0 the file is closed (fs/file_table.c: fput). */
export function fput(file: MmapFile): void {
  if (--file.f_count === 0) file.open?.release();
}

/** Puts an area into its place among the others; the file lists it (mmap.c: vma_link). */
export function insert_vm_struct(mm: MmStruct, vma: VmArea): void {
  const at = find_vma_index(mm, vma.vm_start);
  const next = mm.mmap[at];
  BUG_ON(next !== undefined && next.vm_start < vma.vm_end, 'vma_link: areas overlap');
  mm.mmap.splice(at, 0, vma);
  mm.mmap_cache = at;
  if (vma.vm_file !== null) vma.vm_file.mapping.i_mmap.push(vma);
}

/** Books an area's pages under its kind (mmap.c: vm_stat_account; total_vm by the callers). */
export function vm_stat_account(
  mm: MmStruct,
  flags: number,
  file: MmapFile | null,
  pages: number,
): void {
  if (file !== null) {
    mm.shared_vm += pages;
    if ((flags & (VM_EXEC | VM_WRITE)) === VM_EXEC) mm.exec_vm += pages;
  } else if ((flags & VM_GROWSDOWN) !== 0) mm.stack_vm += pages;
  if ((flags & VM_SPECIAL) !== 0) mm.reserved_vm += pages;
}

function sysctl(m: Machine, name: string, fallback: number): number {
  return m.sysctl[name] ?? fallback;
}

/**
 * Whether so many more pages may be promised, by vm.overcommit_memory: 0 or -ENOMEM; they are
 * booked then (mmap.c: __vm_enough_memory, for the super-user).
 */
export function vm_enough_memory(m: Machine, pages: number): number {
  m.vm_committed_as += pages;
  const mode = sysctl(m, 'overcommit_memory', OVERCOMMIT_GUESS);
  if (mode === OVERCOMMIT_ALWAYS) return 0;
  if (mode === OVERCOMMIT_GUESS) {
    let free = global_page_state(m, NR_FILE_PAGES) + m.nr_swap_pages;
    free += global_page_state(m, NR_SLAB_RECLAIMABLE);
    if (free > pages) return 0;
    const n = global_page_state(m, NR_FREE_PAGES) - m.totalreserve_pages;
    if (n > 0) free += n;
    if (free > pages) return 0;
  } else {
    const ratio = sysctl(m, 'overcommit_ratio', 50);
    const allowed =
      Math.floor(((m.totalram_pages - hugetlb_total_pages(m)) * ratio) / 100) + m.total_swap_pages;
    if (m.vm_committed_as < allowed) return 0;
  }
  m.vm_committed_as -= pages;
  return -ENOMEM;
}

// ---- merging and splitting

function is_mergeable_vma(vma: VmArea, file: MmapFile | null, flags: number): boolean {
  return ((vma.vm_flags ^ flags) & ~VM_CAN_NONLINEAR) === 0 && vma.vm_file === file;
}

/** What a wish to merge asks: an area's properties, with an own anon_vma or none. */
interface MergeWish {
  flags: number;
  anon_vma: VmArea['anon_vma'];
  file: MmapFile | null;
  pgoff: number;
  policy: number;
  policy_nid: number;
}

const same_policy = (vma: VmArea, wish: MergeWish): boolean =>
  vma.vm_policy === wish.policy && vma.vm_policy_nid === wish.policy_nid;

const same_anon_vma = (a: VmArea['anon_vma'], b: VmArea['anon_vma']): boolean =>
  a === null || b === null || a === b;

/**
 * Changes the bounds of an area, taking from or giving to its next one, which may vanish (or two
 * of them). With `insert` the area shrinks and the new one takes the rest. 0 or -ENOMEM, and then
 * nothing has changed. (mmap.c: vma_adjust)
 */
function vma_adjust(
  m: Machine,
  vma: VmArea,
  start: vpn_t,
  end: vpn_t,
  pgoff: number,
  insert: VmArea | null,
): number {
  const mm = vma.vm_mm;
  const at = find_vma_index(mm, vma.vm_start);
  BUG_ON(mm.mmap[at] !== vma, 'vma_adjust: the area is in no address space');
  const next = mm.mmap[at + 1];
  let removed = 0;
  let shift = 0;
  if (next !== undefined && insert === null) {
    let exporter: VmArea | null = null;
    let importer: VmArea = vma;
    if (end >= next.vm_end) {
      removed = end > next.vm_end ? 2 : 1;
      exporter = next;
    } else if (end > next.vm_start) {
      shift = end - next.vm_start;
      exporter = next;
    } else if (end < vma.vm_end) {
      shift = end - vma.vm_end;
      exporter = vma;
      importer = next;
    }
    // The area that grows must list all pages that it takes over.
    if (exporter !== null && exporter.anon_vma !== null && importer.anon_vma === null) {
      if (anon_vma_clone(m, importer, exporter) !== 0) return -ENOMEM;
      importer.anon_vma = exporter.anon_vma;
    }
    if (removed === 2) {
      const second = mm.mmap[at + 2]!;
      if (second.anon_vma !== null && vma.anon_vma === null) {
        if (anon_vma_clone(m, vma, second) !== 0) return -ENOMEM;
        vma.anon_vma = second.anon_vma;
      }
    }
  }
  vma_adjust_trans_huge(m, vma, start, end, next, shift);
  vma.vm_start = start;
  vma.vm_end = end;
  vma.vm_pgoff = pgoff;
  if (shift !== 0) {
    next!.vm_start += shift;
    next!.vm_pgoff += shift;
  }
  for (let i = 0; i < removed; i++) {
    const gone = mm.mmap[at + 1]!;
    mm.mmap.splice(at + 1, 1);
    unlink_file_vma(gone);
    unlink_anon_vmas(m, gone);
    free_vma(m, gone);
  }
  if (insert !== null) insert_vm_struct(mm, insert);
  mm.mmap_cache = 0;
  return 0;
}

/** The area that a merge gave; being larger it may be good for huge pages now. */
function merged(m: Machine, vma: VmArea, wish: MergeWish, err: number): VmArea | null {
  if (err !== 0) return null;
  m.kernel.thp?.khugepaged_enter_vma(m, vma, wish.flags);
  return vma;
}

/**
 * Tries to express [addr, end) with new properties by moving the bounds of its neighbours. The area
 * that contains it then, or null when it needs one of its own. (mmap.c: vma_merge, cases 1-8)
 */
function vma_merge(
  m: Machine,
  mm: MmStruct,
  addr: vpn_t,
  end: vpn_t,
  wish: MergeWish,
): VmArea | null {
  if ((wish.flags & VM_SPECIAL) !== 0) return null;
  const pages = end - addr;
  // The last area that begins below addr, and what follows it.
  const after = find_vma_index(mm, addr);
  const at_addr = mm.mmap[after];
  const prev_index = at_addr !== undefined && at_addr.vm_start < addr ? after : after - 1;
  const prev = mm.mmap[prev_index];
  let area = mm.mmap[prev_index + 1];
  let next = area;
  if (next !== undefined && next.vm_end === end) next = mm.mmap[prev_index + 2]; // cases 6, 7, 8

  const after_prev =
    prev !== undefined &&
    prev.vm_end === addr &&
    same_policy(prev, wish) &&
    is_mergeable_vma(prev, wish.file, wish.flags) &&
    same_anon_vma(wish.anon_vma, prev.anon_vma) &&
    prev.vm_pgoff + (prev.vm_end - prev.vm_start) === wish.pgoff;
  const before_next =
    next !== undefined &&
    end === next.vm_start &&
    same_policy(next, wish) &&
    is_mergeable_vma(next, wish.file, wish.flags) &&
    same_anon_vma(wish.anon_vma, next.anon_vma) &&
    next.vm_pgoff === wish.pgoff + pages;

  if (after_prev) {
    // Cases 1 and 6 join prev and next; 2, 5 and 7 only extend prev.
    const both = before_next && same_anon_vma(prev.anon_vma, next!.anon_vma);
    const new_end = both ? next!.vm_end : end;
    const err = vma_adjust(m, prev, prev.vm_start, new_end, prev.vm_pgoff, null);
    return merged(m, prev, wish, err);
  }
  if (before_next) {
    if (prev !== undefined && addr < prev.vm_end) {
      // Case 4: the bound between prev and next moves down.
      const err = vma_adjust(m, prev, prev.vm_start, addr, prev.vm_pgoff, null);
      return merged(m, next!, wish, err);
    }
    // Cases 3 and 8: the area that begins at addr (or next itself) grows to next's end.
    area ??= next!;
    const err = vma_adjust(m, area, addr, next!.vm_end, next!.vm_pgoff - pages, null);
    return merged(m, area, wish, err);
  }
  return null;
}

/**
 * Splits an area at `addr`; the new one is the lower part when `new_below`. 0 or -ENOMEM
 * (mmap.c: __split_vma).
 */
function __split_vma(m: Machine, vma: VmArea, addr: vpn_t, new_below: boolean): number {
  if (is_vm_hugetlb_page(vma) && addr % 2 ** hstate_vma(m, vma).order !== 0) return -EINVAL;
  const fresh = copy_vma_struct(m, vma.vm_mm, vma);
  if (fresh === null) return -ENOMEM;
  if (new_below) fresh.vm_end = addr;
  else {
    fresh.vm_start = addr;
    fresh.vm_pgoff += addr - vma.vm_start;
  }
  if (anon_vma_clone(m, fresh, vma) !== 0) {
    proc_object_free(m, PROC_VMA, fresh.object);
    return -ENOMEM;
  }
  if (fresh.vm_file !== null) get_file(fresh.vm_file);
  fresh.resv_map = vma.resv_map;
  fresh.resv_unmapped = vma.resv_unmapped;
  if (is_vm_hugetlb_page(fresh)) hugetlb_vm_op_open(fresh);
  if (new_below) {
    const pgoff = vma.vm_pgoff + (addr - fresh.vm_start);
    return vma_adjust(m, vma, addr, vma.vm_end, pgoff, fresh);
  }
  return vma_adjust(m, vma, vma.vm_start, addr, vma.vm_pgoff, fresh);
}

function split_vma(m: Machine, vma: VmArea, addr: vpn_t, new_below: boolean): number {
  const max = sysctl(m, 'max_map_count', DEFAULT_MAX_MAP_COUNT);
  if (vma.vm_mm.mmap.length >= max) return -ENOMEM;
  return __split_vma(m, vma, addr, new_below);
}

// ---- mmap

/** Where `len` free pages are, top down; -ENOMEM (mmap.c: arch_get_unmapped_area_topdown). */
export function get_unmapped_area(mm: MmStruct, addr: vpn_t, len: number): vpn_t {
  if (len > TASK_SIZE_PAGES) return -ENOMEM;
  if (addr > 0) {
    const vma = mm.mmap[find_vma_index(mm, addr)];
    if (TASK_SIZE_PAGES - len >= addr && (vma === undefined || addr + len <= vma.vm_start)) {
      return addr;
    }
  }
  if (len <= mm.cached_hole_size) {
    mm.cached_hole_size = 0;
    mm.free_area_cache = mm.mmap_base;
  }
  addr = mm.free_area_cache;
  if (addr > len) {
    const vma = mm.mmap[find_vma_index(mm, addr - len)];
    if (vma === undefined || addr <= vma.vm_start) {
      mm.free_area_cache = addr - len;
      return addr - len;
    }
  }
  if (mm.mmap_base < len) return -ENOMEM;
  addr = mm.mmap_base - len;
  for (;;) {
    const vma = mm.mmap[find_vma_index(mm, addr)];
    if (vma === undefined || addr + len <= vma.vm_start) {
      mm.free_area_cache = addr;
      return addr;
    }
    if (addr + mm.cached_hole_size < vma.vm_start) mm.cached_hole_size = vma.vm_start - addr;
    if (len >= vma.vm_start) return -ENOMEM;
    addr = vma.vm_start - len;
  }
}

/**
 * Maps `len` pages: anonymous memory, or a file from page `pgoff` on. Returns the first page, or
 * -EINVAL, -ENOMEM (mmap.c: do_mmap_pgoff, mmap_region).
 */
export function do_mmap(
  m: Machine,
  mm: MmStruct,
  file: MmapFile | null,
  addr: vpn_t,
  len: number,
  prot: number,
  flags: number,
  pgoff = 0,
): vpn_t {
  if (len <= 0 || len > TASK_SIZE_PAGES) return -EINVAL;
  if (mm.mmap.length > sysctl(m, 'max_map_count', DEFAULT_MAX_MAP_COUNT)) return -ENOMEM;
  if ((flags & MAP_FIXED) === 0) {
    addr = get_unmapped_area(mm, addr, len);
    if (addr < 0) return addr;
  } else if (addr + len > TASK_SIZE_PAGES) return -ENOMEM;
  let vm_flags = (prot & 7) | mm.def_flags | VM_MAYREAD | VM_MAYWRITE | VM_MAYEXEC;
  if ((flags & MAP_GROWSDOWN) !== 0) vm_flags |= VM_GROWSDOWN;
  if ((flags & MAP_LOCKED) !== 0) vm_flags |= VM_LOCKED;
  if ((flags & MAP_NORESERVE) !== 0) vm_flags |= VM_NORESERVE;
  if ((flags & MAP_SHARED) !== 0) vm_flags |= VM_SHARED | VM_MAYSHARE;
  if (file !== null) vm_flags |= VM_CAN_NONLINEAR;
  else if ((flags & MAP_SHARED) === 0) pgoff = addr;
  const populate = (flags & MAP_POPULATE) !== 0;
  if (file !== null || (flags & MAP_SHARED) === 0) {
    return mmap_region(m, mm, file, addr, len, vm_flags, pgoff, populate);
  }
  // Shared memory without a file gets one without a name (shmem.c: shmem_zero_setup).
  if (vm_enough_memory(m, len) !== 0) return -ENOMEM;
  const shm = shmem_file_setup(m, len);
  if (shm === null) {
    m.vm_committed_as -= len;
    return -ENOMEM;
  }
  const mapped = mmap_region(m, mm, shm, addr, len, vm_flags, 0, populate);
  if (mapped < 0) shm.open!.release();
  return mapped;
}

function mmap_region(
  m: Machine,
  mm: MmStruct,
  file: MmapFile | null,
  addr: vpn_t,
  len: number,
  vm_flags: number,
  pgoff: number,
  populate: boolean,
): vpn_t {
  const overlap = mm.mmap[find_vma_index(mm, addr)];
  if (overlap !== undefined && overlap.vm_start < addr + len) {
    const err = do_munmap(m, mm, addr, len);
    if (err !== 0) return err;
  }
  const accountable = (vm_flags & (VM_NORESERVE | VM_SHARED | VM_WRITE)) === VM_WRITE;
  if (accountable) {
    if (vm_enough_memory(m, len) !== 0) return -ENOMEM;
    vm_flags |= VM_ACCOUNT;
  }
  let vma = vma_merge(m, mm, addr, addr + len, {
    flags: vm_flags,
    anon_vma: null,
    file,
    pgoff,
    policy: MPOL_DEFAULT,
    policy_nid: 0,
  });
  if (vma === null) {
    vma = alloc_vma(m, mm, addr, addr + len, vm_flags, pgoff);
    if (vma === null) {
      if (accountable) m.vm_committed_as -= len;
      return -ENOMEM;
    }
    if (file !== null) {
      vma.vm_file = file;
      get_file(file);
    }
    insert_vm_struct(mm, vma);
  }
  mm.total_vm += len;
  vm_stat_account(mm, vm_flags, file, len);
  if ((vm_flags & VM_LOCKED) !== 0) {
    mm.locked_vm += len;
    mlock_vma_pages_range(m, vma, addr, addr + len);
  } else if (populate) make_pages_present(m, mm, addr, addr + len);
  return addr;
}

/** Where `len` pages are free at a multiple of 2^order, top down (hugetlbpage.c of x86). */
function hugetlb_get_unmapped_area(mm: MmStruct, len: number, order: number): vpn_t {
  const align = (vpn: vpn_t): vpn_t => vpn - (vpn % 2 ** order);
  const from = len <= mm.cached_hole_size ? mm.mmap_base : mm.free_area_cache;
  for (const base of from === mm.mmap_base ? [from] : [from, mm.mmap_base]) {
    mm.cached_hole_size = 0;
    for (let addr = align(base - len); addr > 0; ) {
      const vma = mm.mmap[find_vma_index(mm, addr)];
      if (vma === undefined || addr + len <= vma.vm_start) {
        mm.free_area_cache = addr;
        return addr;
      }
      mm.cached_hole_size = Math.max(mm.cached_hole_size, vma.vm_start - addr);
      addr = align(vma.vm_start - len);
    }
  }
  return -ENOMEM;
}

/**
 * Maps `pages` huge pages of a pool, private and all promised: the first page, or -EINVAL, -ENOMEM
 * (mmap with MAP_HUGETLB; hugetlbfs_file_mmap).
 */
export function do_mmap_hugetlb(
  m: Machine,
  mm: MmStruct,
  hstate_idx: number,
  pages: number,
  prot: number,
): vpn_t {
  const h = m.hstates[hstate_idx];
  if (h === undefined || m.kernel.hugetlb === undefined) return -EINVAL;
  const len = pages * 2 ** h.order;
  if (pages <= 0 || len > TASK_SIZE_PAGES) return -EINVAL;
  if (mm.mmap.length > sysctl(m, 'max_map_count', DEFAULT_MAX_MAP_COUNT)) return -ENOMEM;
  const addr = hugetlb_get_unmapped_area(mm, len, h.order);
  if (addr < 0) return addr;
  const may = VM_MAYREAD | VM_MAYWRITE | VM_MAYEXEC;
  const flags = (prot & 7) | mm.def_flags | may | VM_HUGETLB | VM_RESERVED;
  const vma = alloc_vma(m, mm, addr, addr + len, flags, 0);
  if (vma === null) return -ENOMEM;
  vma.vm_file = hugetlb_file_setup(m, hstate_idx, pages);
  get_file(vma.vm_file);
  const err = hugetlb_reserve_pages(m, vma);
  if (err !== 0) {
    free_vma(m, vma);
    return err;
  }
  insert_vm_struct(mm, vma);
  mm.total_vm += len;
  vm_stat_account(mm, flags, vma.vm_file, len);
  return addr;
}

/** Moves the end of the heap: the end that holds afterwards (mmap.c: sys_brk). */
export function do_brk(m: Machine, mm: MmStruct, brk: vpn_t): vpn_t {
  if (brk < mm.start_brk) return mm.brk;
  if (brk <= mm.brk) {
    if (brk < mm.brk && do_munmap(m, mm, brk, mm.brk - brk) !== 0) return mm.brk;
    mm.brk = brk;
    return brk;
  }
  const addr = mm.brk;
  const overlap = mm.mmap[find_vma_index(mm, addr)];
  // The page behind must stay free, too.
  if (overlap !== undefined && overlap.vm_start < brk + 1) return mm.brk;
  const flags =
    VM_READ | VM_WRITE | VM_MAYREAD | VM_MAYWRITE | VM_MAYEXEC | VM_ACCOUNT | mm.def_flags;
  const len = brk - addr;
  if (vm_enough_memory(m, len) !== 0) return mm.brk;
  let vma = vma_merge(m, mm, addr, brk, {
    flags,
    anon_vma: null,
    file: null,
    pgoff: addr,
    policy: MPOL_DEFAULT,
    policy_nid: 0,
  });
  if (vma === null) {
    vma = alloc_vma(m, mm, addr, brk, flags, addr);
    if (vma === null) {
      m.vm_committed_as -= len;
      return mm.brk;
    }
    insert_vm_struct(mm, vma);
  }
  mm.total_vm += len;
  if ((flags & VM_LOCKED) !== 0) {
    mm.locked_vm += len;
    mlock_vma_pages_range(m, vma, addr, brk);
  }
  mm.brk = brk;
  return brk;
}

// ---- munmap

/** Unmaps [start, start + len): 0, -EINVAL, -ENOMEM (mmap.c: do_munmap). */
export function do_munmap(m: Machine, mm: MmStruct, start: vpn_t, len: number): number {
  if (start < 0 || len <= 0 || start + len > TASK_SIZE_PAGES) return -EINVAL;
  const end = start + len;
  let first = find_vma_index(mm, start);
  const vma = mm.mmap[first];
  if (vma === undefined || vma.vm_start >= end) return 0;
  if (start > vma.vm_start) {
    // An area cut in two counts against the limit; one that only gets shorter does not.
    if (end < vma.vm_end && mm.mmap.length >= sysctl(m, 'max_map_count', DEFAULT_MAX_MAP_COUNT)) {
      return -ENOMEM;
    }
    const err = __split_vma(m, vma, start, false);
    if (err !== 0) return err;
    first++;
  }
  const last = mm.mmap[find_vma_index(mm, end)];
  if (last !== undefined && end > last.vm_start) {
    const err = __split_vma(m, last, end, true);
    if (err !== 0) return err;
  }
  first = find_vma_index(mm, start);
  let behind = first;
  while (behind < mm.mmap.length && mm.mmap[behind]!.vm_start < end) behind++;
  if (mm.locked_vm > 0) {
    mm.mmap_sem_locked = true;
    for (let i = first; i < behind; i++) {
      const area = mm.mmap[i]!;
      if ((area.vm_flags & VM_LOCKED) === 0) continue;
      mm.locked_vm -= area.vm_end - area.vm_start;
      munlock_vma_pages_range(m, area, area.vm_start, area.vm_end);
    }
    mm.mmap_sem_locked = false;
  }
  const areas = mm.mmap.splice(first, behind - first);
  mm.mmap_cache = 0;
  // arch_unmap_area_topdown
  if (end > mm.free_area_cache) mm.free_area_cache = Math.min(end, mm.mmap_base);
  unmap_region(m, mm, areas, first, start, end);
  for (const area of areas) {
    const pages = area.vm_end - area.vm_start;
    mm.total_vm -= pages;
    vm_stat_account(mm, area.vm_flags, area.vm_file, -pages);
    free_vma(m, area);
  }
  return 0;
}

function unmap_region(
  m: Machine,
  mm: MmStruct,
  areas: readonly VmArea[],
  at: number,
  start: vpn_t,
  end: vpn_t,
): void {
  lru_add_drain(m);
  const tlb = new MmuGather(m);
  const rss = mm.rss_stat[0]! + mm.rss_stat[1]!;
  if (rss > mm.hiwater_rss) mm.hiwater_rss = rss;
  if (mm.total_vm > mm.hiwater_vm) mm.hiwater_vm = mm.total_vm;
  unmap_vmas(m, tlb, areas, start, end);
  for (const vma of areas) unaccount(m, vma);
  const prev = at > 0 ? mm.mmap[at - 1] : undefined;
  const next = mm.mmap[at];
  free_pgtables(m, tlb, areas, prev?.vm_end ?? 0, next?.vm_start ?? NO_CEILING);
  tlb.tlb_finish_mmu(m);
}

// ---- changing areas

/**
 * Gives [start, end) of one area new flags, by merging or splitting: the area that is exactly it
 * afterwards (or contains it, when merged), or null without memory.
 */
export function vma_with_flags(
  m: Machine,
  vma: VmArea,
  start: vpn_t,
  end: vpn_t,
  flags: number,
  policy = vma.vm_policy,
  policy_nid = vma.vm_policy_nid,
): VmArea | null {
  const pgoff = vma.vm_pgoff + (start - vma.vm_start);
  const wish: MergeWish = {
    flags,
    anon_vma: vma.anon_vma,
    file: vma.vm_file,
    pgoff,
    policy,
    policy_nid,
  };
  const merged = vma_merge(m, vma.vm_mm, start, end, wish);
  if (merged !== null) return merged;
  if (start !== vma.vm_start && split_vma(m, vma, start, true) !== 0) return null;
  if (end !== vma.vm_end && split_vma(m, vma, end, false) !== 0) return null;
  return vma;
}
