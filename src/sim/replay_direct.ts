/**
 * What is special about recorded compactions by large allocations: kswapd ran beside them.
 *
 * The allocations woke the recorded kswapd, which from time to time aged the anonymous pages
 * (shrink_active_list): it drains the CPU's LRU vectors, takes 32 pages off the tail of the active list
 * and, while it looks at them, another task may run. A compaction passes over those pages, and the
 * drain shifts when vacated frames are freed, so that a block may be complete a batch earlier or
 * later. On the one CPU of that machine the timer decided when this happened, and the recording does
 * not say: the moments are found by trial. From the first page that ends up elsewhere than recorded,
 * moments before it are tried, and the one is kept that leaves fewest pages elsewhere. Blocks, moves,
 * the free lists in order and what compaction counted of pages and batches must then be equal as they
 * are; that nothing but a few such moments is free makes this a test. Flags and LRU lists are not
 * compared, because they depend on everything else that kswapd did, nor is the number of stalls: a
 * request may find its block complete, or complete it by draining the vectors, which is one more.
 * Linux: mm/vmscan.c (shrink_active_list, balance_pgdat).
 */
import { list_entries } from '../lib/list.ts';
import { add_page_to_lru_list, del_page_from_lru_list, lru_add_drain } from '../mm/lru.ts';
import {
  LRU_ACTIVE_ANON,
  LRU_INACTIVE_ANON,
  type Machine,
  SWAP_CLUSTER_MAX,
  type Zone,
} from '../mm/mmzone.ts';
import type { pfn_t } from '../mm/page.ts';
import { PG_active, PG_lru } from '../mm/page_flags.ts';

/** A moment at which kswapd ran: after so many blocks, and so many moves for the next one. */
export interface KswapdRun {
  block: number;
  moved: number;
}

export interface DirectRun {
  /** First frames of the blocks obtained, relative to the zone. */
  blocks: number[];
  /** Every move, with the moment before it. */
  moves: { block: number; moved: number; old: number; now: number }[];
}

/** One replay with some moments of kswapd. */
export interface Attempt<T> {
  replay: T;
  run: DirectRun;
  /** Pages that are elsewhere than recorded. */
  wrong: Set<number>;
}

type Try<T> = (kswapd: readonly KswapdRun[]) => Attempt<T>;

/** Moments tried before one wrong move: what two rounds of two vectors can shift, and a batch. */
const TRIAL_WINDOW = 48;
/** Runs of kswapd that are looked for at most. */
const MAX_RUNS = 24;

/** The replay with the moments of kswapd that explain the recording best. */
export function explain<T>(attempt: Try<T>): Attempt<T> {
  let kswapd: KswapdRun[] = [];
  let best = attempt(kswapd);
  while (best.wrong.size > 0 && kswapd.length < MAX_RUNS) {
    const at = first_wrong_move(best);
    let better: Attempt<T> | null = null;
    let moments = kswapd;
    for (let i = at - 1; i >= Math.max(0, at - TRIAL_WINDOW); i--) {
      const { block, moved } = best.run.moves[i]!;
      const trial = attempt([...kswapd, { block, moved }]);
      if (trial.wrong.size >= (better ?? best).wrong.size) continue;
      better = trial;
      moments = [...kswapd, { block, moved }];
      if (trial.wrong.size === 0) break;
    }
    if (better === null) break;
    best = better;
    kswapd = moments;
  }
  return best;
}

/** The first move of a page that ends up in the wrong place, as an index into the run's moves. */
function first_wrong_move<T>(a: Attempt<T>): number {
  const { moves } = a.run;
  const origin: Map<number, number> = new Map();
  for (let i = 0; i < moves.length; i++) {
    const { old, now } = moves[i]!;
    const first = origin.get(old) ?? old;
    if (a.wrong.has(first)) return i;
    origin.delete(old);
    origin.set(now, first);
  }
  return moves.length;
}

/** The first half of ageing: vectors drained, then a batch from the active anonymous pages' tail. */
export function isolate_active_anon(m: Machine, zone: Zone): pfn_t[] {
  lru_add_drain(m);
  const pfns = list_entries(m.memmap, zone.lru + LRU_ACTIVE_ANON).slice(-SWAP_CLUSTER_MAX);
  for (const pfn of pfns) {
    m.memmap._count[pfn]!++;
    m.memmap.flags[pfn]! &= ~PG_lru;
    del_page_from_lru_list(m, zone, pfn, LRU_ACTIVE_ANON);
  }
  return pfns.reverse();
}

/** The second half, for pages that nobody used: they become inactive. */
export function deactivate(m: Machine, zone: Zone, pfns: readonly pfn_t[]): void {
  for (const pfn of pfns) {
    m.memmap.flags[pfn]! &= ~PG_active;
    m.memmap.flags[pfn]! |= PG_lru;
    add_page_to_lru_list(m, zone, pfn, LRU_INACTIVE_ANON);
    m.memmap._count[pfn]!--;
  }
}
