/**
 * What is special about recorded compactions by large allocations: kswapd ran beside them.
 *
 * The allocations woke the recorded kswapd, which from time to time aged the anonymous pages
 * (shrink_active_list): it drains the CPU's LRU vectors, takes 32 pages off the tail of the active list
 * and, while it looks at them, another task may run. A compaction passes over those pages, and the
 * drain shifts when vacated frames are freed, so that a block may be complete a batch earlier or
 * later. On the one CPU of that machine the timer decided when this happened, and the recording does
 * not say: the moments are found by trial. From the first page that ends up elsewhere than recorded,
 * moments before it are tried, and those are followed that go wrong later. Blocks, moves, the free
 * blocks and what compaction counted of pages and batches must then be equal as they are; that
 * nothing but a few such moments is free makes this a test. (In the recordings at hand even the order
 * of all free lists is equal then.) Flags and LRU lists are not compared, because they depend on
 * everything else that kswapd did, nor is the number of stalls: a request may find its block
 * complete, or complete it by draining the vectors, which is one more.
 * Linux: mm/vmscan.c (shrink_active_list, balance_pgdat).
 */
import { list_entries } from '../lib/list.ts';
import { add_page_to_lru_list, del_page_from_lru_list, lru_add_drain } from '../mm/lru.ts';
import {
  LRU_ACTIVE_ANON,
  LRU_INACTIVE_ANON,
  type Machine,
  PAGEVEC_SIZE,
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

/** One replay with some moments of kswapd, and how it compares with the recording. */
export interface Attempt {
  run: DirectRun;
  /** Pages that are elsewhere than recorded. */
  wrong: Set<number>;
  /** Blocks and entries of free lists that differ. */
  differences: number;
}

type Try = (kswapd: readonly KswapdRun[]) => Attempt;

interface Hypothesis extends Attempt {
  kswapd: readonly KswapdRun[];
  /** The first move of a page that ends up elsewhere. */
  at: number;
}

/** Moments tried before one wrong move: what two rounds of two vectors can shift, and a batch. */
const TRIAL_WINDOW = 48;
/** Hypotheses that are followed at a time, and replays in all. */
const BEAM = 3;
const MAX_TRIALS = 2000;

/** The moments of kswapd that explain the recording best. */
export function explain(attempt: Try): readonly KswapdRun[] {
  const make = (kswapd: readonly KswapdRun[]): Hypothesis => {
    const result = attempt(kswapd);
    return { ...result, kswapd, at: first_wrong_move(result) };
  };
  let frontier = [make([])];
  let best = frontier[0]!;
  let wide = false;
  for (let trials = 0; trials < MAX_TRIALS && !explains(best); ) {
    const next: Hypothesis[] = [];
    for (const h of frontier) {
      for (const kswapd of neighbours(h, wide)) {
        const trial = make(kswapd);
        trials++;
        if (!next.some((other) => same_outcome(other, trial))) next.push(trial);
        if (explains(trial)) return kswapd;
      }
    }
    next.sort(by_quality);
    if (next.length > 0 && by_quality(next[0]!, best) < 0) {
      best = next[0]!;
      frontier = next.slice(0, BEAM);
      wide = false;
    } else if (wide) {
      break;
    } else {
      // Nothing just before the first wrong move: look further back.
      wide = true;
    }
  }
  return best.kswapd;
}

function explains(h: Attempt): boolean {
  return h.wrong.size === 0 && h.differences === 0;
}

/** Better: goes wrong later, or in fewer places. */
function by_quality(a: Hypothesis, b: Hypothesis): number {
  return b.at - a.at || a.wrong.size - b.wrong.size || a.differences - b.differences;
}

function same_outcome(a: Hypothesis, b: Hypothesis): boolean {
  if (a.at !== b.at || a.wrong.size !== b.wrong.size || a.differences !== b.differences)
    return false;
  const moves = a.run.moves;
  if (moves.length !== b.run.moves.length) return false;
  return moves.every((move, i) => move.now === b.run.moves[i]!.now);
}

/**
 * What to try next: one more moment before the first wrong move; when all pages are right and only
 * blocks or the order of lists are not, a moment a little earlier or later, or one more near the
 * end of a compaction, where it shifts what the vectors still hold.
 */
function neighbours(h: Hypothesis, wide: boolean): KswapdRun[][] {
  const { moves } = h.run;
  const next: KswapdRun[][] = [];
  const add = (i: number): void => {
    const { block, moved } = moves[i]!;
    const kswapd = [...h.kswapd, { block, moved }];
    next.push(kswapd.sort((x, y) => x.block - y.block || x.moved - y.moved));
  };
  if (h.wrong.size > 0) {
    const first = wide ? h.at - TRIAL_WINDOW - 1 : h.at - 1;
    const last = wide ? 0 : Math.max(0, h.at - TRIAL_WINDOW);
    for (let i = first; i >= last; i -= wide ? 5 : 1) add(i);
    return next;
  }
  for (let n = 0; n < h.kswapd.length; n++) {
    for (let shift = -TRIAL_WINDOW / 2; shift <= TRIAL_WINDOW / 2; shift++) {
      next.push(h.kswapd.map((k, j) => (j === n ? { ...k, moved: k.moved + shift } : k)));
    }
  }
  for (let i = 0; i < moves.length; i++) {
    const ahead = moves[i + PAGEVEC_SIZE];
    if (ahead?.block !== moves[i]!.block) add(i);
  }
  return next;
}

/** The first move of a page that ends up in the wrong place, as an index into the run's moves. */
function first_wrong_move(a: Attempt): number {
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
