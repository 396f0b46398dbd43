/**
 * The part of booting that 6.1 decides: from memory that nobody owns to a running kernel.
 *
 * Boot memory is freed upwards in blocks as large as their alignment allows, each at the tail of its
 * list, so that the first allocations come from low addresses (2.6.35: from high ones). What is freed
 * is what a zone manages. Then the first allocations, as there, and the watermarks, which khugepaged
 * raises so that pageblocks of each type stay unmixed.
 * Linux: mm/memblock.c (memblock_free_all), init/main.c, mm/khugepaged.c
 * (set_recommended_min_free_kbytes). The amount of boot objects is that of the recorded machine's
 * slab counters (debian-6.1/verbatim), their kinds are 2.6.35's.
 */
import { trace_init } from '../../fs/tracefs/trace.ts';
import { thread_order } from '../../mm/fork.ts';
import { GFP_KERNEL } from '../../mm/gfp.ts';
import { build_all_zonelists } from '../../mm/mm_init.ts';
import { type Machine, page_zone, type Shape, WMARK_HIGH, zone_end_pfn } from '../../mm/mmzone.ts';
import { get_pageblock_migratetype } from '../../mm/pageblock.ts';
import { kmem_cache_alloc } from '../../mm/slub.ts';
import { global_page_state, NR_FREE_PAGES, NR_KERNEL_STACK, PGFREE } from '../../mm/vmstat.ts';
import { hugepage_init } from './huge_memory.ts';
import { hugetlb_init } from './hugetlb.ts';
import { __free_one_page } from './rmqueue.ts';
import { init_sysctls } from './sysctl.ts';
import { trace_6_1 } from './trace_events.ts';
import { init_lowmem_reserve_ratio, init_per_zone_wmark_min, wmark_pages } from './watermark.ts';

/** Kernel threads of an idle machine with one CPU (recorded: 49 stacks of 16 KiB). */
const KERNEL_THREADS = 49;
const KERNEL_THREADS_PER_CPU = 6;

/** Slab objects that an idle kernel holds: so many of each cache in turn, BOOT_ROUNDS times. */
const BOOT_ROUNDS = 900;
const BOOT_OBJECTS: readonly (readonly [string, number])[] = [
  ['sysfs_dir_cache', 12],
  ['kmalloc-32', 8],
  ['kmalloc-64', 6],
  ['kmalloc-192', 2],
  ['kmalloc-512', 1],
  ['dentry', 9],
  ['inode_cache', 9],
];
/** Large objects of drivers and subsystems, once each. */
const BOOT_LARGE: readonly (readonly [string, number])[] = [
  ['kmalloc-1024', 300],
  ['kmalloc-2048', 250],
  ['kmalloc-4096', 150],
];

/** What 6.1 adds to a machine's shape: a zone type for devices, and a struct page of 64 bytes. */
export function kernel_shape(shape: Shape): Shape {
  return { ...shape, zone_names: [...shape.zone_names, 'Device'], sizeof_struct_page: 64 };
}

/** Frees the frames [start, end) of boot memory (memblock.c: __free_pages_memory). */
export function free_bootmem(m: Machine, start: number, end: number): void {
  const top = m.shape.max_order - 1;
  while (start < end) {
    const zone = page_zone(m, start);
    const limit = Math.min(end, zone_end_pfn(zone));
    let order = Math.min(top, 31 - Math.clz32(start & -start));
    while (start + 2 ** order > limit) order--;
    const type = get_pageblock_migratetype(m, zone, start);
    __free_one_page(m, zone, start, order, type, true);
    m.vm_events[PGFREE]! += 2 ** order;
    m.totalram_pages += 2 ** order;
    start += 2 ** order;
  }
}

/** Runs the kernel's own initialisation. Precondition: boot memory has been freed. */
export function kernel_boot(m: Machine): void {
  // A zone manages what was freed to it.
  for (const zone of m.populated_zones) zone.present_pages = zone.vm_stat[NR_FREE_PAGES]!;
  init_sysctls(m);
  trace_init(m, trace_6_1);
  init_lowmem_reserve_ratio(m);
  build_all_zonelists(m);
  set_page_group_by_mobility(m);
  alloc_large_system_hashes(m);
  alloc_boot_objects(m);
  start_kernel_threads(m);
  hugetlb_init(m);
  init_per_zone_wmark_min(m);
  hugepage_init(m);
  init_reserves(m);
}

/** What is kept for users and for root: a 32nd of what is free, up to 128 and 8 MiB (mm/mmap.c). */
function init_reserves(m: Machine): void {
  const free_kbytes = global_page_state(m, NR_FREE_PAGES) * 2 ** (m.shape.page_shift - 10);
  const share = Math.floor(free_kbytes / 32);
  m.sysctl_ulong['user_reserve_kbytes'] = BigInt(Math.min(share, 2 ** 17));
  m.sysctl_ulong['admin_reserve_kbytes'] = BigInt(Math.min(share, 2 ** 13));
}

/** Small machines do without grouping by mobility (page_alloc.c: build_all_zonelists). */
function set_page_group_by_mobility(m: Machine): void {
  const vm_total_pages = nr_free_zone_pages(m);
  m.page_group_by_mobility_disabled = vm_total_pages < 2 ** m.shape.pageblock_order * 3;
}

/** Pages above the HIGH watermarks if all were free (page_alloc.c). */
function nr_free_zone_pages(m: Machine): number {
  let sum = 0;
  for (const zone of m.populated_zones) {
    sum += Math.max(0, zone.present_pages - wmark_pages(zone, WMARK_HIGH));
  }
  return sum;
}

/** The dentry and inode hash tables: 8 bytes an entry, spread over the nodes (hashdist). */
function alloc_large_system_hashes(m: Machine): void {
  let kernel_pages = 0;
  for (const zone of m.populated_zones) kernel_pages += zone.present_pages;
  const mib = 2 ** (20 - m.shape.page_shift);
  kernel_pages = Math.ceil(kernel_pages / mib) * mib;
  let nid = 0;
  for (const scale of [13, 14]) {
    const wanted = kernel_pages / 2 ** (scale - m.shape.page_shift);
    const bytes = 2 ** Math.ceil(Math.log2(wanted)) * 8;
    for (let i = 0; i < bytes / 2 ** m.shape.page_shift; i++) {
      if (m.kernel.alloc_pages(m, GFP_KERNEL, 0, nid) < 0) return;
      nid = (nid + 1) % m.nodes.length;
    }
  }
}

/** Devices, drivers, their files in sysfs and debugfs: slab objects that stay. */
function alloc_boot_objects(m: Machine): void {
  for (let round = 0; round < BOOT_ROUNDS; round++) {
    for (const [name, count] of BOOT_OBJECTS) {
      for (let i = 0; i < count; i++) kmem_cache_alloc(m, m.slab.find(name), GFP_KERNEL);
    }
  }
  for (const [name, count] of BOOT_LARGE) {
    for (let i = 0; i < count; i++) kmem_cache_alloc(m, m.slab.find(name), GFP_KERNEL);
  }
}

/**
 * Kernel threads hold a stack and a task each. They are memory only: what kswapd, kcompactd and the
 * flusher do is driven by the clock (machine.ts), and /proc shows no directories for them. Stacks of
 * 16 KiB come page by page (VMAP_STACK).
 */
function start_kernel_threads(m: Machine): void {
  const threads = KERNEL_THREADS + (m.shape.nr_cpus - 1) * KERNEL_THREADS_PER_CPU;
  const stack_pages = 2 * 2 ** thread_order(m);
  for (let i = 0; i < threads; i++) {
    for (const name of ['task_struct', 'signal_cache', 'sighand_cache', 'pid', 'cred_jar']) {
      kmem_cache_alloc(m, m.slab.find(name), GFP_KERNEL);
    }
    let stack = -1;
    for (let page = 0; page < stack_pages; page++) stack = m.kernel.alloc_pages(m, GFP_KERNEL, 0);
    if (stack >= 0) page_zone(m, stack).vm_stat[NR_KERNEL_STACK]!++;
  }
}
