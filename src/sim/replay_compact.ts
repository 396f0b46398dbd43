/**
 * Replays recorded compactions of one zone: which page went where, and what is left.
 *
 * A file has the state before the trigger, then for each round the state right after it, with the
 * anonymous pages' moves, and the state after all vectors and per-CPU lists were drained. The zone
 * is rebuilt (replay_pages.ts) and compacted, and each of these is one check:
 *   moves         every anonymous page's old and new frame, and how many stayed
 *   lists         free lists in order, per-CPU lists, pageblock types
 *   counters      compact_blocks_moved and its like, and zone counters that vectors do not touch
 *   drained       the same lists and all zone counters after draining
 *   drained pages flags, reference and map counts of every page, and the LRU lists in order
 * Where the trigger was a loop of large allocations: the blocks they got, moves, free blocks and their
 * types, compact_* counters; see replay_direct.ts for what is not compared.
 * Two things are outside the recording and are read from its outcome: a metadata page that is still
 * there with its buffers had a buffer in use; and a kernel page that is free afterwards was given back
 * by the recorded kernel's own doing, before the first page moved. Schema: README of the recordings, compact/.
 */

import { CompactControl, compact_zone } from '../kernels/linux-2.6.35/compaction.ts';
import { run_job } from '../lib/kthread.ts';
import { free_list_head } from '../mm/buddy.ts';
import {
  __GFP_COMP,
  __GFP_HARDWALL,
  __GFP_NOWARN,
  __GFP_THISNODE,
  GFP_KERNEL,
  MIGRATE_TYPES,
  MIGRATE_UNMOVABLE,
} from '../mm/gfp.ts';
import { lru_add_drain_all } from '../mm/lru.ts';
import {
  type KernelProfile,
  type Machine,
  NR_LRU_LISTS,
  type Shape,
  type Zone,
} from '../mm/mmzone.ts';
import type { pfn_t } from '../mm/page.ts';
import { PG_active, PG_private, PG_slab } from '../mm/page_flags.ts';
import {
  COMPACTBLOCKS,
  COMPACTPAGEFAILED,
  COMPACTPAGES,
  NR_FREE_PAGES,
  NR_KERNEL_STACK,
  NR_MLOCK,
  NR_PAGETABLE,
  NR_SHMEM,
  NR_SLAB_RECLAIMABLE,
  NR_SLAB_UNRECLAIMABLE,
} from '../mm/vmstat.ts';
import type { Tally } from './replay.ts';
import {
  type Attempt,
  type DirectRun,
  deactivate,
  explain,
  isolate_active_anon,
  type KswapdRun,
} from './replay_direct.ts';
import { Owners, type PageRun, type RecordedPages } from './replay_pages.ts';
import {
  diff_list,
  diff_lists,
  is_zone_record,
  list_pfns,
  load_zone,
  type RecordedZone,
} from './replay_state.ts';

interface CompactRecord extends RecordedZone, RecordedPages {
  t: 'initial' | 'before' | 'after' | 'after_drain' | 'verify';
  round?: number;
  /** Whole /proc/vmstat of the recorded machine. */
  vmstat?: string;
  /** [old, new] of the process's anonymous pages; `same` stayed, `lost` must be 0. */
  moves?: [number, number][];
  same?: number;
  lost?: number;
  /** Blocks that the trigger obtained, when it was a loop of large allocations. */
  huge?: number[];
  /** Letters for what is special about the layout (README); only in `initial`. */
  extra?: string;
}

/** The mask of the recorder's large allocations. */
const LARGE_GFP = GFP_KERNEL | __GFP_COMP | __GFP_THISNODE | __GFP_HARDWALL | __GFP_NOWARN;

/** Memory of the helper node: page tables, radix nodes, buffers of the rebuilt owners. */
const HELPER_PAGES = 32768;

/** True for the first record of a recorded compaction. */
export function is_compact_record(r: Record<string, unknown>): boolean {
  return is_zone_record(r) && Array.isArray(r['pages']) && Array.isArray(r['lru']);
}

/** What /proc/vmstat calls the events that compaction counts, and where we count them. */
const COMPACT_EVENTS: readonly [string, number][] = [
  ['compact_blocks_moved', COMPACTBLOCKS],
  ['compact_pages_moved', COMPACTPAGES],
  ['compact_pagemigrate_failed', COMPACTPAGEFAILED],
];

/** Zone counters that neither LRU vectors nor the kernel's own objects (slab, stacks) move. */
function is_steady(item: number): boolean {
  return item === NR_FREE_PAGES || (item >= NR_MLOCK && is_ours(item));
}

/** Zone counters of memory that the recorded processes own, as opposed to the kernel's. */
function is_ours(item: number): boolean {
  if (item === NR_SLAB_RECLAIMABLE || item === NR_SLAB_UNRECLAIMABLE) return false;
  if (item === NR_PAGETABLE || item === NR_KERNEL_STACK) return false;
  return item <= NR_SHMEM;
}

export function verify_compact(
  records: readonly Record<string, unknown>[],
  kernel: KernelProfile,
  shape: Shape,
  tally: Tally,
): void {
  const all = records as unknown as CompactRecord[];
  const at = all.findIndex((r) => r.t === 'before');
  if (at < 0) {
    tally.fail('record 1', 'the file has no state before the compaction');
    return;
  }
  let before = all[at]!;
  const later = all.slice(at + 1);
  const make = (): CompactReplay => new CompactReplay(before, later, kernel, shape);
  const direct = later.find((r) => r.huge !== undefined);
  if (direct !== undefined) {
    const order = large_order(all);
    let replay = make();
    const attempt = (kswapd: readonly KswapdRun[]): Attempt => {
      replay = make();
      replay.free_kernel_pages(before, direct);
      const run = replay.allocate(direct.huge!.length, order, kswapd);
      const differences = replay.count_differences(direct, run);
      return { run, wrong: replay.misplaced(direct), differences };
    };
    const { run } = attempt(explain(attempt));
    replay.check_direct(before, direct, run, tally);
    return;
  }
  const replay = make();
  for (const r of later) {
    const failed = tally.failed;
    if (r.t === 'after') {
      replay.free_kernel_pages(before, r);
      replay.compact();
      replay.check_after(before, r, tally);
      before = r;
    } else if (r.t === 'after_drain') {
      replay.drain();
      replay.check_drained(r, tally);
    }
    // What follows a difference would only repeat it.
    if (tally.failed > failed) return;
  }
}

/** The order of the large allocations: 7 where the layout says so, else 9. */
function large_order(all: readonly CompactRecord[]): number {
  return all.some((r) => r.extra?.includes('7') === true) ? 7 : 9;
}

function label(r: CompactRecord): string {
  return `${r.t} (round ${r.round ?? 0})`;
}

class CompactReplay {
  private readonly m: Machine;
  private readonly zone: Zone;
  private readonly owners: Owners;
  /** By anonymous page of `before`: where it is now. */
  private readonly places: Map<number, number> = new Map();
  private readonly events: Float64Array;

  constructor(
    before: CompactRecord,
    later: readonly CompactRecord[],
    kernel: KernelProfile,
    shape: Shape,
  ) {
    const { m, zone } = load_zone(before, kernel, shape, HELPER_PAGES);
    this.m = m;
    this.zone = zone;
    this.owners = new Owners(m, zone);
    this.owners.load(before, busy_pages(before, later));
    for (const [pfn, run, , , mapcount, is_anon] of before.pages) {
      if (is_anon === 0 || mapcount === 0) continue;
      for (let i = 0; i < run; i++) this.places.set(pfn + i, pfn + i);
    }
    this.events = m.vm_events.slice();
  }

  /**
   * Frees the single pages of its own (slabs and such) that the recorded kernel gave back around the
   * trigger: they are in use before and free after. Its per-CPU lists of a remote zone are flushed
   * when idle, so that the page reaches the free lists.
   */
  free_kernel_pages(before: CompactRecord, after: CompactRecord): void {
    const { m, zone } = this;
    const used: Set<number> = new Set();
    for (const [pfn, run, flags, count] of before.pages) {
      if (count !== 1 || (flags & ~(PG_slab | PG_active)) !== 0) continue;
      for (let i = 0; i < run; i++) used.add(pfn + i);
    }
    for (const [first, run, , count] of after.pages) {
      for (let rel = first; rel < first + run && count === 0; rel++) {
        if (!used.has(rel)) continue;
        const pfn = zone.zone_start_pfn + rel;
        m.memmap.flags[pfn] = 0;
        m.kernel.__free_pages(m, pfn, 0);
        m.kernel.drain_pages(m, m.this_cpu);
      }
    }
  }

  /** Writing to the node's compact file, for this one zone. */
  compact(): void {
    this.events.set(this.m.vm_events);
    lru_add_drain_all(this.m);
    const cc = new CompactControl(this.zone, -1, MIGRATE_UNMOVABLE);
    run_job(compact_zone(this.m, this.zone, cc));
  }

  /**
   * Large unmovable blocks of the recorded zone until there is none, as the recorder's driver took
   * them; kswapd runs at the given moments. Returns the blocks and where each compaction moved what.
   */
  allocate(most: number, order: number, kswapd: readonly KswapdRun[]): DirectRun {
    const { m, zone } = this;
    const start = zone.zone_start_pfn;
    const run: DirectRun = { blocks: [], moves: [] };
    let at = 0;
    let moved = 0;
    let held: pfn_t[] = [];
    const listener = (old: pfn_t, now: pfn_t): void => {
      run.moves.push({
        block: run.blocks.length,
        moved: moved++,
        old: old - start,
        now: now - start,
      });
    };
    m.trace.pageblock_page_moved.subscribe(listener);
    m.other_cpu = () => {
      const next = kswapd[at];
      if (next?.block !== run.blocks.length || next.moved > moved) return;
      at++;
      deactivate(m, zone, held);
      held = isolate_active_anon(m, zone);
    };
    this.events.set(m.vm_events);
    while (run.blocks.length <= most) {
      moved = 0;
      const pfn = m.kernel.alloc_pages(m, LARGE_GFP, order, zone.nid);
      deactivate(m, zone, held);
      held = [];
      if (pfn < 0) break;
      run.blocks.push(pfn - start);
    }
    m.other_cpu = null;
    m.trace.pageblock_page_moved.unsubscribe(listener);
    return run;
  }

  /** Anonymous pages of `before` that are not where the recording has them afterwards. */
  misplaced(r: CompactRecord): Set<number> {
    const moves = new Map(r.moves);
    const wrong: Set<number> = new Set();
    for (const first of this.places.keys()) {
      if (this.owners.anon_pfn(first) !== (moves.get(first) ?? first)) wrong.add(first);
    }
    return wrong;
  }

  /** How many blocks and entries of free lists are not the recorded ones. */
  count_differences(r: CompactRecord, run: DirectRun): number {
    const { m, zone } = this;
    const unlike = (recorded: readonly number[], ours: readonly number[]): number => {
      let n = Math.abs(recorded.length - ours.length);
      recorded.forEach((pfn, i) => {
        if (ours[i] !== undefined && ours[i] !== pfn) n++;
      });
      return n;
    };
    let sum = unlike(r.huge!, run.blocks);
    for (let order = 0; order < m.shape.max_order; order++) {
      for (let type = 0; type < MIGRATE_TYPES; type++) {
        const ours = list_pfns(m, zone, free_list_head(zone, order, type));
        sum += unlike(r.free[`${order}/${type}`] ?? [], ours);
      }
    }
    return sum;
  }

  check_direct(before: CompactRecord, r: CompactRecord, run: DirectRun, tally: Tally): void {
    tally.check(label(r) + ' blocks', diff_list('blocks obtained', r.huge!, run.blocks));
    tally.check(label(r) + ' moves', this.diff_moves(r));
    tally.check(label(r) + ' lists', diff_lists(this.m, this.zone, r, false));
    tally.check(label(r) + ' counters', this.diff_events(before, r));
  }

  drain(): void {
    lru_add_drain_all(this.m);
    for (let cpu = 0; cpu < this.m.shape.nr_cpus; cpu++) this.m.kernel.drain_pages(this.m, cpu);
  }

  check_after(before: CompactRecord, r: CompactRecord, tally: Tally): void {
    tally.check(label(r) + ' moves', this.diff_moves(r));
    tally.check(label(r) + ' lists', diff_lists(this.m, this.zone, r));
    tally.check(
      label(r) + ' counters',
      this.diff_events(before, r) ?? this.diff_vm_stat(r, is_steady),
    );
  }

  check_drained(r: CompactRecord, tally: Tally): void {
    tally.check(label(r), diff_lists(this.m, this.zone, r) ?? this.diff_vm_stat(r, is_ours));
    tally.check(label(r) + ' pages', this.diff_pages(r.pages) ?? this.diff_lru(r.lru));
  }

  /** Follows every anonymous page by its page table entry, as the recorder did. */
  private diff_moves(r: CompactRecord): string | null {
    const ours: Map<number, number> = new Map();
    let same = 0;
    for (const [first, old] of this.places) {
      const now = this.owners.anon_pfn(first);
      if (now === old) same++;
      else ours.set(old, now);
      this.places.set(first, now);
    }
    for (const [old, now] of r.moves ?? []) {
      if (ours.get(old) !== now) {
        return `page ${old}: recorded move to ${now}, ours ${place(ours.get(old))}`;
      }
      ours.delete(old);
    }
    for (const [old, now] of ours) return `page ${old}: recorded as unmoved, ours ${place(now)}`;
    return diff_list('unmoved pages', [r.same ?? same], [same]);
  }

  private diff_events(before: CompactRecord, r: CompactRecord): string | null {
    if (before.vmstat === undefined || r.vmstat === undefined) return null;
    const was = parse_vmstat(before.vmstat);
    const is = parse_vmstat(r.vmstat);
    for (const [name, event] of COMPACT_EVENTS) {
      const recorded = (is.get(name) ?? 0) - (was.get(name) ?? 0);
      const diff = diff_list(name, [recorded], [this.m.vm_events[event]! - this.events[event]!]);
      if (diff !== null) return diff;
    }
    return null;
  }

  private diff_vm_stat(r: CompactRecord, counts: (item: number) => boolean): string | null {
    for (let item = 0; item < r.vm_stat.length; item++) {
      if (!counts(item)) continue;
      const diff = diff_list(
        `zone counter ${item}`,
        [r.vm_stat[item]!],
        [this.zone.vm_stat[item]!],
      );
      if (diff !== null) return diff;
    }
    return null;
  }

  /** Flags, counts and kind of every page. */
  private diff_pages(pages: readonly PageRun[]): string | null {
    const p = this.m.memmap;
    for (const [first, run, flags, count, mapcount, is_anon] of pages) {
      for (let rel = first; rel < first + run; rel++) {
        const pfn = this.zone.zone_start_pfn + rel;
        const diff = diff_list(
          `page ${rel}: flags, count, map count, anon`,
          [flags, count, mapcount, is_anon],
          [p.flags[pfn]!, p._count[pfn]!, p._mapcount[pfn]!, p.mapping[pfn]! & 1],
        );
        if (diff !== null) return diff;
      }
    }
    return null;
  }

  private diff_lru(lru: readonly number[][]): string | null {
    for (let i = 0; i < NR_LRU_LISTS; i++) {
      const diff = diff_list(
        'LRU list ' + i,
        lru[i]!,
        list_pfns(this.m, this.zone, this.zone.lru + i),
      );
      if (diff !== null) return diff;
    }
    return null;
  }
}

function place(rel: number | undefined): string {
  if (rel === undefined) return 'did not move it';
  return rel < 0 ? 'lost it' : 'moved it to ' + rel;
}

/** Pages with buffers that are where they were, buffers and all, when everything is over. */
function busy_pages(before: CompactRecord, later: readonly CompactRecord[]): Set<number> {
  const last = later.findLast((r) => Array.isArray(r.pages));
  const busy: Set<number> = new Set();
  const flags = new Map<number, number>();
  for (const [pfn, run, f] of before.pages) {
    if ((f & PG_private) !== 0) for (let i = 0; i < run; i++) flags.set(pfn + i, f);
  }
  for (const [pfn, run, f] of last?.pages ?? []) {
    for (let i = 0; i < run; i++) if (flags.get(pfn + i) === f) busy.add(pfn + i);
  }
  return busy;
}

function parse_vmstat(text: string): Map<string, number> {
  const values: Map<string, number> = new Map();
  for (const line of text.split('\n')) {
    const [name, value] = line.split(' ');
    if (value !== undefined) values.set(name!, Number(value));
  }
  return values;
}
