/** The naive allocator and compaction of 6.1 against the recordings, before the models trust it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { NaiveAllocator61, type NaiveZone61 } from '../oracle/naive_allocator_6_1.ts';
import { NaiveCompaction61, naive_zone_of } from '../oracle/naive_compaction_6_1.ts';
import { read_records } from './recordings.ts';

const LETTERS = 'UMRHI';

/** A recorded trace on the naive allocator. */
class NaiveReplay {
  readonly zone: NaiveZone61;
  readonly naive: NaiveAllocator61;
  readonly watermarks: boolean;
  /** By operation: [pfn, order]. */
  readonly got: [number, number][] = [];

  // biome-ignore lint/suspicious/noExplicitAny: a recorded line
  constructor(trace: any, dump: any) {
    const { zone: z, sysctl } = trace;
    this.zone = naive_zone_of({
      zone: z,
      state: dump,
      boost_factor: sysctl.watermark_boost_factor,
    });
    const { zone } = this;
    this.watermarks = trace.watermarks;
    const lists: NaiveZone61[][] = [];
    lists[z.node] = [zone];
    const cpus = [1, 0];
    this.naive = new NaiveAllocator61({ nr_cpus: 1, cpus, normal: 2, movable: 3 }, [zone], lists);
  }

  // biome-ignore lint/suspicious/noExplicitAny: a recorded operation
  step(op: any[], label: string): void {
    const { zone, naive } = this;
    if (op[0] === 'F') {
      const [pfn, order] = this.got[op[1]]!;
      naive.free(0, pfn, order);
      this.got.push([-1, 0]);
      return;
    }
    const fault = op[0] === 'P';
    const order = fault ? 0 : op[1];
    const kind = fault ? 'M' : op[2];
    zone.fallbacks = [];
    const pfn = naive.alloc(0, zone.nid, {
      order,
      type: kind === 'H' ? 0 : LETTERS.indexOf(kind),
      highest: fault ? 3 : 2,
      high: kind === 'H',
      thisnode: !fault,
      wait: fault,
      memalloc: !this.watermarks && !fault,
      nomemalloc: false,
    });
    if (fault) zone.lru.add(pfn);
    this.got.push([pfn, order]);
    assert.equal(pfn < 0 ? -1 : pfn - zone.start, fault ? op[1] : op[3], label);
    if (fault) return;
    const last = zone.fallbacks.at(-1);
    const ours = last && [
      last.pfn - zone.start,
      last.order,
      LETTERS[last.from],
      last.owned ? 1 : 0,
      zone.fallbacks.length,
    ];
    assert.deepEqual(ours, op[4], `${label}: fallback`);
  }

  // biome-ignore lint/suspicious/noExplicitAny: a recorded state
  compare(dump: any, label: string): void {
    const { zone } = this;
    const free = zone.free.map((of_order) =>
      of_order.map((list) => list.map((pfn) => pfn - zone.start)),
    );
    assert.deepEqual(free, dump.free, `${label}: free lists`);
    const types = [...zone.types.values()].map((type) => LETTERS[type]).join('');
    assert.equal(types.slice(0, dump.pb.length), dump.pb, `${label}: pageblock types`);
    assert.deepEqual(
      [zone.free_pages, zone.boost, zone.reserved_highatomic],
      [dump.nr_free_counter, dump.wm_boost, dump.highatomic],
      `${label}: free pages, boost, highatomic`,
    );
  }
}

/** Dumps that are compared in each file: one that is cut must not pass with fewer. */
const DUMPS: Record<string, number> = { 'g1-buddy': 659, 'g1-buddy-user': 320 };

for (const [name, dumps] of Object.entries(DUMPS)) {
  test(`the naive allocator of 6.1 and ${name}`, () => {
    let trace: unknown;
    let replay: NaiveReplay | null = null;
    let compared = 0;
    for (const record of read_records(`debian-6.1/${name}.jsonl.gz`)) {
      if (record.t === 'trace') {
        trace = record;
        replay = null;
      } else if (record.t === 'dump' && replay === null) {
        replay = new NaiveReplay(trace, record);
      } else if (record.t === 'dump') {
        replay!.compare(record, `${record.id} dump ${record.at}`);
        compared++;
      } else if (record.t === 'ops') {
        record.ops.forEach((op: unknown[], i: number) => {
          replay!.step(op, `${record.id} operation ${record.from + i} ${JSON.stringify(op)}`);
        });
      }
    }
    assert.equal(compared, dumps);
  });
}

test('the naive compaction of 6.1 and g3-compaction', () => {
  let steps = 0;
  let moved = 0;
  for (const record of read_records('debian-6.1/g3-compaction.jsonl.gz')) {
    let state = record.before;
    for (const step of record.steps) {
      const label = `${record.id} step ${++steps}`;
      const replay = new NaiveReplay(record, state);
      const { zone, naive } = replay;
      const unevictable = record.sysctl.compact_unevictable_allowed !== 0;
      const compaction = new NaiveCompaction61(naive, zone, state.map, unevictable);
      compaction.run();
      const rel = (i: 0 | 1): number[] => compaction.moves.map((move) => move[i] - zone.start);
      assert.deepEqual(rel(0), step.moves.src, `${label}: sources`);
      assert.deepEqual(rel(1), step.moves.dst, `${label}: targets`);
      replay.compare(step.after, label);
      moved += compaction.moves.length;
      state = step.after;
    }
  }
  assert.deepEqual([steps, moved > 50_000], [25, true]);
});
