/**
 * What the two scanners of compaction did during a step: how often they ran in each zone, how they
 * ended, and how far they came.
 *
 * Listens to the begin and end of compact_zone. Positions are page blocks, counted from the zone's
 * first one, and only the furthest is kept, so that a step takes the same room however long it is.
 * Differs: 2.6.35 has no such tracepoints; ours are not among its trace events.
 */
import type { TraceListener } from '../lib/tracepoint.ts';
import { type Machine, type Zone, zone_end_pfn } from '../mm/mmzone.ts';

/** Compaction of one zone during one step. */
export interface ZoneScan {
  /** Index into the zones of the run. */
  readonly zone: number;
  /** Runs of compact_zone, and those in which the scanners met. */
  runs: number;
  met: number;
  /** The furthest page blocks: reached by the migrate scanner, and down to by the free scanner. */
  migrate: number;
  free: number;
}

/** Page blocks of a zone, with the part of one at either end. */
export function zone_blocks(m: Machine, zone: Zone): number {
  const size = 2 ** m.shape.pageblock_order;
  return Math.ceil(zone_end_pfn(zone) / size) - Math.floor(zone.zone_start_pfn / size);
}

export class ScanWatch {
  private readonly m: Machine;
  private scans: ZoneScan[] = [];
  /** The zone that is being compacted. */
  private zone = -1;
  private readonly begin: TraceListener;
  private readonly end: TraceListener;

  constructor(m: Machine) {
    this.m = m;
    this.begin = (migrate_pfn) => {
      this.zone = m.populated_zones.findIndex(
        (z) => migrate_pfn >= z.zone_start_pfn && migrate_pfn < zone_end_pfn(z),
      );
    };
    this.end = (migrate_pfn, free_pfn) => this.add(migrate_pfn, free_pfn);
    m.trace.mm_compaction_begin.subscribe(this.begin);
    m.trace.mm_compaction_end.subscribe(this.end);
  }

  private add(migrate_pfn: number, free_pfn: number): void {
    const zone = this.m.populated_zones[this.zone];
    if (zone === undefined) return;
    const size = 2 ** this.m.shape.pageblock_order;
    const blocks = zone_blocks(this.m, zone);
    const first = Math.floor(zone.zone_start_pfn / size);
    // A scanner that is past the other one's first block may stand outside of the zone.
    const migrate = Math.min(blocks, Math.max(0, Math.floor(migrate_pfn / size) - first));
    const free = Math.min(blocks, Math.max(0, Math.floor(free_pfn / size) - first));
    let scan = this.scans.find((s) => s.zone === this.zone);
    if (scan === undefined) {
      scan = { zone: this.zone, runs: 0, met: 0, migrate: 0, free: blocks };
      this.scans.push(scan);
    }
    scan.runs++;
    if (free_pfn <= migrate_pfn) scan.met++;
    scan.migrate = Math.max(scan.migrate, migrate);
    scan.free = Math.min(scan.free, free);
  }

  /** What was seen since the last call, by zone. */
  take(): ZoneScan[] {
    const { scans } = this;
    this.scans = [];
    return scans.sort((a, b) => a.zone - b.zone);
  }

  stop(): void {
    this.m.trace.mm_compaction_begin.unsubscribe(this.begin);
    this.m.trace.mm_compaction_end.unsubscribe(this.end);
  }
}
