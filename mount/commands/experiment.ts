/**
 * `pageblock experiment NAME`: the published experiments on emulated machines, and how far the
 * figures agree with the published and recorded ones.
 *
 * Needs no mount. Prints one table a machine with ours beside theirs, and which figures are met.
 */
import { writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import type { Command } from 'commander';
import { InvalidArgumentError, Option } from 'commander';
import type { Setup } from '../../src/sim/experiment.ts';
import type { Done, Task } from '../experimentPool.ts';
import { Failure } from '../transport.ts';

interface ExperimentOptions {
  readonly machine: string[];
  readonly setup: Setup[];
  readonly seeds: number;
  readonly firstSeed: number;
  readonly jobs: number;
  readonly json?: string;
  readonly fresh?: boolean;
}

const NAMES = ['hugepages-at-rest', 'hugepages-under-load', 'all'];
const MACHINE_NAMES = ['x86', 'x86_64', 'ppc64'];
const SETUP_NAMES = ['recorded', 'published'];

export function registerExperiment(program: Command): void {
  program
    .command('experiment')
    .description('run a published experiment with and without compaction, and compare')
    .argument('<name>', `one of ${NAMES.join(', ')}`, parseName)
    .addOption(
      new Option('--machine <name...>', 'machines to run on').choices([...MACHINE_NAMES, 'all']),
    )
    .addOption(
      new Option('--setup <name...>', 'circumstances: of the recordings, of the publication')
        .choices(SETUP_NAMES)
        .default(['recorded']),
    )
    .option('--seeds <n>', 'runs of each configuration', parseCount, 20)
    .option('--first-seed <n>', 'seed of the first run', parseCount, 1)
    .option('--jobs <n>', 'threads', parseCount, availableParallelism())
    .option('--json <file>', 'write all runs, with their steps, as JSON')
    .option('--fresh', 'forget runs that were done before')
    .addHelpText(
      'after',
      '\nWhat was run before by this version is not run again: an interrupted experiment goes on.\n' +
        '\nExample:\n  $ pageblock experiment hugepages-at-rest --machine x86_64 --seeds 4\n',
    )
    .action(async (name: string, options: ExperimentOptions) => {
      await experiment(name, options);
    });
}

function parseName(text: string): string {
  if (!NAMES.includes(text)) throw new InvalidArgumentError(`Choose ${NAMES.join(', ')}.`);
  return text;
}

function parseCount(text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1 || value > 10000) {
    throw new InvalidArgumentError('A whole number from 1 to 10000 is needed.');
  }
  return value;
}

async function experiment(name: string, options: ExperimentOptions): Promise<void> {
  const { EXPERIMENTS, MACHINES } = await import('../../src/sim/experiment.ts');
  const { reference_of, tables } = await import('../../src/sim/experiment_tables.ts');
  const { journalPath, runAll } = await import('../experimentPool.ts');
  const wanted = options.machine ?? (name === 'all' ? ['all'] : ['x86_64']);
  const tasks: Task[] = [];
  for (const machine of MACHINES) {
    if (!wanted.includes(machine) && !wanted.includes('all')) continue;
    for (const experiment of EXPERIMENTS) {
      if (name !== 'all' && name !== experiment) continue;
      for (const setup of options.setup) {
        // Nothing was recorded on ppc64, and no load on x86: there is nothing to compare with.
        if (
          name === 'all' &&
          reference_of({ experiment, setup, machine, compaction: true }) === undefined
        )
          continue;
        for (let i = 0; i < options.seeds; i++) {
          for (const compaction of [false, true]) {
            const cell = { experiment, machine, setup, compaction };
            tasks.push({ cell, seed: options.firstSeed + i });
          }
        }
      }
    }
  }
  if (tasks.length === 0) throw new Failure('nothing to run: choose another machine or set-up');
  const progress = new Progress(tasks.length);
  const journal = options.fresh === true ? undefined : journalPath();
  const runs = await runAll(tasks, options.jobs, journal, (done, cached) => {
    progress.add(done, cached);
  });
  progress.end();
  process.stdout.write(tables(runs));
  if (options.json !== undefined) writeJson(options.json, runs);
}

function writeJson(file: string, runs: readonly unknown[]): void {
  try {
    writeFileSync(file, JSON.stringify({ command: process.argv.slice(2), runs }, null, 1) + '\n');
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw new Failure(`cannot write ${file} (${code}): choose another file`);
  }
}

/** A bar on a terminal, a line a run elsewhere; both on standard error. */
class Progress {
  readonly #total: number;
  readonly #start = performance.now();
  #done = 0;
  #cached = 0;

  constructor(total: number) {
    this.#total = total;
  }

  add(done: Done, cached: boolean): void {
    this.#done++;
    if (cached) this.#cached++;
    const { run } = done;
    const what = `${run.cell.machine} ${run.cell.compaction ? 'compaction' : 'vanilla'} seed ${run.seed}`;
    if (process.stderr.isTTY) {
      const width = 30;
      const filled = Math.round((this.#done / this.#total) * width);
      const bar = '#'.repeat(filled) + '.'.repeat(width - filled);
      process.stderr.write(`\r[${bar}] ${this.#done}/${this.#total} ${this.#left()} ${what}\x1b[K`);
    } else if (!cached) {
      const got = `${run.got} of ${run.attempted}`;
      process.stderr.write(
        `${this.#done}/${this.#total} ${what}: ${got} (${done.seconds.toFixed(1)} s)\n`,
      );
    }
  }

  #left(): string {
    const fresh = this.#done - this.#cached;
    if (fresh === 0) return '';
    const each = (performance.now() - this.#start) / fresh / 1000;
    return `${Math.ceil(each * (this.#total - this.#done))} s left`;
  }

  end(): void {
    if (process.stderr.isTTY) process.stderr.write('\r\x1b[K');
    if (this.#cached > 0) {
      process.stderr.write(`${this.#cached} of ${this.#total} runs were done before\n`);
    }
  }
}
