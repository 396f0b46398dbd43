/**
 * The slab objects that processes are made of: which caches, and taking and giving back objects.
 *
 * What the objects hold lies in TypeScript instances; the slab object stands for the memory that
 * Linux would take for it, so that thousands of processes fill real unmovable pages.
 * Linux: kernel/fork.c (proc_caches_init), mm/rmap.c (anon_vma_init).
 */
import { GFP_KERNEL } from './gfp.ts';
import type { Machine } from './mmzone.ts';
import { kmem_cache_alloc, kmem_cache_free } from './slub.ts';

export const PROC_TASK_STRUCT = 0;
export const PROC_SIGHAND = 1;
export const PROC_SIGNAL = 2;
export const PROC_FILES = 3;
export const PROC_FS = 4;
export const PROC_MM = 5;
export const PROC_VMA = 6;
export const PROC_ANON_VMA = 7;
export const PROC_ANON_VMA_CHAIN = 8;
export const PROC_CRED = 9;
export const PROC_PID = 10;

const NAMES = [
  'task_struct',
  'sighand_cache',
  'signal_cache',
  'files_cache',
  'fs_cache',
  'mm_struct',
  'vm_area_struct',
  'anon_vma',
  'anon_vma_chain',
  'cred_jar',
  'pid',
];

/** An object of the cache PROC_*: its handle, or 0 without memory. */
export function proc_object_alloc(m: Machine, which: number): number {
  m.proc_caches ??= NAMES.map((name) => m.slab.find(name));
  return kmem_cache_alloc(m, m.proc_caches[which]!, GFP_KERNEL);
}

/** Gives an object back. */
export function proc_object_free(m: Machine, which: number, object: number): void {
  kmem_cache_free(m, m.proc_caches![which]!, object);
}
