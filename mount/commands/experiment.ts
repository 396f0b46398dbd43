/**
 * `pageblock experiment NAME`: the published experiments on emulated machines, and how far the
 * figures agree with the published and recorded ones.
 *
 * Needs no mount. Prints one table a machine with ours beside theirs, and which figures are met.
 */
import { accessSync, constants, existsSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { dirname } from 'node:path';
import type { Command } from 'commander';
import { InvalidArgumentError, Option } from 'commander';
import type { Setup } from '../../src/sim/experiment.ts';
import type { Done, Task } from '../experimentPool.ts';
import { Failure } from '../transport.ts';

interface ExperimentOptions {
  readonly machine: string[];
  readonly setup?: Setup[];
  readonly seeds: number;
  readonly firstSeed: number;
  readonly jobs: number;
  readonly json?: string;
  readonly html?: string;
  readonly fresh?: boolean;
}

const NAMES = ['hugepages-at-rest', 'no-regression', 'hugepages-under-load', 'all'];
const MACHINE_NAMES = ['x86', 'x86_64', 'ppc64'];
const SETUP_NAMES = ['recorded', 'published'];

export function registerExperiment(program: Command): void {
  program
    .command('experiment')
    .description('run a published experiment with and without compaction, and compare')
    .argument('<name>', `one of ${NAMES.join(', ')}`, parseName)
    .addOption(
      new Option(
        '--machine <name...>',
        'machines to run on (default: x86_64; all three for all)',
      ).choices([...MACHINE_NAMES, 'all']),
    )
    .addOption(
      new Option(
        '--setup <name...>',
        'circumstances: of the publication, of the recordings (default: published)',
      ).choices(SETUP_NAMES),
    )
    .option('--seeds <n>', 'runs of each configuration', parseCount, 20)
    .option('--first-seed <n>', 'seed of the first run', parseCount, 1)
    .option('--jobs <n>', 'threads', parseCount, availableParallelism())
    .option('--json <file>', 'write all runs, with their steps, as JSON')
    .option('--html <file>', 'write a report: one page that needs nothing else')
    .option('--fresh', 'forget all runs that were done before')
    .addHelpText(
      'after',
      '\nWhat was run before by this version is not run again: an interrupted experiment goes on.\n' +
        '\nExamples:\n  $ pageblock experiment hugepages-at-rest --machine x86_64 --seeds 4\n' +
        '  $ pageblock experiment all --html report.html\n',
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
  for (const file of [options.json, options.html]) if (file !== undefined) checkWritable(file);
  const { tables } = await import('../../src/sim/experiment_tables.ts');
  const { journalPath, runAll } = await import('../experimentPool.ts');
  const tasks = await tasksOf(name, options);
  if (tasks.length === 0) throw new Failure('nothing to run: choose another machine or set-up');
  const progress = new Progress(tasks.length);
  const journal = journalPath();
  if (options.fresh === true) rmSync(journal, { force: true });
  const interrupted = (): void => {
    progress.end();
    const without = options.fresh === true ? ' without --fresh' : '';
    const kept = `; the same command${without} goes on from there`;
    process.stderr.write(
      `pageblock: interrupted after ${progress.done} of ${tasks.length} runs${kept}\n`,
    );
    process.exit(130);
  };
  process.on('SIGINT', interrupted);
  const runs = await runAll(tasks, options.jobs, journal, (done, cached) => {
    progress.add(done, cached);
  });
  process.off('SIGINT', interrupted);
  progress.end();
  process.stdout.write(tables(runs));
  const command = ['pageblock', ...process.argv.slice(2)].join(' ');
  if (options.json !== undefined) {
    write(options.json, JSON.stringify({ command, runs }, null, 1) + '\n');
  }
  if (options.html !== undefined) {
    const { report } = await import('../../src/sim/report/page.ts');
    write(options.html, report(runs, command));
  }
}

/** The runs of an experiment: machines, set-ups, seeds, and each configuration. */
async function tasksOf(name: string, options: ExperimentOptions): Promise<Task[]> {
  const { EXPERIMENTS, MACHINES } = await import('../../src/sim/experiment.ts');
  const { reference_of } = await import('../../src/sim/experiment_tables.ts');
  const all = name === 'all';
  const machines = options.machine ?? (all ? ['all'] : ['x86_64']);
  const setups = options.setup ?? ['published' as const];
  const tasks: Task[] = [];
  for (const experiment of EXPERIMENTS) {
    if (!all && name !== experiment) continue;
    // The second test has one set-up.
    const own = experiment === 'no-regression' ? (['published'] as const) : setups;
    for (const setup of own) {
      for (const machine of MACHINES) {
        if (!machines.includes(machine) && !machines.includes('all')) continue;
        // Nothing was recorded on ppc64, and no load on x86: there is nothing to compare with.
        const compared = reference_of({ experiment, setup, machine, compaction: true });
        if (all && experiment !== 'no-regression' && compared === undefined) continue;
        for (let i = 0; i < options.seeds; i++) {
          for (const compaction of [false, true]) {
            const cell = { experiment, machine, setup, compaction };
            tasks.push({ cell, seed: options.firstSeed + i });
          }
        }
      }
    }
  }
  return tasks;
}

/** Tells before half an hour of work that its result could not be written. */
function checkWritable(file: string): void {
  try {
    if (existsSync(file) && statSync(file).isDirectory()) {
      throw Object.assign(new Error(), { code: 'EISDIR' });
    }
    accessSync(existsSync(file) ? file : dirname(file), constants.W_OK);
  } catch (error) {
    throw cannotWrite(file, error);
  }
}

function write(file: string, text: string): void {
  try {
    writeFileSync(file, text);
  } catch (error) {
    throw cannotWrite(file, error);
  }
}

function cannotWrite(file: string, error: unknown): Failure {
  const { code } = error as NodeJS.ErrnoException;
  return new Failure(`cannot write ${file} (${code}): choose another file`);
}

/** A bar on a terminal, a line a run elsewhere; both on standard error. */
class Progress {
  readonly #total: number;
  readonly #start = performance.now();
  done = 0;
  #cached = 0;

  constructor(total: number) {
    this.#total = total;
    if (process.stderr.isTTY) this.#bar('');
  }

  add(done: Done, cached: boolean): void {
    this.done++;
    if (cached) this.#cached++;
    const { run } = done;
    const { experiment, machine, setup, compaction } = run.cell;
    const what = `${experiment} ${setup} ${machine} ${compaction ? 'compaction' : 'vanilla'} seed ${run.seed}`;
    if (process.stderr.isTTY) {
      this.#bar(`${this.#left()} ${what}`);
    } else if (!cached) {
      const got = `${run.got} of ${run.attempted}`;
      process.stderr.write(
        `${this.done}/${this.#total} ${what}: ${got} (${done.seconds.toFixed(1)} s)\n`,
      );
    }
  }

  /** The bar and as much of the text as fits on the line. */
  #bar(text: string): void {
    const width = 30;
    const filled = Math.floor((this.done / this.#total) * width);
    const bar = '#'.repeat(filled) + '.'.repeat(width - filled);
    const line = `[${bar}] ${this.done}/${this.#total} ${text}`;
    process.stderr.write(`\r${line.slice(0, (process.stderr.columns ?? 80) - 1)}\x1b[K`);
  }

  #left(): string {
    const fresh = this.done - this.#cached;
    if (fresh === 0) return '';
    const each = (performance.now() - this.#start) / fresh / 1000;
    const left = Math.ceil(each * (this.#total - this.done));
    return left < 120 ? `${left} s left` : `${Math.ceil(left / 60)} min left`;
  }

  end(): void {
    if (process.stderr.isTTY) process.stderr.write('\r\x1b[K');
    if (this.#cached > 0) {
      process.stderr.write(`${this.#cached} of ${this.#total} runs were done before\n`);
    }
  }
}
