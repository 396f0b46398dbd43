/**
 * Recorded pool growth on full machines (linux-2.6.35/pool): at every step the pool has within 2 % as many huge
 * pages as the recorded one. Where memory was filled is not recorded page by page: replay_pool.ts says
 * what follows from the records, and docs/DIFFERENCES.md what does not.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { verify_file } from '../../src/sim/replay.ts';
import { list_recordings, read_lines, read_records } from './recordings.ts';

for (const path of list_recordings('linux-2.6.35/pool', '.jsonl.gz')) {
  test(path, () => {
    const steps = read_records(path).filter((r) => r.t === 'step');
    const lines: string[] = [];
    const result = verify_file(path, read_lines(path), (line) => lines.push(line));
    assert.deepEqual(lines, []);
    assert.deepEqual([result.passed, result.failed], [steps.length, 0]);
  });
}
