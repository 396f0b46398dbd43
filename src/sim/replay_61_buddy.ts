/**
 * Replays recorded traces of 6.1's buddy allocator: every pfn it returns and every list, in order.
 *
 * A file has many traces: the state of one zone, then runs of allocations, frees and page faults,
 * each followed by a dump. Requests go through the whole allocator, watermarks and per-CPU lists
 * (switched off, as they were) included. One dump with the operations before it is one check; after a
 * difference the rest of that trace is not counted. Schema: README of the debian-6.1 recordings, g1.
 */
import { __GFP_MEMALLOC, __GFP_NO_KSWAPD, migratetype_nr } from '../kernels/linux-6.1/gfp.ts';
import {
  __GFP_HIGH,
  __GFP_MOVABLE,
  __GFP_NORETRY,
  __GFP_NOWARN,
  __GFP_RECLAIMABLE,
  __GFP_THISNODE,
  GFP_HIGHUSER_MOVABLE,
} from '../mm/gfp.ts';
import { add_page_to_lru_list, put_page } from '../mm/lru.ts';
import {
  type KernelProfile,
  LRU_INACTIVE_ANON,
  type Machine,
  type Shape,
  type Zone,
} from '../mm/mmzone.ts';
import { PG_lru, PG_swapbacked } from '../mm/page_flags.ts';
import { get_pageblock_migratetype } from '../mm/pageblock.ts';
import type { Tally } from './replay.ts';
import {
  diff_state_61,
  is_zone_61,
  load_zone_61,
  type RecordedState61,
  type RecordedZone61,
} from './replay_61_state.ts';

interface TraceRecord {
  t: 'trace';
  id: string;
  watermarks: boolean;
  zone: RecordedZone61;
  sysctl: Record<string, number>;
}

type Fallback = [number, number, string, number, number];
/** ["A", order, kind, pfn, fallback?], ["F", number of the operation], ["P", pfn]. */
type Op = ['A', number, string, number, Fallback?] | ['F', number] | ['P', number];

/** True when the first record of a file starts traces of 6.1's buddy allocator. */
export function is_buddy_trace_61(first: Record<string, unknown>): boolean {
  return (
    first['t'] === 'trace' && typeof first['watermarks'] === 'boolean' && is_zone_61(first['zone'])
  );
}

const MODULE_GFP = __GFP_THISNODE | __GFP_NOWARN | __GFP_NORETRY | __GFP_NO_KSWAPD;

const KIND_GFP: Record<string, number> = {
  U: 0,
  M: __GFP_MOVABLE,
  R: __GFP_RECLAIMABLE,
  H: __GFP_HIGH,
};

/** One trace being replayed. */
class BuddyReplay61 {
  readonly m: Machine;
  readonly zone: Zone;
  private readonly start: TraceRecord;
  /** By operation: [pfn, order], null for what got nothing. */
  private readonly got: ([number, number] | null)[] = [];
  private fallback: Fallback | null = null;
  private nr_fallbacks = 0;

  constructor(start: TraceRecord, state: RecordedState61) {
    this.start = start;
    const { m, zone } = load_zone_61(start.zone, state, start.sysctl);
    this.m = m;
    this.zone = zone;
    m.trace.mm_page_alloc_extfrag.subscribe((pfn, _order, fallback_order, type, fallback_type) => {
      const owned = get_pageblock_migratetype(m, zone, pfn) === type ? 1 : 0;
      const letter = 'UMRHI'[migratetype_nr[fallback_type]!]!;
      this.nr_fallbacks++;
      const rel = pfn - zone.zone_start_pfn;
      this.fallback = [rel, fallback_order, letter, owned, this.nr_fallbacks];
    });
    if (state.map !== undefined) this.load_map(state.map);
  }

  /** Other pages on LRU lists count as movable when a fallback judges a pageblock. */
  private load_map(map: string): void {
    for (let rel = 0; rel < map.length; rel++) {
      if ('MLPTl'.includes(map[rel]!)) this.set_lru(this.zone.zone_start_pfn + rel);
    }
  }

  private set_lru(pfn: number): void {
    this.m.memmap.flags[pfn]! |= PG_lru | PG_swapbacked;
    add_page_to_lru_list(this.m, this.zone, pfn, LRU_INACTIVE_ANON);
  }

  /** Replays one operation; what differs, or null. */
  step(op: Op): string | null {
    const { m, zone } = this;
    this.fallback = null;
    this.nr_fallbacks = 0;
    if (op[0] === 'F') {
      const [pfn, order] = this.got[op[1]]!;
      if (order === 0) put_page(m, pfn);
      else m.kernel.__free_pages(m, pfn, order);
      this.got.push(null);
      return null;
    }
    const order = op[0] === 'P' ? 0 : op[1];
    let gfp = GFP_HIGHUSER_MOVABLE;
    if (op[0] === 'A') {
      gfp = MODULE_GFP | KIND_GFP[op[2]]!;
      if (!this.start.watermarks) gfp |= __GFP_MEMALLOC;
    }
    const pfn = m.kernel.alloc_pages(m, gfp, order, zone.nid);
    this.got.push(pfn < 0 ? null : [pfn, order]);
    if (op[0] === 'P' && pfn >= 0) this.set_lru(pfn);
    const rel = pfn < 0 ? -1 : pfn - zone.zone_start_pfn;
    const recorded = op[0] === 'P' ? op[1] : op[3];
    if (rel !== recorded) return `recorded pfn ${recorded}, ours ${rel}`;
    // Of page faults, the recorder did not keep the fallback.
    if (op[0] === 'P') return null;
    const fallback = JSON.stringify(op[4] ?? null);
    const ours = JSON.stringify(this.fallback);
    return fallback === ours ? null : `recorded fallback ${fallback}, ours ${ours}`;
  }

  diff(state: RecordedState61): string | null {
    return diff_state_61(this.m, this.zone, state);
  }
}

/** Replays a whole file; one check per dump. Stops a trace at its first difference. */
export function verify_buddy_61(
  records: readonly Record<string, unknown>[],
  _kernel: KernelProfile,
  _shape: Shape,
  tally: Tally,
): void {
  let start: TraceRecord | null = null;
  let replay: BuddyReplay61 | null = null;
  for (const record of records) {
    const id = String(record['id']);
    if (record['t'] === 'trace') {
      start = record as unknown as TraceRecord;
      replay = null;
    } else if (record['t'] === 'dump') {
      const state = record as unknown as RecordedState61;
      if (replay === null) {
        if (start !== null) replay = new BuddyReplay61(start, state);
        continue;
      }
      const diff = replay.diff(state);
      tally.check(`${id} dump ${record['at']}`, diff);
      if (diff !== null) start = replay = null;
    } else if (record['t'] === 'ops' && replay !== null) {
      const from = record['from'] as number;
      const ops = record['ops'] as Op[];
      for (let i = 0; i < ops.length; i++) {
        const diff = replay.step(ops[i]!);
        if (diff === null) continue;
        tally.fail(`${id} operation ${from + i} ${JSON.stringify(ops[i])}`, diff);
        start = replay = null;
        break;
      }
    }
  }
}
