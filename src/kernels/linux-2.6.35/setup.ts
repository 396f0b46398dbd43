/**
 * The part of booting that 2.6.35 decides: from free memory to a running kernel.
 *
 * Zonelists and mobility grouping first, then the first allocations (large hash tables, slab
 * caches, kernel threads), last the watermarks, as init calls do it: the RESERVE blocks are
 * therefore the lowest movable blocks that the first allocations left.
 * Linux: init/main.c (start_kernel, kernel_init), mm/page_alloc.c (alloc_large_system_hash).
 */

import { trace_init } from '../../fs/tracefs/trace.ts';
import { thread_order } from '../../mm/fork.ts';
import { GFP_KERNEL } from '../../mm/gfp.ts';
import { build_all_zonelists } from '../../mm/mm_init.ts';
import { type Machine, page_zone, WMARK_HIGH } from '../../mm/mmzone.ts';
import { kmem_cache_alloc } from '../../mm/slub.ts';
import { NR_KERNEL_STACK } from '../../mm/vmstat.ts';
import { hugetlb_init } from './hugetlb.ts';
import { init_sysctls } from './sysctl.ts';
import { trace_2_6_35 } from './trace_events.ts';
import {
  init_lowmem_reserve_ratio,
  init_per_zone_wmark_min,
  large_system_hash_bytes,
  refresh_zone_stat_thresholds,
  set_zone_reclaim_mode,
} from './watermark.ts';

/** Kernel threads of an idle machine with one CPU (recorded: so many stacks of 8 KiB), and per further CPU. */
const KERNEL_THREADS = 27;
const KERNEL_THREADS_X86 = 25;
const KERNEL_THREADS_PER_CPU = 5;

/**
 * What an idle kernel holds in its slab caches per registered device, file and driver: so many
 * objects of each cache are allocated in turn, BOOT_ROUNDS times; the second count is for 32 bits.
 * Chosen so that the two slab counters come out as in the recorded machines' meminfo after boot
 * (676 and 1384 kB on x86-64, 508 and 1552 on x86).
 */
const BOOT_ROUNDS = 320;
const BOOT_OBJECTS: readonly (readonly [string, number, number])[] = [
  ['sysfs_dir_cache', 12, 12],
  ['kmalloc-32', 8, 8],
  ['kmalloc-64', 6, 6],
  ['kmalloc-192', 2, 2],
  ['kmalloc-512', 1, 1],
  ['dentry', 5, 7],
  ['inode_cache', 2, 2],
];
/** Large objects of drivers and subsystems, once each. */
const BOOT_LARGE: readonly (readonly [string, number, number])[] = [
  ['kmalloc-1024', 90, 90],
  ['kmalloc-2048', 70, 148],
  ['kmalloc-4096', 46, 88],
];

/** Runs the kernel's own initialisation. Precondition: boot memory has been freed. */
export function kernel_boot(m: Machine): void {
  init_sysctls(m);
  init_lowmem_reserve_ratio(m);
  build_all_zonelists(m);
  set_zone_reclaim_mode(m);
  set_page_group_by_mobility(m);
  alloc_large_system_hashes(m);
  alloc_boot_objects(m);
  start_kernel_threads(m);
  hugetlb_init(m);
  init_per_zone_wmark_min(m);
  refresh_zone_stat_thresholds(m);
  // Now, so that looking at its files later changes nothing.
  trace_init(m, trace_2_6_35);
}

/** Small machines do without grouping by mobility (page_alloc.c: build_all_zonelists). */
export function set_page_group_by_mobility(m: Machine): void {
  let vm_total_pages = 0;
  for (const zone of m.populated_zones) {
    vm_total_pages += Math.max(0, zone.present_pages - zone.watermark[WMARK_HIGH]!);
  }
  m.page_group_by_mobility_disabled = vm_total_pages < 2 ** m.shape.pageblock_order * 5;
}

/**
 * The dentry and inode hash tables, spread over the nodes (hashdist). A kernel without NUMA made
 * them before, in boot memory.
 */
function alloc_large_system_hashes(m: Machine): void {
  if (!m.shape.numa && m.shape.machine !== 'ppc64') return;
  let nid = 0;
  for (const scale of [13, 14]) {
    const bytes = large_system_hash_bytes(m, scale);
    for (let i = 0; i < bytes / 2 ** m.shape.page_shift; i++) {
      if (m.kernel.alloc_pages(m, GFP_KERNEL, 0, nid) < 0) return;
      nid = (nid + 1) % m.nodes.length;
    }
  }
}

/** Devices, drivers, their files in sysfs and debugfs: slab objects that stay. */
function alloc_boot_objects(m: Machine): void {
  const small = m.shape.bytes_per_long === 4;
  const take = ([name, on_64, on_32]: readonly [string, number, number]): void => {
    const cache = m.slab.find(name);
    for (let i = small ? on_32 : on_64; i > 0; i--) kmem_cache_alloc(m, cache, GFP_KERNEL);
  };
  for (let round = 0; round < BOOT_ROUNDS; round++) for (const row of BOOT_OBJECTS) take(row);
  for (const row of BOOT_LARGE) take(row);
}

/**
 * Kernel threads hold a stack and a task each. They are memory only: what kswapd, the flusher and
 * ksmd do is driven by the clock (machine.ts), and /proc shows no directories for them.
 */
function start_kernel_threads(m: Machine): void {
  const first = m.shape.machine === 'x86' ? KERNEL_THREADS_X86 : KERNEL_THREADS;
  const threads = first + (m.shape.nr_cpus - 1) * KERNEL_THREADS_PER_CPU;
  for (let i = 0; i < threads; i++) {
    for (const name of ['task_struct', 'signal_cache', 'sighand_cache', 'pid', 'cred_jar']) {
      kmem_cache_alloc(m, m.slab.find(name), GFP_KERNEL);
    }
    const stack = m.kernel.alloc_pages(m, GFP_KERNEL, thread_order(m));
    if (stack >= 0) page_zone(m, stack).vm_stat[NR_KERNEL_STACK]!++;
  }
}
