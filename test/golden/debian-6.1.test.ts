/** The emulated 6.1 against every recording of a real one that is in test/golden/debian-6.1. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { verify_file } from '../../src/sim/replay.ts';
import { list_recordings, read_lines } from './recordings.ts';

/** Checks in each file: a file that is cut or not understood must not pass with fewer. */
const CHECKS: Record<string, number> = {
  'g1-buddy.jsonl.gz': 659,
  'g1-buddy-user.jsonl.gz': 320,
  'g2-index.jsonl.gz': 1048,
  'g3-compaction.jsonl.gz': 125,
  'g3-direct.jsonl.gz': 31,
  'g4-hugepages.jsonl.gz': 337,
  'probe.jsonl': 74,
};

const RECORDINGS = [
  ...list_recordings('debian-6.1', '.jsonl.gz'),
  ...list_recordings('debian-6.1/verbatim', '.jsonl'),
];

for (const path of RECORDINGS) {
  const name = path.slice(path.lastIndexOf('/') + 1);
  test(`6.1: ${name}`, () => {
    const reports: string[] = [];
    const result = verify_file(path, read_lines(path), (line) => reports.push(line));
    // Every aspect of every step is equal, so nothing is said but what was obtained.
    const said = reports.filter((line) => !/: obtained: (\d+) of \1 layouts obtain/.test(line));
    assert.deepEqual(said, []);
    assert.deepEqual(result, { passed: CHECKS[name], failed: 0 });
  });
}
