/**
 * The data of reclaim: flags of whoever executes, and the caches of objects that can be shrunk.
 *
 * A shrinker is a constant table of functions with a name, as address space operations are, and a
 * number that a machine keeps: objects that it still owes from earlier calls. Who has a cache (the
 * inodes and dentries of a file system) registers it once, and reclaim asks every registered one in
 * proportion to the pages that it scanned.
 * Linux: include/linux/sched.h (PF_*), include/linux/mm.h (struct shrinker), mm/vmscan.c
 * (register_shrinker).
 */
import type { Job } from '../lib/kthread.ts';
import type { Machine } from './mmzone.ts';

// Machine.current_flags: what the code that runs now is (sched.h).
/** Reclaims: may use the last reserves, and never reclaims itself. */
export const PF_MEMALLOC = 0x800;
export const PF_KSWAPD = 0x40000;
/** May write to a congested device. */
export const PF_SWAPWRITE = 0x800000;

/** What the mask of a scan forbids; nr_to_scan 0 only asks for the number of objects. */
export interface ShrinkerOps {
  readonly name: string;
  /** Cost of making an object again: 2 is one disk read (DEFAULT_SEEKS). */
  readonly seeks: number;
  /**
   * Tries `nr_to_scan` objects, then returns how many could be tried again; -1: not possible with
   * this mask, now. A kernel whose reclaim goes by nodes names the node; most caches have one for all.
   */
  shrink(m: Machine, nr_to_scan: number, gfp: number, nid?: number): number;
  /** The same as a job, for a cache that takes long. */
  shrink_job?(m: Machine, nr_to_scan: number, gfp: number): Job;
}

export const DEFAULT_SEEKS = 2;

/** One registered cache (mm.h: struct shrinker). */
export class Shrinker {
  readonly ops: ShrinkerOps;
  /** Objects that should have been scanned and were not yet. */
  nr = 0;

  constructor(ops: ShrinkerOps) {
    this.ops = ops;
  }
}

/** Adds a cache behind those that are registered (vmscan.c). */
export function register_shrinker(m: Machine, ops: ShrinkerOps): void {
  m.shrinkers.push(new Shrinker(ops));
}
