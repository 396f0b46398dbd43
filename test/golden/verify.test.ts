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
  ['linux-2.6.35/compact', 5],
  ['debian-6.1', 1000],
];

for (const [folder, least] of FOLDERS) {
  for (const path of list_recordings(folder, '.jsonl.gz', '.trace.gz')) {
    test(path, () => {
      const lines: string[] = [];
      const report = (line: string): number => lines.push(line);
      const result = verify_file(path, read_lines(path), report, sibling_of(path));
      if (/\/direct[^/]*$/.test(path)) {
        // Needs reclaim; until then the blocks that the requests obtain must be right.
        assert.ok(result.passed >= 1, lines.join('\n'));
        assert.ok(!lines.some((l) => l.includes(' blocks: ')), lines.join('\n'));
        return;
      }
      assert.deepEqual(lines, []);
      assert.equal(result.failed, 0);
      assert.ok(result.passed >= least, `only ${result.passed} checks`);
    });
  }
}
