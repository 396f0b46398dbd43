/**
 * `pageblock experiment` from the command line: a small cell, interruptions of both kinds, files,
 * wrong usage. The smallest runs are those of the second test, two seconds each.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import {
  existsSync,
  readdirSync,
  readFileSync,
  statSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { it } from 'node:test';
import { type Cell, type Run, run_experiment } from '../../src/sim/experiment.ts';
import { MAIN, pageblock, tempDir } from '../helpers/mounts.ts';
import { run } from '../helpers/processes.ts';

const CELL = ['experiment', 'no-regression', '--machine', 'ppc64'];
const options = { timeout: 400_000 };

interface Ended {
  readonly status: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stderr: string;
}

/** Runs it until so many runs are reported as new, then sends a signal. */
function interrupt(args: string[], env: NodeJS.ProcessEnv, after: number, signal: NodeJS.Signals) {
  return new Promise<Ended>((resolve) => {
    const child = spawn(process.execPath, [MAIN, ...args], {
      env,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let stderr = '';
    let sent = false;
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      stderr += text;
      if (sent || (stderr.match(/^\d+\/4 /gm)?.length ?? 0) < after) return;
      sent = true;
      child.kill(signal);
    });
    child.on('close', (status, by) => resolve({ status, signal: by, stderr }));
  });
}

it('goes on where it was interrupted, however rudely', options, async (t) => {
  const dir = tempDir(t);
  const env = { ...process.env, XDG_CACHE_HOME: dir };
  const json = join(dir, 'runs.json');
  const args = [...CELL, '--seeds', '2', '--jobs', '1', '--json', json];
  const first = await interrupt(args, env, 1, 'SIGINT');
  assert.equal(first.status, 130);
  const [, kept] = /interrupted after (\d) of 4 runs; the same command goes on/.exec(first.stderr)!;
  assert.equal(kept, '1');

  const second = await interrupt(args, env, 1, 'SIGKILL');
  assert.equal(second.signal, 'SIGKILL');
  assert.match(second.stderr, /^2\/4 no-regression published ppc64 compaction seed 1: /m);
  // As if it had been killed while it wrote: the last line lacks its end.
  const cache = join(dir, 'pageblock');
  const journal = join(cache, readdirSync(cache)[0]!);
  truncateSync(journal, statSync(journal).size - 40);

  const third = await interrupt(args, env, 1, 'SIGKILL');
  assert.match(third.stderr, /^2\/4 no-regression published ppc64 compaction seed 1: /m);
  const last = await pageblock(args, { env, timeout: 120_000 });
  assert.equal(last.status, 0, last.stderr);
  assert.match(last.stderr, /^2 of 4 runs were done before$/m);
  assert.match(last.stdout, /^no-regression --machine ppc64$/m);
  assert.match(last.stdout, /exactly the same in 2 of 2 runs/);

  // The pieces make the whole: the same as a run by itself.
  const { command, runs } = JSON.parse(readFileSync(json, 'utf8')) as {
    command: string;
    runs: Run[];
  };
  assert.match(command, /^pageblock experiment no-regression --machine ppc64 --seeds 2 /);
  assert.deepEqual(
    runs.map((r) => [r.seed, r.cell.compaction]),
    [
      [1, false],
      [1, true],
      [2, false],
      [2, true],
    ],
  );
  const cell: Cell = { ...runs[1]!.cell };
  assert.deepEqual(runs[1], JSON.parse(JSON.stringify(run_experiment(cell, 1))));

  // A journal of a version that is long gone goes; other files are not ours.
  const old = [join(cache, 'experiments-0123456789abcdef.jsonl'), join(cache, 'notes.txt')];
  for (const file of old) {
    writeFileSync(file, '');
    utimesSync(file, 1e9, 1e9);
  }
  const fresh = await interrupt([...CELL, '--seeds', '2', '--first-seed', '7'], env, 1, 'SIGINT');
  assert.equal(fresh.status, 130);
  assert.deepEqual(old.map(existsSync), [false, true]);

  // Nothing is run again, on more threads either, and the report comes from what is there.
  const html = join(dir, 'report.html');
  const again = await pageblock([...CELL, '--seeds', '2', '--jobs', '8', '--html', html], { env });
  assert.equal(again.stderr, '4 of 4 runs were done before\n');
  assert.match(readFileSync(html, 'utf8'), /^<!doctype html>/);

  // On a terminal a bar, which never leaves its line.
  const typed = [process.execPath, MAIN, ...CELL, '--seeds', '2'].join(' ');
  const terminal = await run('script', ['-qec', `stty cols 60; ${typed}`, '/dev/null'], { env });
  const bars = terminal.stdout.split('\r').filter((line) => line.startsWith('['));
  assert.ok(bars[0]!.startsWith(`[${'.'.repeat(30)}] 0/4`), bars[0]);
  assert.ok(bars.at(-1)!.startsWith(`[${'#'.repeat(30)}] 4/4`), bars.at(-1));
  // Without the sequence that clears the rest of the line.
  for (const bar of bars) assert.ok(bar.length - 3 < 60, bar);
});

it('says what is wrong before it works', options, async (t) => {
  const env = { ...process.env, XDG_CACHE_HOME: tempDir(t) };
  const wrong: [string[], number, RegExp][] = [
    [['nonsense'], 2, /'nonsense' is invalid.*Choose hugepages-at-rest, no-regression/],
    [['all', '--seeds', '0'], 2, /'0' is invalid\. A whole number from 1 to 10000/],
    [['all', '--seeds', 'many'], 2, /'many' is invalid/],
    [
      ['all', '--machine', 'alpha'],
      2,
      /'alpha' is invalid. Allowed choices are x86, x86_64, ppc64/,
    ],
    [['all', '--setup', 'other'], 2, /'other' is invalid/],
    [['all', '--html', '/nonexistent/r.html'], 1, /cannot write \/nonexistent\/r.html \(ENOENT\)/],
    [['all', '--json', '/tmp'], 1, /cannot write \/tmp \(EISDIR\): choose another file/],
    [['hugepages-at-rest', '--jobs', '1', '--seeds', '1'], 1, /XDG_CACHE_HOME/],
  ];
  for (const [args, status, message] of wrong) {
    const broken = args[0] === 'hugepages-at-rest';
    const where = broken ? { ...env, XDG_CACHE_HOME: '/dev/null' } : env;
    const result = await pageblock(['experiment', ...args], { env: where });
    assert.equal(result.status, status, result.stderr);
    assert.equal(result.stdout, '');
    const lines = result.stderr.split('\n').filter((line) => !line.startsWith('(pageblock help'));
    assert.equal(lines.length, 2, result.stderr);
    assert.match(lines[0]!, message);
  }
});
