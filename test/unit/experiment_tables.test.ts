/** What is met and what is not, on made-up runs just inside and just outside of each rule. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Cell, Run, Step } from '../../src/sim/experiment.ts';
import {
  group_table,
  groups_of,
  judge,
  judge_machines,
  tables,
  verdict_numbers,
} from '../../src/sim/experiment_tables.ts';

const AT_REST: Cell = {
  experiment: 'hugepages-at-rest',
  machine: 'x86_64',
  setup: 'recorded',
  compaction: false,
};

type Total = Record<string, number>;

function run(cell: Cell, seed: number, got: number, attempted: number, total: Total = {}): Run {
  return {
    cell,
    seed,
    got,
    attempted,
    total,
    steps: [],
    free_before: [],
    zones: [],
    maps: {},
    types: {},
    notes: {},
  };
}

/** Rules that are met, of one run without and one with compaction. */
function met(cell: Cell, attempted: number, a: [number, Total], b: [number, Total]): string[] {
  const vanilla = run({ ...cell, compaction: false }, 1, a[0], attempted, a[1]);
  const compaction = run({ ...cell, compaction: true }, 1, b[0], attempted, b[1]);
  return judge([vanilla], [compaction])
    .filter((v) => v.met)
    .map((v) => v.what);
}

const ALL_AT_REST = [
  'vanilla: huge pages',
  'compaction: huge pages',
  'compaction: compact_stall',
  'compaction: pages_moved',
  'huge pages: compaction against vanilla',
  'direct steals: compaction against vanilla',
];

test('at rest, recorded: 1.5 percent, a factor of 1.5, one percent of the steals', () => {
  // The recorded means: 917 and 962.75 of 1007, 231.5 stalls, 25122.5 pages moved.
  const good: [number, Total] = [
    962,
    { compact_stall: 160, pages_moved: 37000, direct_steals: 599 },
  ];
  const steals = { direct_steals: 60000 };
  assert.deepEqual(met(AT_REST, 1007, [917, steals], good), ALL_AT_REST);
  assert.deepEqual(met(AT_REST, 1007, [930, steals], [949, good[1]]), ALL_AT_REST);
  const without = (...names: string[]): string[] => ALL_AT_REST.filter((n) => !names.includes(n));
  assert.deepEqual(met(AT_REST, 1007, [902, steals], good), without('vanilla: huge pages'));
  assert.deepEqual(
    met(AT_REST, 1007, [917, steals], [978, good[1]]),
    without('compaction: huge pages'),
  );
  assert.deepEqual(
    met(AT_REST, 1007, [917, steals], [962, { ...good[1], compact_stall: 154 }]),
    without('compaction: compact_stall'),
  );
  assert.deepEqual(
    met(AT_REST, 1007, [917, steals], [962, { ...good[1], pages_moved: 37700 }]),
    without('compaction: pages_moved'),
  );
  assert.deepEqual(
    met(AT_REST, 1007, [917, steals], [962, { ...good[1], direct_steals: 600 }]),
    without('direct steals: compaction against vanilla'),
  );
});

test('at rest, published: two percent, compaction not below, less stolen', () => {
  const cell: Cell = { ...AT_REST, setup: 'published', machine: 'ppc64' };
  const all = ALL_AT_REST.filter((n) => !/stall|moved/.test(n));
  const steals = (n: number): Total => ({ direct_steals: n });
  assert.deepEqual(met(cell, 110, [93, steals(10)], [93, steals(9)]), all);
  assert.deepEqual(met(cell, 110, [94, steals(10)], [93, steals(10)]), all.slice(0, 2));
  assert.deepEqual(met(cell, 110, [96, steals(10)], [96, steals(9)]), all.slice(2));
});

test('under load: three points, and compaction above', () => {
  const cell: Cell = { ...AT_REST, experiment: 'hugepages-under-load', setup: 'published' };
  const names = [
    'vanilla: percent',
    'compaction: percent',
    'huge pages: compaction against vanilla',
  ];
  // Published for x86_64: 95 and 98 percent.
  assert.deepEqual(met(cell, 1000, [979, {}], [980, {}]), names);
  assert.deepEqual(met(cell, 1000, [981, {}], [981, {}]), names.slice(1, 2));
  assert.deepEqual(met(cell, 1000, [919, {}], [949, {}]), names.slice(2));
});

test('between machines: the order of the reductions, and who gains most', () => {
  const runs: Run[] = [];
  const add = (experiment: Cell['experiment'], machine: Cell['machine'], a: number, b: number) => {
    [a, b].forEach((value, i) => {
      const cell: Cell = { experiment, machine, setup: 'published', compaction: i === 1 };
      const steal = (target: number, direct_steals: number): Step =>
        ({ target, counters: { direct_steals } }) as unknown as Step;
      // What is stolen beyond 90 % of memory does not count; the most is stolen there by the best.
      const steps = [steal(50, value / 2), steal(90, value / 2), steal(91, 1000 * i * (100 - b))];
      runs.push({ ...run(cell, 1, value, 100, { direct_steals: value }), steps });
    });
  };
  add('hugepages-at-rest', 'x86', 100, 14);
  add('hugepages-at-rest', 'x86_64', 100, 47);
  assert.deepEqual(judge_machines(runs), []);
  add('hugepages-at-rest', 'ppc64', 100, 60);
  add('hugepages-under-load', 'x86', 98, 99);
  add('hugepages-under-load', 'x86_64', 95, 98);
  add('hugepages-under-load', 'ppc64', 55, 70);
  const verdicts = judge_machines(runs);
  assert.deepEqual(
    verdicts.map((v) => [v.what, v.ours, v.theirs, v.met]),
    [
      ['x86, x86_64', 86, 53, true],
      ['x86_64, ppc64', 53, 40, true],
      ['ppc64, best other', 15, 3, true],
    ],
  );
  // The other way round nothing is met.
  const turned = runs.map((r) => {
    const machine = ({ x86: 'ppc64', x86_64: 'x86_64', ppc64: 'x86' } as const)[
      r.cell.machine as 'x86'
    ];
    return { ...r, cell: { ...r.cell, machine } };
  });
  assert.deepEqual(
    judge_machines(turned).map((v) => v.met),
    [false, false, false],
  );
});

test('no regression: a benchmark that takes longer is found', () => {
  const step = (name: string, ms: number): Step => ({
    name,
    ms,
    target: 1,
    got: 1,
    counters: {},
    free: [],
    scans: [],
  });
  const runs = (slower: number): Run[] =>
    [1, 2, 3, 4].flatMap((seed) =>
      [false, true].map((compaction) => {
        const cell: Cell = { ...AT_REST, experiment: 'no-regression', compaction };
        const file = step('file', 1000 + seed + (compaction ? slower : 0));
        const build = step('build', 2000 + ((seed * 7) % 4));
        return { ...run(cell, seed, 2, 2, { allocations: 500 + seed }), steps: [file, build] };
      }),
    );
  const [same] = groups_of(runs(0));
  assert.ok(judge(same!.vanilla, same!.compaction).every((v) => v.met));
  assert.ok(group_table(same!).remarks.some((r) => r.includes('the same in 4 of 4 runs')));
  assert.match(tables(runs(0)), /total costs do not differ significantly .*p = 1\.00/);
  const [slow] = groups_of(runs(5));
  assert.deepEqual(
    judge(slow!.vanilla, slow!.compaction).map((v) => v.met),
    [false, true, true],
  );
  assert.match(
    tables(runs(5)),
    /^NOT MET {2}file: virtual ms, compaction against vanilla: 1008 against 1003/m,
  );
});

test('tables: ours beside theirs, aligned, and whether they differ', () => {
  const runs = [1, 2, 3, 4].flatMap((seed) => [
    run(AT_REST, seed, 915 + seed, 1007, { direct_steals: 50000 + seed }),
    run({ ...AT_REST, compaction: true }, seed, 960 + seed, 1007, { compact_stall: 200 }),
  ]);
  const text = tables(runs);
  const lines = text.split('\n');
  assert.equal(lines[0], 'hugepages-at-rest --machine x86_64 --setup recorded');
  assert.match(
    lines[3]!,
    /^vanilla, ours +918 ± 1\.3 +1007 +91\.1 ± 0\.1 +50003 ± 1\.3 +0 +0 +0 +4$/,
  );
  assert.match(
    lines[4]!,
    /^vanilla, recorded +917 ± 6\.7 +1007 +91\.1 ± 0\.7 +60430 ± 37144 .* 4$/,
  );
  assert.equal(new Set(lines.slice(3, 7).map((line) => line.length)).size, 1);
  assert.match(text, /huge pages differ significantly \(exact rank sum test, p = 0\.029\)/);
  assert.match(tables(runs.slice(0, 4)), /Fewer than four seeds/);
});

test('numbers of a verdict: as many decimals as it takes to tell them apart', () => {
  const numbers = (ours: number, theirs: number): string[] =>
    verdict_numbers({ what: '', ours, theirs, rule: '', met: false });
  assert.deepEqual(numbers(909, 901), ['909', '901']);
  assert.deepEqual(numbers(908.5, 909), ['908.5', '909.0']);
  assert.deepEqual(numbers(93, 93), ['93.0', '93.0']);
  assert.deepEqual(numbers(93.99, 94), ['93.99', '94.00']);
  assert.deepEqual(numbers(94.001, 94), ['94.00', '94.00']);
});
