/**
 * What the checks of debug_vm have in common: what they have found so far, and how they complain.
 *
 * Each check marks frames in a DebugState: where a frame was found, how many ptes map it. Later checks
 * compare with that. The first thing that is wrong ends the run as a KernelBug with the page in words.
 * Linux: mm/debug.c (dump_page).
 */
import { KernelBug } from '../lib/bug.ts';
import { type Machine, page_zone, type Zone } from './mmzone.ts';
import type { pfn_t } from './page.ts';

const FLAG_NAMES =
  'locked error referenced uptodate dirty lru active slab checked arch_1 reserved private private_2 writeback head tail swapcache mappedtodisk reclaim buddy swapbacked unevictable mlocked anon_exclusive'.split(
    ' ',
  );

/** One page in words (mm/debug.c: dump_page). */
export function dump_page(m: Machine, pfn: pfn_t): string {
  const p = m.memmap;
  const flags = FLAG_NAMES.filter((_, bit) => (p.flags[pfn]! & (1 << bit)) !== 0).join('|');
  return (
    `page:${pfn} flags:${flags || 'none'} count:${p._count[pfn]} mapcount:${p._mapcount[pfn]} ` +
    `mapping:${p.mapping[pfn]!.toString(16)} index:${p.index[pfn]} private:${p.private_[pfn]} ` +
    `next:${p.next[pfn]} prev:${p.prev[pfn]}`
  );
}

/** Throws: the check found something wrong. With a page, its dump is part of the message. */
export function bad(m: Machine, what: string, pfn: pfn_t | -1 = -1): never {
  throw new KernelBug(pfn < 0 ? what : `${what}: ${dump_page(m, pfn)}`);
}

/** Compares a cached number with the recomputed one. */
export function same(m: Machine, what: string, cached: number, counted: number): void {
  if (cached !== counted) bad(m, `${what}: cached ${cached}, counted ${counted}`);
}

/** What a frame was found to be: filled by the checks of lists, used by those after them. */
export const UNKNOWN = 0;
export const FREE = 1;
export const PCP = 2;
export const LRU = 3;
export const LINKED = 4;

/** What one run of the checks has found so far. */
export class DebugState {
  /** By pfn: UNKNOWN, FREE (inside a free block too), PCP, LRU, LINKED (to some other list). */
  readonly place: Uint8Array;
  /** By pfn: ptes that map it. */
  readonly mapped: Int32Array;
  /** By pfn: entries of per-CPU vectors. */
  readonly in_vector: Uint8Array;
  /** By pfn: slots of page cache trees and of the swap cache. */
  readonly cached: Uint8Array;
  /** By head: entries of upper page tables that map the huge page. */
  readonly mapped_whole: Map<pfn_t, number> = new Map();

  constructor(m: Machine) {
    this.place = new Uint8Array(m.memmap.nr_pages);
    this.mapped = new Int32Array(m.memmap.nr_pages);
    this.in_vector = new Uint8Array(m.memmap.nr_pages);
    this.cached = new Uint8Array(m.memmap.nr_pages);
  }
}

export type DebugCheck = (m: Machine, d: DebugState) => void;

/** Walks a list and marks its pages; returns how many. */
export function walk(
  m: Machine,
  d: DebugState,
  head: number,
  place: number,
  zone: Zone | null,
): number {
  const p = m.memmap;
  let count = 0;
  let prev = head;
  for (let pfn = p.next[head]!; pfn !== head; pfn = p.next[pfn]!) {
    if (pfn <= 0 || pfn >= p.nr_pages) bad(m, `list ${head}: link to row ${pfn}, not a page`);
    if (p.prev[pfn] !== prev) bad(m, `list ${head}: links disagree`, pfn);
    if (d.place[pfn] !== UNKNOWN) bad(m, `list ${head}: the page is on two lists`, pfn);
    if (zone !== null && page_zone(m, pfn) !== zone) bad(m, 'a list of another zone', pfn);
    d.place[pfn] = place;
    prev = pfn;
    count++;
  }
  if (p.prev[head] !== prev) bad(m, `list ${head}: the head's links disagree`);
  return count;
}
