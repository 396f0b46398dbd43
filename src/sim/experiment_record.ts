/**
 * Records a run: page blocks at a few moments, and what each step cost, took and left behind.
 *
 * Of bounded size: two letters a page block and moment, one row a step.
 */
import type { Machine } from '../mm/mmzone.ts';
import type { Run, Step } from './experiment.ts';
import {
  block_map,
  block_types,
  counters_between,
  free_blocks,
  vmstat_snapshot,
} from './experiment_counters.ts';
import { ScanWatch, zone_blocks } from './experiment_watch.ts';

export class Recorder {
  private readonly m: Machine;
  private readonly inspect: ((state: string, m: Machine) => void) | undefined;
  private readonly watch: ScanWatch;
  private readonly maps: Record<string, string> = {};
  private readonly types: Record<string, string> = {};
  private readonly steps: Step[] = [];
  private free_before: readonly number[] = [];
  /** Counters when the steps began, and when the current one did. */
  private ready: Record<string, number> = {};
  private before: Record<string, number> = {};

  /** `inspect` is called with the machine at each moment: for tests. */
  constructor(m: Machine, inspect?: (state: string, m: Machine) => void) {
    this.m = m;
    this.inspect = inspect;
    this.watch = new ScanWatch(m);
  }

  /** Keeps how memory looks now. */
  moment(name: string): void {
    this.maps[name] = block_map(this.m);
    this.types[name] = block_types(this.m);
    this.inspect?.(name, this.m);
  }

  /** The steps begin here. */
  start(): void {
    this.watch.take();
    this.free_before = free_blocks(this.m);
    this.before = this.ready = vmstat_snapshot(this.m);
  }

  /** A step ended that took `ms`; see Step. */
  step(target: number, got: number, ms: number, name?: string): void {
    const after = vmstat_snapshot(this.m);
    this.steps.push({
      ...(name === undefined ? {} : { name }),
      target,
      got,
      ms,
      counters: counters_between(this.before, after),
      free: free_blocks(this.m),
      scans: this.watch.take(),
    });
    this.before = after;
  }

  /** The whole run. */
  end(attempted: number, got: number, notes: Record<string, number>): Omit<Run, 'cell' | 'seed'> {
    this.watch.stop();
    return {
      attempted,
      got,
      total: counters_between(this.ready, vmstat_snapshot(this.m)),
      steps: this.steps,
      free_before: this.free_before,
      zones: this.m.populated_zones.map((zone) => ({
        name: zone.name,
        blocks: zone_blocks(this.m, zone),
      })),
      maps: this.maps,
      types: this.types,
      notes,
    };
  }
}
