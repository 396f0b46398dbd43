/**
 * Spreads the runs of an experiment over processors, and keeps what is done.
 *
 * piscina's worker threads take one run at a time. Every result is appended to a journal, one line of
 * JSON a run, under a key of the code that runs depend on: what was interrupted, however rudely, goes
 * on where it stopped, and results of other versions are not taken for ours.
 */
import { createHash } from 'node:crypto';
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
} from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Piscina } from 'piscina';
import type { Cell, Run } from '../src/sim/experiment.ts';
import { cell_name } from '../src/sim/experiment_tables.ts';
import { importsOf } from './linker.ts';
import { Failure } from './transport.ts';

export interface Task {
  readonly cell: Cell;
  readonly seed: number;
}

export interface Done {
  readonly run: Run;
  /** Seconds of the host. */
  readonly seconds: number;
}

const HERE = dirname(fileURLToPath(import.meta.url));
const WORKER = join(HERE, 'experimentWorker.js');
/** What it runs. */
const EXPERIMENT = join(HERE, '../src/sim/experiment.js');

export function taskKey(task: Task): string {
  return `${cell_name(task.cell)} ${task.seed}`;
}

/** A hash of all compiled code that a run depends on; not of what only shows runs. */
function codeVersion(): string {
  const hash = createHash('sha256');
  for (const file of [WORKER, EXPERIMENT]) {
    for (const path of importsOf(file)) hash.update(readFileSync(path));
  }
  return hash.digest('hex').slice(0, 16);
}

/** Where the journal of this version lies. */
export function journalPath(): string {
  const cache = process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache');
  return join(cache, 'pageblock', `experiments-${codeVersion()}.jsonl`);
}

/** What the journal holds, by key. A line that was cut off by an interruption is left out. */
export function readJournal(path: string): Map<string, Done> {
  const done = new Map<string, Done>();
  if (!existsSync(path)) return done;
  for (const line of readFileSync(path, 'utf8').split('\n')) {
    if (line === '') continue;
    try {
      const entry = JSON.parse(line) as Done;
      done.set(taskKey({ cell: entry.run.cell, seed: entry.run.seed }), entry);
    } catch {
      // The line at which a run was killed.
    }
  }
  return done;
}

/** Journals of other versions are kept for so long. */
const KEEP_DAYS = 30;

/**
 * Makes the journal ready to be appended to: a line that was cut off must not spoil the next one. Old
 * journals of other versions go.
 */
function openJournal(path: string): void {
  try {
    mkdirSync(dirname(path), { recursive: true });
    for (const name of readdirSync(dirname(path))) {
      const other = join(dirname(path), name);
      if (other === path || !/^experiments-[0-9a-f]+\.jsonl$/.test(name)) continue;
      if (Date.now() - statSync(other).mtimeMs > KEEP_DAYS * 86_400_000) rmSync(other);
    }
    const text = existsSync(path) ? readFileSync(path, 'utf8') : '';
    appendFileSync(path, text === '' || text.endsWith('\n') ? '' : '\n');
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw new Failure(
      `cannot write ${path} (${code}): set XDG_CACHE_HOME to a directory that you may write to`,
    );
  }
}

/** Room for new objects in a thread, four times what V8 gives it. */
const YOUNG_GENERATION_MB = 192;

/** Runs all tasks on `jobs` threads; `onDone` is called after each. Returns them in task order. */
export async function runAll(
  tasks: readonly Task[],
  jobs: number,
  journal: string,
  onDone: (done: Done, cached: boolean) => void,
): Promise<Run[]> {
  const known = readJournal(journal);
  const results = new Map<string, Done>();
  const open: Task[] = [];
  for (const task of tasks) {
    const done = known.get(taskKey(task));
    if (done === undefined) open.push(task);
    else {
      results.set(taskKey(task), done);
      onDone(done, true);
    }
  }
  if (open.length > 0) {
    openJournal(journal);
    const threads = Math.min(jobs, open.length);
    const pool = new Piscina({
      filename: WORKER,
      minThreads: threads,
      maxThreads: threads,
      // The longest wait is for the last run of a sweep, not for a thread to wake up.
      atomics: 'disabled',
      // Runs make much that is soon gone: with more room for it V8 clears away half as often.
      resourceLimits: { maxYoungGenerationSizeMb: YOUNG_GENERATION_MB },
    });
    try {
      await Promise.all(
        open.map(async (task) => {
          const done = (await pool.run(task).catch((error: Error) => {
            throw new Failure(`the run ${taskKey(task)} failed: ${error.message}`);
          })) as Done;
          results.set(taskKey(task), done);
          appendFileSync(journal, JSON.stringify(done) + '\n');
          onDone(done, false);
        }),
      );
    } finally {
      await pool.destroy();
    }
  }
  return tasks.map((task) => results.get(taskKey(task))!.run);
}
