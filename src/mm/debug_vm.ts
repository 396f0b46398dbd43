/**
 * Whole-state checks: everything that the machine caches, recomputed from scratch and compared.
 *
 * debug_vm runs a list of checks over one machine between two operations and throws KernelBug at
 * the first thing that is wrong, with a dump of the page. Each check reads the state and derives
 * what must follow; none calls the code that keeps the state. Cost is a few passes over the memmap,
 * so tests sample it. Files that know more add checks of their own with add_debug_check.
 * The checks are in debug_lists.ts (lists, free blocks, LRU, what each frame is), debug_pagecache.ts
 * (trees, tags, buffers), debug_rmap.ts (page tables, anon_vmas, swap slots, huge pages), debug_ksm.ts,
 * and debug_counters.ts (slab, counters, watermarks, pageblocks); what they find is in debug_state.ts.
 * Linux has parts of this: CONFIG_DEBUG_VM, DEBUG_LIST, SLUB_DEBUG, mm/debug.c (dump_page).
 */
import { check_counters, check_slabs, check_zones } from './debug_counters.ts';
import {
  check_frames,
  check_free_lists,
  check_lru_lists,
  check_other_links,
  check_pcp_lists,
  check_split_queues,
  check_vectors,
} from './debug_lists.ts';
import { check_buffers, check_page_cache } from './debug_pagecache.ts';
import { check_anon_vmas, check_page_tables } from './debug_rmap.ts';
import { type DebugCheck, DebugState } from './debug_state.ts';
import type { Machine } from './mmzone.ts';

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
