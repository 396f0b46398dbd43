/** Every recording of test/golden through verify_file, as `pageblock verify` does it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { verify_file } from '../../src/sim/replay.ts';
import { list_recordings, read_lines, sibling_of } from './recordings.ts';

/** Least number of checks that a file of each folder must have, so that nothing passes unread. */
const FOLDERS: [string, number][] = [
  ['linux-2.6.35/buddy', 20],
  ['linux-2.6.35/events', 4],
  ['linux-2.6.35/index', 60],
  ['linux-2.6.35/compact', 4],
  ['debian-6.1', 10],
];

test('text of a whole machine’s trace, without the operations', () => {
  const path = 'linux-2.6.35/files/x86_64-512M-numafake4/trace_sample.gz';
  const lines: string[] = [];
  const result = verify_file(path, read_lines(path), (line) => lines.push(line));
  assert.deepEqual(lines, []);
  assert.deepEqual(result, { passed: 1, failed: 0 });
});

test('what is not a recording fails with one line', () => {
  for (const text of [[], ['hello'], ['{"a":1}'], ['[1]'], ['{"t":"start"}', '{']]) {
    const lines: string[] = [];
    const result = verify_file('x.jsonl', text, (line) => lines.push(line));
    assert.deepEqual(result, { passed: 0, failed: 1 });
    assert.equal(lines.length, 1);
    assert.ok(lines[0]!.startsWith('x.jsonl: '));
  }
});

test('remarks between records, fields that nobody knows, other places of the zone', () => {
  const alter = (path: string, change: (r: Record<string, unknown>) => void): void => {
    const lines = read_lines(path).filter((line) => line !== '');
    const records = lines.map((line) => {
      const r = JSON.parse(line) as Record<string, unknown>;
      change(r);
      return JSON.stringify(r);
    });
    const count = (all: readonly string[]): object =>
      verify_file(path, all, (line) => assert.fail(line), sibling_of(path));
    assert.deepEqual(count(['{"t":"remark"}', ...records, '{"t":"remark"}']), count(lines));
  };
  for (const path of [
    'linux-2.6.35/buddy/n4-pcp-small.jsonl.gz',
    'linux-2.6.35/compact/rand50.jsonl.gz',
  ]) {
    alter(path, (r) => {
      r['remark'] = [{ a: 1 }];
      for (const optional of ['nid', 'seed', 'name', 'vmstat', 'pattern']) delete r[optional];
      // Twice the largest block: whether a block is the lower or upper half of the next stays.
      if (typeof r['zone_start'] === 'number') r['zone_start'] += 5 * 2048;
    });
  }
});

test('a wrong pfn, list, type, event or move is found', () => {
  const spoil = (path: string, from: RegExp, to: string): void => {
    let done = false;
    const lines = read_lines(path).map((line) => {
      if (done || !from.test(line)) return line;
      done = true;
      return line.replace(from, to);
    });
    assert.ok(done, `${from} is not in ${path}`);
    const report: string[] = [];
    const result = verify_file(path, lines, (line) => report.push(line), sibling_of(path));
    assert.ok(result.failed > 0, `${path}: ${from} went unnoticed`);
    assert.equal(report.length, result.failed);
  };
  const buddy = 'linux-2.6.35/buddy/n4-pcp-small.jsonl.gz';
  spoil(buddy, /("t":"a","i":50\d,.*"pfn":)\d+/, '$17');
  spoil(buddy, /("t":"dump","i":599.*"pbtypes":")./, '$10');
  spoil(buddy, /("t":"dump".*?"free":.*?":\[)(\d+),(\d+)/, '$1$3,$2');
  spoil(buddy, /("t":"dump".*"lists":\[\[)\[/, '$1[1,0],[');
  spoil(
    'linux-2.6.35/events/ev-n4-raw-mix.trace.gz',
    /(mm_page_alloc_extfrag: .*)change_ownership=1/,
    '$1change_ownership=0',
  );
  spoil('linux-2.6.35/compact/rand50.jsonl.gz', /("moves":\[\[\d+,)\d+/, '$116353');
  spoil(
    'linux-2.6.35/compact/rand50.jsonl.gz',
    /compact_pages_moved \d+/g,
    'compact_pages_moved 1',
  );
  spoil('linux-2.6.35/compact/directlow.jsonl.gz', /("huge":\[\d+,)\d+/, '$11');
  spoil('linux-2.6.35/index/n4.jsonl.gz', /(Node 4, zone {4}DMA32 0\.000 )0\.000/, '$10.001');
});

for (const [folder, least] of FOLDERS) {
  for (const path of list_recordings(folder, '.jsonl.gz', '.trace.gz')) {
    test(path, () => {
      const lines: string[] = [];
      const report = (line: string): number => lines.push(line);
      const result = verify_file(path, read_lines(path), report, sibling_of(path));
      // Nothing is said but how many layouts obtained what was recorded: all of them.
      const said = lines.filter((line) => !/: obtained: (\d+) of \1 layouts obtain/.test(line));
      assert.deepEqual(said, []);
      assert.equal(result.failed, 0);
      assert.ok(result.passed >= least, `only ${result.passed} checks`);
    });
  }
}
