/**
 * Processes and what they map: tasks, address spaces, areas, anon_vmas and the chains between them.
 *
 * Addresses are virtual page numbers (vpn), never bytes. User space is 2^31 pages (8 TiB with 4 KiB
 * pages), so that a vpn is a positive 32-bit integer; Linux on x86-64 has 2^35 pages. The stack ends
 * at the top of it. Areas of an address space are one array sorted by address (Linux: list and
 * red-black tree). An anon_vma is a row of m.anon_vmas and its id is what a page's mapping column
 * holds; a freed row is handed out again at once, most recently freed first, and is an anon_vma
 * without areas until then: what SLAB_DESTROY_BY_RCU promises, and no more.
 * Linux: include/linux/mm_types.h, rmap.h, sched.h, mm.h (VM_*).
 */
import { BUG_ON } from '../lib/bug.ts';
import type { AddressSpace } from './address_space.ts';
import type { FileRaState } from './filemap.ts';
import type { ResvMap } from './hugetlb_def.ts';
import type { Machine } from './mmzone.ts';
import type { nid_t, pfn_t } from './page.ts';
import type { PageTable } from './page_table.ts';

/** Virtual page number: address >> PAGE_SHIFT. */
export type vpn_t = number & { readonly unit?: 'vpn' };

/** One past the last user page (processor.h: TASK_SIZE). */
export const TASK_SIZE_PAGES = 0x7fffffff;

// Area flags (mm.h).
export const VM_READ = 0x1;
export const VM_WRITE = 0x2;
export const VM_EXEC = 0x4;
export const VM_SHARED = 0x8;
export const VM_MAYREAD = 0x10;
export const VM_MAYWRITE = 0x20;
export const VM_MAYEXEC = 0x40;
export const VM_MAYSHARE = 0x80;
export const VM_GROWSDOWN = 0x100;
export const VM_PFNMAP = 0x400;
export const VM_DENYWRITE = 0x800;
export const VM_EXECUTABLE = 0x1000;
export const VM_LOCKED = 0x2000;
export const VM_IO = 0x4000;
export const VM_SEQ_READ = 0x8000;
export const VM_RAND_READ = 0x10000;
export const VM_DONTCOPY = 0x20000;
export const VM_DONTEXPAND = 0x40000;
export const VM_RESERVED = 0x80000;
export const VM_ACCOUNT = 0x100000;
export const VM_NORESERVE = 0x200000;
export const VM_HUGETLB = 0x400000;
export const VM_NONLINEAR = 0x800000;
export const VM_CAN_NONLINEAR = 0x8000000;
export const VM_HUGEPAGE = 0x20000000;
export const VM_NOHUGEPAGE = 0x40000000;
export const VM_MERGEABLE = 0x80000000 | 0;
/** Areas that mlock and merging leave alone. */
export const VM_SPECIAL = VM_IO | VM_DONTEXPAND | VM_RESERVED | VM_PFNMAP;
/** Marks a stack while exec still moves it: migration must not touch it (mm.h). */
export const VM_STACK_INCOMPLETE_SETUP = VM_RAND_READ | VM_SEQ_READ;

// Indexes of MmStruct.rss_stat.
export const MM_FILEPAGES = 0;
export const MM_ANONPAGES = 1;
export const MM_SWAPENTS = 2;

// Memory policies (include/linux/mempolicy.h).
export const MPOL_DEFAULT = 0;
export const MPOL_PREFERRED = 1;
export const MPOL_BIND = 2;
export const MPOL_INTERLEAVE = 3;

/** What a simulated process sees as an open file that it maps (fs.h: struct file). */
export class MmapFile {
  readonly mapping: AddressSpace;
  /** Path as /proc/PID/maps prints it. */
  readonly path: string;
  readonly ino: number;
  readonly dev_major: number;
  readonly dev_minor: number;
  /** What keeps the inode: released when the last area has gone. */
  open: { release(): void } | null = null;
  /** Areas that hold this file; at 0 the file is closed. */
  f_count = 0;
  /** Read-ahead of faults; null before the first. */
  ra: FileRaState | null = null;
  mmap_miss = 0;

  constructor(
    mapping: AddressSpace,
    path: string,
    ino: number,
    dev_major: number,
    dev_minor: number,
  ) {
    this.mapping = mapping;
    this.path = path;
    this.ino = ino;
    this.dev_major = dev_major;
    this.dev_minor = dev_minor;
  }
}

/** Links one area and one anon_vma; on a list of each (rmap.h: struct anon_vma_chain). */
export class AnonVmaChain {
  readonly vma: VmArea;
  readonly anon_vma: AnonVma;
  /** List of the area: first is the youngest anon_vma, last the oldest ancestor's. */
  vma_next: AnonVmaChain | null = null;
  vma_prev: AnonVmaChain | null = null;
  /** List of the anon_vma: the order in which reverse mapping visits areas. */
  av_next: AnonVmaChain | null = null;
  av_prev: AnonVmaChain | null = null;
  /** Slab object. */
  object = 0;

  constructor(vma: VmArea, anon_vma: AnonVma) {
    this.vma = vma;
    this.anon_vma = anon_vma;
  }
}

/** All areas that may map a set of anonymous pages (rmap.h: struct anon_vma). */
export class AnonVma {
  /** Index in m.anon_vmas; a page holds id << 2 | PAGE_MAPPING_ANON. Never 0. */
  readonly id: number;
  /** References of migration and KSM: while not 0 the anon_vma is not freed. */
  external_refcount = 0;
  head: AnonVmaChain | null = null;
  tail: AnonVmaChain | null = null;
  /** False while the row is free. */
  live = true;
  /** Slab object. */
  object = 0;

  constructor(id: number) {
    this.id = id;
  }
}

/** A run of pages with one purpose (mm_types.h: struct vm_area_struct). */
export class VmArea {
  readonly vm_mm: MmStruct;
  vm_start: vpn_t;
  /** One past the last page. */
  vm_end: vpn_t;
  vm_flags: number;
  /** Offset of vm_start in the file, in pages; anonymous: vm_start at creation. */
  vm_pgoff: number;
  vm_file: MmapFile | null = null;
  /** Where new anonymous pages go; null until the first. */
  anon_vma: AnonVma | null = null;
  avc_first: AnonVmaChain | null = null;
  avc_last: AnonVmaChain | null = null;
  /** Memory policy of the area (mbind): mode and node; MPOL_DEFAULT: the task's. */
  vm_policy = MPOL_DEFAULT;
  vm_policy_nid: nid_t = 0;
  /** Huge pages: what its maker was promised; null in children. And whether a page was taken away. */
  resv_map: ResvMap | null = null;
  resv_unmapped = false;
  /** Slab object. */
  object = 0;

  constructor(mm: MmStruct, start: vpn_t, end: vpn_t, flags: number, pgoff: number) {
    this.vm_mm = mm;
    this.vm_start = start;
    this.vm_end = end;
    this.vm_flags = flags;
    this.vm_pgoff = pgoff;
  }
}

/** An address space (mm_types.h: struct mm_struct). */
export class MmStruct {
  /** Areas by rising address; they never overlap. */
  readonly mmap: VmArea[] = [];
  /** Index into `mmap` where the last find_vma ended. */
  mmap_cache = 0;
  pgd: PageTable | null = null;
  /** The pte page that was walked last and which it is (vpn >>> 9), -1: none. */
  last_table: PageTable | null = null;
  last_table_index = -1;
  /** Pages by kind: MM_FILEPAGES, MM_ANONPAGES, MM_SWAPENTS. */
  readonly rss_stat: Int32Array = new Int32Array(3);
  hiwater_rss = 0;
  hiwater_vm = 0;
  /** pte pages. */
  nr_ptes = 0;
  /** Pages in huge pages, which rss_stat does not count. */
  hugetlb_usage = 0;
  // All in pages.
  total_vm = 0;
  locked_vm = 0;
  shared_vm = 0;
  exec_vm = 0;
  stack_vm = 0;
  reserved_vm = 0;
  start_code = 0;
  end_code = 0;
  start_data = 0;
  end_data = 0;
  start_brk = 0;
  brk = 0;
  start_stack = 0;
  mmap_base = 0;
  /** Where the search for a free range goes on, and the largest hole passed over so far. */
  free_area_cache = 0;
  cached_hole_size = 0;
  /** Flags of new areas (VM_LOCKED after mlockall). */
  def_flags = 0;
  /** mmap_sem is held for writing: try_to_unmap cannot mlock pages then. */
  mmap_sem_locked = false;
  /** The OOM killer chose it while it was in use: whoever runs in it exits when that ends. */
  oom_victim = false;
  /** Tasks that use it; the space is torn down when the last exits. */
  mm_users = 1;
  /** Holders of the structure itself: all users together count as one, and KSM's slot. */
  mm_count = 1;
  /** Its slot in KSM's list, 0 when it has none (MMF_VM_MERGEABLE). */
  ksm_slot = 0;
  /** khugepaged knows it (MMF_VM_HUGEPAGE); it holds the huge page of zeroes (MMF_HUGE_ZERO_PAGE). */
  vm_hugepage = false;
  huge_zero_page = false;
  /** Memory policy of the task that runs in it (see Task.policy). */
  policy = MPOL_DEFAULT;
  policy_nid: nid_t = 0;
  /** Slab object. */
  object = 0;
}

export const TASK_RUNNING = 0;
export const TASK_INTERRUPTIBLE = 1;
/** Being taken apart: it runs no more. */
export const EXIT_ZOMBIE = 16;
export const EXIT_DEAD = 32;

/** A process (sched.h: struct task_struct); threads are not modelled. */
export class Task {
  readonly pid: number;
  ppid: number;
  comm: string;
  cmdline: string;
  /** Null once it has exited. */
  mm: MmStruct | null;
  state = TASK_INTERRUPTIBLE;
  exit_code = 0;
  /** First frame of the kernel stack. */
  stack: pfn_t | -1 = -1;
  /** Milliseconds since boot. */
  start_time = 0;
  min_flt = 0;
  maj_flt = 0;
  /** While a fault waits for a page that migrates: that page, with a reference, else -1. */
  wait_page: pfn_t | -1 = -1;
  oom_adj = 0;
  /** Children that it has had. */
  nr_forked = 0;
  /** pids whose writes its pages may hold: its own and those of the processes it was forked from. */
  lineage: number[];
  /** Contents that its pages share with other processes of the same number; 0: each its own. */
  same = 0;
  /** Slab objects that live as long as the task. */
  objects: number[] = [];
  /** Extra order-0 unmovable pages and such that a workload holds: [pfn, order] pairs. */
  kernel_pages: number[] = [];

  constructor(pid: number, ppid: number, comm: string, mm: MmStruct | null) {
    this.pid = pid;
    this.ppid = ppid;
    this.comm = comm;
    this.cmdline = comm;
    this.lineage = [pid];
    this.mm = mm;
  }
}

/** pids start here after the first round (kernel/pid.c: RESERVED_PIDS). */
export const RESERVED_PIDS = 300;
export const PID_MAX_DEFAULT = 32768;

/** The next free pid, or -1 when all are in use (kernel/pid.c: alloc_pidmap). */
export function alloc_pid(m: Machine): number {
  for (let tries = 0; tries < PID_MAX_DEFAULT; tries++) {
    m.last_pid = m.last_pid + 1 >= PID_MAX_DEFAULT ? RESERVED_PIDS : m.last_pid + 1;
    if (!m.tasks.has(m.last_pid)) return m.last_pid;
  }
  return -1;
}

/** Pages resident in memory, file and anon (mm.h: get_mm_rss). */
export function get_mm_rss(mm: MmStruct): number {
  return mm.rss_stat[MM_FILEPAGES]! + mm.rss_stat[MM_ANONPAGES]!;
}

/** Remembers the highest resident size before it falls (mm.h: update_hiwater_rss). */
export function update_hiwater_rss(mm: MmStruct): void {
  const rss = get_mm_rss(mm);
  if (rss > mm.hiwater_rss) mm.hiwater_rss = rss;
}

/** Where a page at `vpn` of the area would lie in its file or anon space, in pages. */
export function linear_page_index(vma: VmArea, vpn: vpn_t): number {
  return vpn - vma.vm_start + vma.vm_pgoff;
}

/**
 * The index in mm.mmap of the first area that ends above `vpn`; the length when there is none
 * (mm/mmap.c: find_vma). The area need not contain vpn.
 */
export function find_vma_index(mm: MmStruct, vpn: vpn_t): number {
  const areas = mm.mmap;
  const hint = mm.mmap_cache;
  if (hint < areas.length && areas[hint]!.vm_start <= vpn && vpn < areas[hint]!.vm_end) return hint;
  let low = 0;
  let high = areas.length;
  while (low < high) {
    const mid = (low + high) >>> 1;
    if (areas[mid]!.vm_end > vpn) high = mid;
    else low = mid + 1;
  }
  mm.mmap_cache = low;
  return low;
}

/** The first area that ends above `vpn`, or null. */
export function find_vma(mm: MmStruct, vpn: vpn_t): VmArea | null {
  return mm.mmap[find_vma_index(mm, vpn)] ?? null;
}

/** Asserts what every change of mm.mmap must keep: sorted, no overlap, no empty area. */
export function check_areas(mm: MmStruct): void {
  let end = 0;
  for (const vma of mm.mmap) {
    BUG_ON(vma.vm_start < end, 'mmap: areas overlap or are out of order');
    BUG_ON(vma.vm_end <= vma.vm_start, 'mmap: an area is empty');
    end = vma.vm_end;
  }
}
