/**
 * Spreads the runs of an experiment over processors, and keeps what is done.
 *
 * Each worker thread gets one run at a time. Every result is appended to a journal, one line of JSON
 * a run, under a key of the program's own code: what was interrupted goes on where it stopped, and
 * results of other versions are not taken for ours.
 */
import { createHash } from 'node:crypto';
import { appendFileSync, existsSync, mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import type { Cell, Run } from '../src/sim/experiment.ts';
import { cell_name } from '../src/sim/experiment_tables.ts';
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

export function taskKey(task: Task): string {
  return `${cell_name(task.cell)} ${task.seed}`;
}

/** A hash of all compiled code that a run depends on. */
function codeVersion(): string {
  const hash = createHash('sha256');
  const src = join(HERE, '..', 'src');
  const files = readdirSync(src, { recursive: true, encoding: 'utf8' });
  for (const file of files.filter((name) => name.endsWith('.js')).sort()) {
    hash.update(file).update(readFileSync(join(src, file)));
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
      // The last line of an interrupted run.
    }
  }
  return done;
}

/** Runs all tasks on `jobs` threads; `onDone` is called after each. Returns them in task order. */
export async function runAll(
  tasks: readonly Task[],
  jobs: number,
  journal: string | undefined,
  onDone: (done: Done, cached: boolean) => void,
): Promise<Run[]> {
  const known = journal === undefined ? new Map<string, Done>() : readJournal(journal);
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
  if (journal !== undefined && open.length > 0) mkdirSync(dirname(journal), { recursive: true });
  await new Promise<void>((resolve, reject) => {
    let alive = 0;
    const workers: Worker[] = [];
    const fail = (error: Error): void => {
      for (const worker of workers) void worker.terminate();
      reject(new Failure(`an experiment failed: ${error.message}`));
    };
    const start = (): void => {
      const worker = new Worker(new URL('./experimentWorker.js', import.meta.url));
      workers.push(worker);
      alive++;
      const next = (): void => {
        const task = open.shift();
        if (task !== undefined) worker.postMessage(task);
        else void worker.terminate();
      };
      worker.on('message', (done: Done) => {
        const { cell, seed } = done.run;
        results.set(taskKey({ cell, seed }), done);
        if (journal !== undefined) appendFileSync(journal, JSON.stringify(done) + '\n');
        onDone(done, false);
        next();
      });
      worker.on('error', fail);
      worker.on('exit', () => {
        if (--alive === 0) resolve();
      });
      next();
    };
    if (open.length === 0) resolve();
    for (let i = 0; i < Math.min(jobs, open.length); i++) start();
  });
  return tasks.map((task) => results.get(taskKey(task))!.run);
}
