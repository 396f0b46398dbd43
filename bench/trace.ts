/**
 * What tracing costs: an event that is off, and events that are on.
 *
 * An event that is off is one load and a branch. Its cost is the difference between a loop that looks
 * at a tracepoint in each turn and one that does not: the two run in turn, many times, and the fastest
 * run of each counts, since other programs can only slow a run down. The same pages are then allocated
 * with all events never on, on, and off again.
 */
import { event_enable_disable, trace_state, tracing_reset } from '../src/fs/tracefs/trace.ts';
import { boot } from '../src/machine.ts';
import { GFP_HIGHUSER_MOVABLE } from '../src/mm/gfp.ts';
import type { Machine } from '../src/mm/mmzone.ts';
import { nsPer, type Result, runGroup } from './harness.ts';

let sink = 0;

/** Some work per turn, so that the processor has something to overlap the check with. */
function turns(m: Machine, count: number, looks: boolean): number {
  const point = m.trace.mm_page_alloc;
  return nsPer(count, () => {
    let x = 1;
    for (let i = 0; i < count; i++) {
      x = (Math.imul(x, 1664525) + 1013904223) | 0;
      if (looks && point.enabled) point.emit(x);
    }
    sink += x;
  });
}

/** Nanoseconds that looking at an event that is off adds to a turn. */
function cost_of_looking(m: Machine): number {
  const best = [Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY];
  for (let i = 0; i < 40; i++) {
    for (const looks of [0, 1]) {
      best[looks] = Math.min(best[looks]!, turns(m, 500_000, looks === 1));
    }
  }
  return best[1]! - best[0]!;
}

function pages(m: Machine, count: number): number {
  const k = m.kernel;
  return nsPer(count, () => {
    for (let i = 0; i < count; i++) k.__free_pages(m, k.alloc_pages(m, GFP_HIGHUSER_MOVABLE, 0), 0);
  });
}

function all_events(m: Machine, on: boolean): void {
  const { events } = trace_state(m).format;
  for (let event = 0; event < events.length; event++) event_enable_disable(m, event, on);
}

export async function benchTrace(rounds: number): Promise<Result[]> {
  const m = boot({ memory: 2 ** 28 });
  const traced = boot({ memory: 2 ** 28 });
  pages(m, 200_000);
  const results = await runGroup(
    'trace events, per page allocated and freed',
    [
      {
        name: 'one event that is off',
        unit: 'ns',
        target: 'about 1, of some 300 for a page',
        round: () => cost_of_looking(m),
      },
      { name: 'all events off, never on before', unit: 'ns', round: () => pages(m, 1_000_000) },
      {
        name: 'all events on',
        unit: 'ns',
        round: () => {
          all_events(traced, true);
          tracing_reset(traced);
          return pages(traced, 100_000);
        },
      },
      {
        name: 'all events off again',
        unit: 'ns',
        round: () => {
          all_events(traced, false);
          return pages(traced, 1_000_000);
        },
      },
    ],
    rounds,
  );
  if (sink === 0.5 || trace_state(traced).buffers.length === 0) throw new Error('bench: no trace');
  return results;
}
