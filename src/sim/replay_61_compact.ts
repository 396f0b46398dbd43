/**
 * Replays recorded compactions of 6.1: every scanner step, every move in order, and what is left.
 *
 * A record has the zone before, and one or more steps: the trigger, the tracepoints of the zone in
 * order, the moves, the zone afterwards, the counters that changed. The zone is rebuilt (user pages
 * belong to a simulated process, replay_pages.ts) and the trigger is repeated. Of each step these are
 * checks: events, moves, lists (free lists, pageblock types), hints (skip bits, cached positions,
 * deferral), counters, and what the trigger obtained. Each step starts from the recorded state.
 *
 * Not in the recordings: which of the kernel's own pages are compound. The scanners count a compound
 * page once, so in ranges with such pages a smaller count of scanned pages than ours is accepted, and
 * compact_*_scanned may be smaller by no more than those. Nor when the scheduler let kswapd run beside
 * the task: how often it ran is read from the counters, and when, is tried (Unrecorded).
 * Schema: README of debian-6.1, g3 and g4.
 */
import {
  compact_nodes,
  compact_result_names,
  compact_store,
} from '../kernels/linux-6.1/compaction.ts';
import { __GFP_NO_KSWAPD } from '../kernels/linux-6.1/gfp.ts';
import { hugetlb_init, set_node_huge_pages } from '../kernels/linux-6.1/hugetlb.ts';
import { MAX_RECLAIM_RETRIES } from '../kernels/linux-6.1/kswapd.ts';
import { run_job } from '../lib/kthread.ts';
import {
  __GFP_FS,
  __GFP_IO,
  __GFP_MOVABLE,
  __GFP_NOWARN,
  __GFP_REPEAT,
  __GFP_THISNODE,
  __GFP_WAIT,
} from '../mm/gfp.ts';
import type { KernelProfile, Machine, Shape, Zone } from '../mm/mmzone.ts';
import { LRU_INACTIVE_ANON, LRU_UNEVICTABLE, NR_LRU_LISTS } from '../mm/mmzone.ts';
import {
  PG_head,
  PG_lru,
  PG_mlocked,
  PG_swapbacked,
  PG_tail,
  PG_unevictable,
  PG_uptodate,
} from '../mm/page_flags.ts';
import {
  ALLOCSTALL_ZONE,
  COMPACTFAIL,
  COMPACTFREE_SCANNED,
  COMPACTISOLATED,
  COMPACTMIGRATE_SCANNED,
  COMPACTSTALL,
  COMPACTSUCCESS,
  HTLB_BUDDY_PGALLOC,
  HTLB_BUDDY_PGALLOC_FAIL,
  NR_LRU_BASE,
  PGMIGRATE_FAIL,
  PGMIGRATE_SUCCESS,
} from '../mm/vmstat.ts';
import type { Tally } from './replay.ts';
import {
  diff_hints_61,
  diff_state_61,
  is_zone_61,
  load_zone_61,
  type RecordedState61,
  type RecordedZone61,
} from './replay_61_state.ts';
import { Owners, type PageRun } from './replay_pages.ts';
import { diff_list } from './replay_state.ts';

type Event = [string, ...(number | string)[]];

interface Step {
  trigger: string;
  after: RecordedState61;
  events: Event[];
  moves: { src: number[]; dst: number[] };
  vmstat: Record<string, number>;
  /** Of a pool: the size asked for, and what it had afterwards. */
  asked?: number;
  nr_hugepages?: number;
  /** [order, pfn or -1] of each request. */
  direct?: [number, number][];
}

interface LayoutRecord {
  t: 'layout';
  id: string;
  zone: RecordedZone61;
  sysctl: Record<string, number>;
  before: RecordedState61;
  steps: Step[];
}

/** True when the first record of a file is a layout with triggers. */
export function is_layout_61(first: Record<string, unknown>): boolean {
  return first['t'] === 'layout' && is_zone_61(first['zone']) && Array.isArray(first['steps']);
}

/** Pages of the node that serves page tables and the like: enough for any recorded zone. */
const HELPER_PAGES = 4096;

/** Vmstat rows that a compaction changes, by their number here. */
const COUNTERS: Record<string, number> = {
  pgmigrate_success: PGMIGRATE_SUCCESS,
  pgmigrate_fail: PGMIGRATE_FAIL,
  compact_isolated: COMPACTISOLATED,
  compact_stall: COMPACTSTALL,
  compact_fail: COMPACTFAIL,
  compact_success: COMPACTSUCCESS,
  htlb_buddy_alloc_success: HTLB_BUDDY_PGALLOC,
  htlb_buddy_alloc_fail: HTLB_BUDDY_PGALLOC_FAIL,
  allocstall_normal: ALLOCSTALL_ZONE + 2,
  allocstall_movable: ALLOCSTALL_ZONE + 3,
};
const SCANNED: Record<string, number> = {
  compact_migrate_scanned: COMPACTMIGRATE_SCANNED,
  compact_free_scanned: COMPACTFREE_SCANNED,
};

/** The mask of the recorder's module when it may compact, and of the kernel for huge pages. */
const DIRECT_GFP =
  __GFP_WAIT |
  __GFP_IO |
  __GFP_FS |
  __GFP_NOWARN |
  __GFP_REPEAT |
  __GFP_THISNODE |
  __GFP_MOVABLE |
  __GFP_NO_KSWAPD;

/** A user page by its letter: [flags, count, mapcount, LRU list]. */
const USER = PG_lru | PG_swapbacked | PG_uptodate;
const LETTERS: Record<string, [number, number, number, number]> = {
  M: [USER, 1, 1, LRU_INACTIVE_ANON],
  L: [USER | PG_mlocked | PG_unevictable, 1, 1, LRU_UNEVICTABLE],
  P: [USER, 2, 1, LRU_INACTIVE_ANON],
  l: [USER, 1, 1, LRU_INACTIVE_ANON],
};

/** Gives the pages of a state's map their owners. */
export function load_map(m: Machine, zone: Zone, map: string): void {
  const p = m.memmap;
  const pages: PageRun[] = [];
  const lru: number[][] = Array.from({ length: NR_LRU_LISTS }, () => []);
  for (let rel = 0; rel < map.length; rel++) {
    const page = LETTERS[map[rel]!];
    if (page === undefined) continue;
    pages.push([rel, 1, page[0], page[1], page[2], 1]);
    lru[page[3]]!.push(rel);
  }
  new Owners(m, zone).load({ pages, lru }, new Set());
  for (let i = 0; i < NR_LRU_LISTS; i++) zone.vm_stat[NR_LRU_BASE + i] = lru[i]!.length;
  // Huge pages: a pageblock of nothing but their letters.
  const order = m.shape.pageblock_order;
  const start = zone.zone_start_pfn;
  for (let rel = 0; rel + 2 ** order <= map.length; rel += 2 ** order) {
    if (!/^[TcH]+$/.test(map.slice(rel, rel + 2 ** order))) continue;
    const head = start + rel;
    p.flags[head]! |= PG_head;
    p.private_[head + 1] = order;
    for (let pfn = head + 1; pfn < head + 2 ** order; pfn++) {
      p.flags[pfn]! |= PG_tail;
      p.index[pfn] = head;
    }
  }
}

/** One layout being replayed. */
class CompactReplay61 {
  readonly m: Machine;
  readonly zone: Zone;
  private events: Event[] = [];
  private src: number[] = [];
  private dst: number[] = [];
  private moved = 0;
  private counters: Float64Array;
  private direct: [number, number][] = [];
  /** Pages in the pool. */
  nr_huge = 0;

  constructor(record: LayoutRecord, state: RecordedState61) {
    const { m, zone } = load_zone_61(record.zone, state, record.sysctl, HELPER_PAGES);
    this.m = m;
    this.zone = zone;
    const map = state.map ?? '';
    load_map(m, zone, map);
    this.nr_huge = (map.length - map.replaceAll('H', '').length) / 2 ** m.shape.pageblock_order;
    this.counters = m.vm_events.slice();
    this.subscribe();
  }

  private subscribe(): void {
    const { trace } = this.m;
    const start = this.zone.zone_start_pfn;
    // Of runs over other zones, nothing is recorded; each begins with the test of its zone.
    let other_zone = false;
    const add = (...event: Event): void => {
      if (other_zone) return;
      this.flush_moved();
      this.events.push(event);
    };
    const mode = (sync: number): string => (sync !== 0 ? 'sync' : 'async');
    trace.pageblock_page_moved.subscribe((from, to) => {
      this.src.push(from - start);
      this.dst.push(to - start);
      this.moved++;
    });
    trace.mm_compaction_begin.subscribe((migrate, free, sync) =>
      add('begin', migrate - start, free - start, mode(sync)),
    );
    trace.mm_compaction_end.subscribe((migrate, free, sync, status) =>
      add('end', migrate - start, free - start, mode(sync), compact_result_names[status]!),
    );
    trace.mm_compaction_isolate_migratepages.subscribe((from, to, scanned, taken) =>
      add('isolate_migrate', from - start, to - start, scanned, taken),
    );
    trace.mm_compaction_isolate_freepages.subscribe((from, to, scanned, taken) =>
      add('isolate_free', from - start, to - start, scanned, taken),
    );
    trace.mm_compaction_migratepages.subscribe((ok, failed) => add('migrated', ok, failed));
    trace.mm_compaction_try_to_compact_pages.subscribe((order, _gfp, prio) =>
      add('try', order, prio),
    );
    trace.mm_compaction_suitable.subscribe((zone, order, ret) => {
      other_zone = zone !== this.zone.id;
      add('suitable', order, compact_result_names[ret]!);
    });
    trace.mm_compaction_finished.subscribe((_zone, order, ret) => {
      const name = compact_result_names[ret]!;
      if (name !== 'continue') add('finished', order, name);
    });
    for (const name of ['deferred', 'defer_compaction', 'defer_reset'] as const) {
      trace[`mm_compaction_${name}`].subscribe((_zone, order, failed, considered, shift) =>
        add(name, order, failed, considered, 2 ** shift),
      );
    }
  }

  /** `huge:N`, `hugeinc:N`: the node's pool of huge pages is set to what was asked for. */
  private run_huge(step: Step): void {
    // How often kswapd had failed before is not recorded; how often it still ran, is.
    const runs = step.vmstat['pageoutrun'] ?? 0;
    const pgdat = this.m.nodes[this.zone.nid]!;
    pgdat.kswapd_failures = Math.max(0, MAX_RECLAIM_RETRIES - runs);
    hugetlb_init(this.m);
    const h = this.m.hstates[0]!;
    // Pages that the pool had before are part of the recorded state: not ours to count.
    run_job(set_node_huge_pages(this.m, h, step.asked! - this.nr_huge, this.zone.nid));
    this.nr_huge += h.nr_huge_pages;
  }

  private flush_moved(): void {
    if (this.moved > 0) this.events.push(['moved', this.moved]);
    this.moved = 0;
  }

  /** Repeats what the recorder did; false when this trigger is not known. */
  run(step: Step): boolean {
    const { trigger } = step;
    this.events = [];
    this.src = [];
    this.dst = [];
    this.direct = [];
    this.counters = this.m.vm_events.slice();
    if (trigger === 'node') run_job(compact_store(this.m, this.zone.nid));
    else if (trigger === 'sysctl') run_job(compact_nodes(this.m));
    else if (trigger.startsWith('huge')) this.run_huge(step);
    else if (trigger.startsWith('direct:')) this.run_direct(trigger, step.direct?.length ?? 0);
    else return false;
    this.flush_moved();
    return true;
  }

  /**
   * `direct:order:count`: that many requests of the recorder's module, one after the other; it made
   * no more than it could write down.
   */
  private run_direct(trigger: string, recorded: number): void {
    const [order, count] = trigger.split(':').slice(1).map(Number) as [number, number];
    for (let i = 0; i < Math.min(count, recorded); i++) {
      const pfn = this.m.kernel.alloc_pages(this.m, DIRECT_GFP, order, this.zone.nid);
      this.direct.push([order, pfn < 0 ? -1 : pfn - this.zone.zone_start_pfn]);
    }
  }

  /** Pages fewer than ours that each counter of scanned pages may have, by its name. */
  private readonly slack: Record<string, number> = {};

  /** The kernel's own pages in a range of the map: they may be parts of compound pages. */
  diff_events(recorded: readonly Event[], map: string): string | null {
    for (const name of Object.keys(SCANNED)) this.slack[name] = 0;
    const n = Math.max(recorded.length, this.events.length);
    for (let i = 0; i < n; i++) {
      const theirs = normalize(recorded[i]);
      const ours = this.events[i];
      if (theirs !== undefined && ours !== undefined && same_but_scanned(theirs, ours)) {
        const less = (ours[3] as number) - (theirs[3] as number);
        const range = map.slice(theirs[1] as number, theirs[2] as number);
        const kernel_pages = range.length - range.replaceAll(/[kRnUVc]/g, '').length;
        if (less >= 0 && less <= kernel_pages) {
          const migrate = theirs[0] === 'isolate_migrate';
          this.slack[migrate ? 'compact_migrate_scanned' : 'compact_free_scanned']! += less;
          continue;
        }
      }
      if (JSON.stringify(theirs) === JSON.stringify(ours)) continue;
      return `event ${i}: recorded ${JSON.stringify(theirs)}, ours ${JSON.stringify(ours)}`;
    }
    return null;
  }

  diff_moves(moves: { src: number[]; dst: number[] }): string | null {
    return diff_list('source', moves.src, this.src) ?? diff_list('target', moves.dst, this.dst);
  }

  diff_direct(direct: [number, number][]): string | null {
    const what = 'pfn of request';
    const pfns = (list: [number, number][]): number[] => list.map((e) => e[1]);
    return diff_list(what, pfns(direct), pfns(this.direct));
  }

  /** Blocks that the requests of a step got, or pages in the pool after it. */
  obtained(step: Step): number {
    return step.nr_hugepages !== undefined
      ? this.nr_huge
      : this.direct.filter((e) => e[1] >= 0).length;
  }

  /** [recorded, ours] of one counter's change. */
  counter(step: Step, name: string): [number, number] {
    const event = COUNTERS[name]!;
    return [step.vmstat[name] ?? 0, this.m.vm_events[event]! - this.counters[event]!];
  }

  diff_counters(vmstat: Record<string, number>): string | null {
    for (const [name, event] of Object.entries({ ...COUNTERS, ...SCANNED })) {
      const ours = this.m.vm_events[event]! - this.counters[event]! - (this.slack[name] ?? 0);
      const theirs = vmstat[name] ?? 0;
      if (ours !== theirs) return `${name}: recorded ${theirs}, ours ${ours}`;
    }
    return null;
  }
}

/** A recorded event without what a replay cannot know: the task, the text of a gfp mask. */
function normalize(event: Event | undefined): Event | undefined {
  if (event === undefined) return undefined;
  if (event[0] === 'begin') return event.slice(0, 4) as Event;
  if (event[0] === 'try') return ['try', event[1]!, event[3]!];
  return event;
}

function same_but_scanned(a: Event, b: Event): boolean {
  if (a[0] !== 'isolate_migrate' && a[0] !== 'isolate_free') return false;
  return a[0] === b[0] && a[1] === b[1] && a[2] === b[2] && a[4] === b[4];
}

/** How many of the last wakeups, and by how many cond_resched, may have been late. */
const LATE_WAKEUPS = 6;
const LATE_BY = 40;

/**
 * What a step does not record and its outcome may depend on: whether the scanners had met before it
 * (so that skip bits are to be reset), and which wakeup of kswapd got its turn late, and by how much.
 */
interface Unrecorded {
  blockskip_flush: boolean;
  late_wakeup: number;
  late_by: number;
}

/** Differences of one step by aspect, and the flag for the next one; null for an unknown trigger. */
interface StepResult {
  diffs: Map<string, string | null>;
  /** [recorded, ours]: blocks or huge pages obtained, stalls, successes. */
  obtained: [number, number];
  stalls: [number, number];
  successes: [number, number];
  blockskip_flush: boolean;
  wakeups: number;
  /** The late wakeup never got its turn: a later one would change nothing. */
  too_late: boolean;
}

function replay_step(
  record: LayoutRecord,
  state: RecordedState61,
  step: Step,
  unrecorded: Unrecorded,
): StepResult | null {
  const replay = new CompactReplay61(record, state);
  const { m, zone } = replay;
  const pgdat = m.nodes[zone.nid]!;
  zone.compact_blockskip_flush = unrecorded.blockskip_flush;
  pgdat.kswapd_late_wakeup = unrecorded.late_wakeup;
  pgdat.kswapd_late_by = unrecorded.late_by;
  if (!replay.run(step)) return null;
  const diffs = new Map<string, string | null>();
  diffs.set('events', replay.diff_events(step.events, state.map ?? ''));
  diffs.set('moves', replay.diff_moves(step.moves));
  diffs.set('lists', diff_state_61(m, zone, step.after));
  diffs.set('hints', diff_hints_61(m, zone, step.after));
  // With compact_memory the recorded counters have the other nodes in them.
  diffs.set('counters', step.trigger === 'sysctl' ? null : replay.diff_counters(step.vmstat));
  if (step.direct !== undefined) diffs.set('blocks', replay.diff_direct(step.direct));
  if (step.nr_hugepages !== undefined) {
    diffs.set('pool', diff_list('huge pages', [step.nr_hugepages], [replay.nr_huge]));
  }
  const recorded = (step.direct ?? []).filter((e) => e[1] >= 0).length;
  return {
    diffs,
    obtained: [step.nr_hugepages ?? recorded, replay.obtained(step)],
    stalls: replay.counter(step, 'compact_stall'),
    successes: replay.counter(step, 'compact_success'),
    blockskip_flush: zone.compact_blockskip_flush,
    wakeups: pgdat.kswapd_wakeups,
    too_late: pgdat.kswapd_late_by > 0,
  };
}

const is_equal = (result: StepResult): boolean =>
  [...result.diffs.values()].every((diff) => diff === null);

/**
 * Replays one step in each way that the recording leaves open, until one equals it; the first one's
 * result when none does. `flush` is null when it is not known from the step before.
 */
function replay_step_anyhow(
  record: LayoutRecord,
  state: RecordedState61,
  step: Step,
  flush: boolean | null,
): StepResult | null {
  let first: StepResult | null = null;
  for (const blockskip_flush of flush === null ? [false, true] : [flush]) {
    const at_once = replay_step(record, state, step, {
      blockskip_flush,
      late_wakeup: -1,
      late_by: 0,
    });
    if (at_once === null || is_equal(at_once)) return at_once;
    first ??= at_once;
    const last = at_once.wakeups;
    for (let late_wakeup = last; late_wakeup > Math.max(0, last - LATE_WAKEUPS); late_wakeup--) {
      for (let late_by = 1; late_by <= LATE_BY; late_by++) {
        const result = replay_step(record, state, step, { blockskip_flush, late_wakeup, late_by });
        if (result !== null && is_equal(result)) return result;
        if (result === null || result.too_late) break;
      }
    }
  }
  return first;
}

/**
 * How what direct compactions and huge page pools of a file obtained compares with the recording.
 * Direct compaction depends on what no recording has (kswapd's turns, what the kernel's own pages
 * are), so of these steps the contract is the outcome: equal in nine layouts of ten, within 2 % in
 * the rest. A step that is equal in every aspect is checked in every aspect.
 */
class Obtained {
  private layouts = 0;
  private equal = 0;
  private readonly stalls: [number, number] = [0, 0];
  private readonly successes: [number, number] = [0, 0];

  /** Counts the steps of one layout; none when the layout has no such step. */
  add(results: readonly StepResult[]): void {
    if (results.length === 0) return;
    this.layouts++;
    if (results.every((r) => r.obtained[0] === r.obtained[1])) this.equal++;
    for (const r of results) {
      for (const i of [0, 1]) {
        this.stalls[i]! += r.stalls[i]!;
        this.successes[i]! += r.successes[i]!;
      }
    }
  }

  /** One check for the file, and its stalls and successes side by side. */
  check(tally: Tally): void {
    if (this.layouts === 0) return;
    const pair = ([recorded, ours]: [number, number]): string =>
      `${recorded} recorded, ${ours} ours`;
    const share = `${this.equal} of ${this.layouts} layouts obtain what was recorded`;
    tally.note(
      'obtained',
      `${share}; stalls ${pair(this.stalls)}; successes ${pair(this.successes)}`,
    );
    tally.check('obtained', this.equal >= 0.9 * this.layouts ? null : `only ${share}`);
  }
}

/** A step that differs in some aspect: what it obtained must be within 2 %, and the rest is said. */
function check_obtained(label: string, result: StepResult, tally: Tally): void {
  const [recorded, ours] = result.obtained;
  const pair = ([a, b]: [number, number]): string => `${a} recorded, ${b} ours`;
  for (const [aspect, diff] of result.diffs) {
    if (diff !== null) tally.note(`${label} ${aspect} (not counted)`, diff);
  }
  tally.note(label, `stalls ${pair(result.stalls)}; successes ${pair(result.successes)}`);
  const off = Math.abs(ours - recorded) > recorded * 0.02;
  tally.check(`${label} obtained`, off ? pair(result.obtained) : null);
}

/** Replays a whole file; five or six checks a step, and one for what the file's steps obtained. */
export function verify_layouts_61(
  records: readonly Record<string, unknown>[],
  _kernel: KernelProfile,
  _shape: Shape,
  tally: Tally,
): void {
  const obtained = new Obtained();
  for (const r of records) {
    const record = r as unknown as LayoutRecord;
    const results: StepResult[] = [];
    let state = record.before;
    // Reset with the other hints before most layouts.
    let flush: boolean | null = state.cached.free < 0 ? false : null;
    for (let i = 0; i < record.steps.length; i++) {
      const step = record.steps[i]!;
      const label = `${record.id} step ${i + 1}`;
      const result = replay_step_anyhow(record, state, step, flush);
      if (result === null) {
        tally.fail(label, `unknown trigger '${step.trigger}'`);
        break;
      }
      const asks = step.direct !== undefined || step.nr_hugepages !== undefined;
      if (asks) results.push(result);
      if (asks && !is_equal(result)) {
        check_obtained(label, result, tally);
      } else {
        for (const [aspect, diff] of result.diffs) tally.check(`${label} ${aspect}`, diff);
      }
      flush = is_equal(result) ? result.blockskip_flush : null;
      state = step.after;
    }
    obtained.add(results);
  }
  obtained.check(tally);
}
