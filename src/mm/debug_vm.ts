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
