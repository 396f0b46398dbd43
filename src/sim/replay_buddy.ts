/**
 * Replays recorded traces of the buddy allocator: every pfn it returns and every list, in order.
 *
 * A trace starts with the whole state of one zone; then come allocations, frees, drains and, every
 * so often, a dump of the state. Three modes: `raw` works on the zone's free lists alone, without
 * watermarks and per-CPU lists; `drain` allocates ordinarily and drains all per-CPU lists after each
 * operation; `pcp` leaves them live. One dump with the operations before it is one check.
 *
 * A recorded failure in the ordinary modes is a refusal of the LOW watermark, which changes nothing.
 * Linux decides it by the zone counter without the per-CPU differences, so a decision is compared
 * only where those (at most the stat threshold) could not have turned it.
 */

import { __free_pages_ok, __rmqueue } from '../kernels/linux-2.6.35/rmqueue.ts';
import { zone_watermark_ok } from '../kernels/linux-2.6.35/watermark.ts';
import { __GFP_DMA, __GFP_DMA32 } from '../mm/gfp.ts';
import {
  type KernelProfile,
  type Machine,
  type Shape,
  WMARK_LOW,
  type Zone,
} from '../mm/mmzone.ts';
import { prep_new_page } from '../mm/page_alloc.ts';
import { calculate_threshold, NR_FREE_PAGES } from '../mm/vmstat.ts';
import type { Tally } from './replay.ts';
import {
  diff_lists,
  is_zone_record,
  load_zone,
  type RecordedLists,
  type RecordedZone,
} from './replay_state.ts';

interface StartRecord extends RecordedZone {
  t: 'start';
  name: string;
  mode: string;
  /** The mask of an allocation by migrate type. */
  gfp: number[];
}

interface OpRecord {
  t: 'a' | 'f' | 'drain';
  i: number;
  o: number;
  mt: number;
  pfn: number;
}

type BuddyRecord = StartRecord | OpRecord | ({ t: 'dump'; i: number } & RecordedLists);

/** True when the first record of a file starts a buddy trace. */
export function is_buddy_trace(first: Record<string, unknown>): boolean {
  if (first['t'] !== 'start' || typeof first['mode'] !== 'string') return false;
  return Array.isArray(first['gfp']) && is_zone_record(first);
}

/** The types of records after which a dump must follow. */
const CHANGES: readonly string[] = ['a', 'f', 'drain'];

/** Low enough that zone_watermark_ok always says yes. */
const NO_WATERMARK = -(2 ** 30);

/** One trace being replayed. */
export class BuddyReplay {
  readonly m: Machine;
  readonly zone: Zone;
  private readonly start: StartRecord;
  private readonly threshold: number;
  private readonly low_wmark: number;

  constructor(start: Record<string, unknown>, kernel: KernelProfile, shape: Shape) {
    this.start = start as unknown as StartRecord;
    const { m, zone } = load_zone(this.start, kernel, shape);
    this.m = m;
    this.zone = zone;
    this.low_wmark = zone.watermark[WMARK_LOW]!;
    // The most that all CPUs together keep to themselves.
    this.threshold = calculate_threshold(m, zone) * m.shape.nr_cpus;
    // From here on the recorded outcome decides; see check_watermark.
    zone.watermark.fill(NO_WATERMARK);
  }

  get zone_start(): number {
    return this.start.zone_start;
  }

  /** Replays one record; what differs, or null. */
  step(record: Record<string, unknown>): string | null {
    const r = record as unknown as BuddyRecord;
    switch (r.t) {
      case 'a':
        return this.alloc(r);
      case 'f':
        this.free(r);
        return null;
      case 'drain':
        this.drain();
        return null;
      case 'dump':
        return diff_lists(this.m, this.zone, r);
      default:
        // Not of this schema: it says nothing about the allocator.
        return null;
    }
  }

  private alloc(r: OpRecord): string | null {
    const { m, zone, start } = this;
    const what = `allocation ${r.i} (order ${r.o}, type ${r.mt})`;
    let pfn: number;
    if (start.mode === 'raw') {
      pfn = __rmqueue(m, zone, r.o, r.mt);
      if (pfn >= 0) {
        zone.vm_stat[NR_FREE_PAGES]! -= 2 ** r.o;
        prep_new_page(m, pfn, r.o, 0);
      }
    } else {
      const wrong = this.check_watermark(r.o, r.pfn >= 0);
      if (wrong !== null) return `${what}: ${wrong}`;
      if (r.pfn < 0) return null;
      pfn = m.kernel.alloc_pages(m, this.gfp_of(r.mt), r.o, zone.nid);
    }
    if (start.mode === 'drain') this.drain();
    const rel = pfn < 0 ? -1 : pfn - start.zone_start;
    return rel === r.pfn ? null : `${what}: recorded pfn ${r.pfn}, ours ${rel}`;
  }

  /** The recorded mask; its zone bits must name this zone, whatever else they are. */
  private gfp_of(mt: number): number {
    const { shape } = this.m;
    const gfp = this.start.gfp[mt]!;
    if (this.zone.zone_idx === shape.ZONE_DMA) return gfp | __GFP_DMA;
    if (this.zone.zone_idx === shape.ZONE_DMA32) return gfp | __GFP_DMA32;
    return gfp;
  }

  private free(r: OpRecord): void {
    const { m, start } = this;
    const pfn = start.zone_start + r.pfn;
    if (start.mode === 'raw') {
      m.memmap._count[pfn] = 0;
      __free_pages_ok(m, pfn, r.o);
    } else {
      m.kernel.__free_pages(m, pfn, r.o);
    }
    if (start.mode === 'drain') this.drain();
  }

  private drain(): void {
    for (let cpu = 0; cpu < this.m.shape.nr_cpus; cpu++) this.m.kernel.drain_pages(this.m, cpu);
  }

  /** What is wrong with the recorded decision of the LOW watermark, or null. */
  private check_watermark(order: number, granted: boolean): string | null {
    const { zone, threshold } = this;
    const exact = zone.vm_stat[NR_FREE_PAGES]!;
    // The most favourable counter that Linux may have read for the recorded outcome.
    zone.vm_stat[NR_FREE_PAGES] = granted ? exact + threshold : exact - threshold;
    const ok = zone_watermark_ok(zone, order, this.low_wmark, zone.zone_idx, 0);
    zone.vm_stat[NR_FREE_PAGES] = exact;
    if (ok === granted) return null;
    return granted
      ? 'recorded as granted, our LOW watermark refuses it'
      : 'recorded as refused, our LOW watermark grants it';
  }
}

/** Replays a whole file; one check per dump. Stops at the first difference. */
export function verify_buddy(
  records: Iterable<Record<string, unknown>>,
  kernel: KernelProfile,
  shape: Shape,
  tally: Tally,
): void {
  let replay: BuddyReplay | null = null;
  let since_dump = 0;
  for (const record of records) {
    if (is_buddy_trace(record)) {
      if (since_dump > 0) break;
      replay = new BuddyReplay(record, kernel, shape);
      since_dump = 0;
      continue;
    }
    const wrong = replay!.step(record);
    if (CHANGES.includes(String(record['t']))) since_dump++;
    if (wrong !== null) {
      tally.fail(`${record['t']} ${record['i']}`, wrong);
      return;
    }
    if (record['t'] === 'dump') {
      tally.pass();
      since_dump = 0;
    }
  }
  if (since_dump > 0) tally.fail('end', 'the trace ends without a dump after its last operations');
}
