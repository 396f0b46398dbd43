/**
 * Real programs on a mounted machine: who runs them, what they need, what they saw.
 *
 * Expected values are taken from the mount itself. The programs come from Debian packages, which
 * .ci/run installs; where one is missing its tests are skipped and say what to install.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { chmodSync, chownSync, existsSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface, type Interface } from 'node:readline';
import type { TestContext } from 'node:test';
import { MAIN, noFuse, notRoot, tempDir, userView } from './mounts.ts';
import { NOBODY, type RunOptions, type RunResult, run, withUser } from './processes.ts';

/** Programs and the Debian packages that they are in. */
const PACKAGES: Record<string, string> = {
  hugeadm: 'libhugetlbfs-bin',
  pagesize: 'libhugetlbfs-bin',
  sysctl: 'procps',
  free: 'procps',
  vmstat: 'procps',
  slabtop: 'procps',
  numastat: 'numactl',
  numactl: 'numactl',
  sar: 'sysstat',
  'prometheus-node-exporter': 'prometheus-node-exporter',
  'updatedb.plocate': 'plocate',
  fio: 'fio',
  'stress-ng': 'stress-ng',
};

/** Whether programs can be run on a mounted machine here: false, or why not. */
function noRun(): string | false {
  const fuse = noFuse();
  if (fuse !== false) return fuse;
  const user = process.getuid?.() === 0 ? [] : ['--user', '--map-root-user'];
  const args = [...user, '--mount', '--propagation', 'private', 'true'];
  if (spawnSync('unshare', args, { stdio: 'ignore' }).status === 0) return false;
  return 'no mount namespace can be made here: run as root, or allow user namespaces';
}

export function missing(...programs: string[]): string | false {
  const dirs = (process.env['PATH'] ?? '').split(':').concat('/usr/sbin', '/sbin');
  for (const program of programs) {
    if (dirs.some((dir) => existsSync(join(dir, program)))) continue;
    return `needs ${program}: apt-get install ${PACKAGES[program] ?? program}`;
  }
  return noRun();
}

export const KERNELS = ['2.6.35', '6.1'] as const;
export type Kernel = (typeof KERNELS)[number];

export type Who = 'root' | 'user';

/** Who can be tried: whoever runs the tests, and an ordinary user beside root. */
export const EVERYBODY: readonly Who[] = process.getuid?.() === 0 ? ['root', 'user'] : ['user'];

export function cannotBe(who: Who): string | false {
  if (process.getuid?.() !== 0) return false;
  if (who === 'root') return notRoot();
  if (userView.skip) return String(userView.skip);
  const ids = [`--reuid=${NOBODY}`, `--regid=${NOBODY}`, '--clear-groups'];
  const probe = ['unshare', '--user', '--map-root-user', '--mount', 'true'];
  if (spawnSync('setpriv', [...ids, ...probe], { stdio: 'ignore' }).status === 0) return false;
  return 'ordinary users may not make user namespaces here';
}

/** A mounted machine and the one who mounted it. */
export class Client {
  readonly mnt: string;
  readonly who: Who;
  readonly kernel: Kernel;
  readonly #command: string[];
  readonly #options: RunOptions;
  #shell: Shell | undefined;

  private constructor(
    mnt: string,
    who: Who,
    kernel: Kernel,
    command: string[],
    options: RunOptions,
  ) {
    this.mnt = mnt;
    this.who = who;
    this.kernel = kernel;
    this.#command = command;
    this.#options = options;
  }

  static async mount(t: TestContext, who: Who, args: string[] = []): Promise<Client> {
    const dir = tempDir(t);
    const other = who === 'user' && process.getuid?.() === 0;
    let command = [process.execPath, MAIN];
    if (other) {
      const { node, main } = userView(t);
      command = [node, main];
      chownSync(dir, NOBODY, NOBODY);
    }
    chmodSync(dir, 0o755);
    // Debian's users lack sbin; scripts that set huge pages up are root's.
    const PATH = `${process.env['PATH']}:/usr/sbin:/sbin`;
    const env = { ...process.env, PATH, LC_ALL: 'C', HOME: dir, XDG_RUNTIME_DIR: '' };
    const options = { env, cwd: dir, timeout: 120_000, ...(other ? { uid: NOBODY } : {}) };
    const kernel = args.includes('6.1') ? '6.1' : '2.6.35';
    const client = new Client(join(dir, 'mnt'), who, kernel, command, options);
    const result = await client.pageblock(['mount', client.mnt, ...args]);
    assert.deepEqual([result.status, result.stderr], [0, '']);
    return client;
  }

  pageblock(args: string[], more: RunOptions = {}): Promise<RunResult> {
    const [node, ...rest] = this.#command;
    return run(node!, [...rest, ...args], { ...this.#options, ...more });
  }

  /** Runs a program on the machine. */
  run(...command: string[]): Promise<RunResult> {
    if (this.#shell !== undefined) return this.#shell.run(command);
    return this.pageblock(['run', this.mnt, '--', ...command]);
  }

  /**
   * From now on one `run` of a shell starts every program: each costs milliseconds instead of the
   * start of Node, which a table of a hundred programs would spend most of its time on.
   */
  openShell(t: TestContext): void {
    const dir = this.mnt.replace(/\/mnt$/, '');
    const args = [...this.#command.slice(1), 'run', this.mnt, '--', 'bash'];
    this.#shell = new Shell(dir, this.#command[0]!, args, this.#options);
    t.after(() => this.#shell?.end());
  }

  /** Its standard output; it must exit 0 and say nothing else. */
  async out(...command: string[]): Promise<string> {
    const result = await this.run(...command);
    assert.deepEqual([result.status, result.stderr], [0, ''], command.join(' '));
    return result.stdout;
  }

  /** A shell script on the machine; its standard output. */
  sh(script: string): Promise<string> {
    return this.out('bash', '-ec', script);
  }

  /**
   * A file of the mount, read from outside; by another user than the one who mounted, from inside.
   */
  async read(path: string): Promise<string> {
    if (this.#options.uid === undefined) return readFileSync(join(this.mnt, path), 'utf8');
    return (await this.outside('cat', [join(this.mnt, path)])).stdout;
  }

  has(path: string): Promise<boolean> {
    return this.outside('test', ['-e', join(this.mnt, path)]).then(({ status }) => status === 0);
  }

  async write(path: string, text: string): Promise<void> {
    const script = 'printf %s "$1" > "$2"';
    const args = ['-c', script, 'sh', text, join(this.mnt, path)];
    const { stderr } = await run('sh', args, this.#options);
    assert.equal(stderr, '');
  }

  /** /proc/meminfo by name. */
  async meminfo(path = 'proc/meminfo'): Promise<Record<string, number>> {
    return parseMeminfo(await this.read(path));
  }

  /** Sets a fault, as a line of a file under fault/; `off` ends it. */
  fault(kind: string, line: string): Promise<void> {
    return this.write(`sys/kernel/debug/pageblock/fault/${kind}`, `${line}\n`);
  }

  /** The writes since the last call, as [path, bytes]. */
  async writes(): Promise<[string, string][]> {
    const text = await this.read(WRITES);
    await this.write(WRITES, '\n');
    return text
      .split('\n')
      .slice(0, -1)
      .map((line) => JSON.parse(line) as { path: string; bytes: string })
      .map(({ path, bytes }) => [path, bytes]);
  }

  /** A program outside of the namespace, as the same user. */
  outside(file: string, args: string[], more: RunOptions = {}): Promise<RunResult> {
    return run(file, args, { ...this.#options, ...more });
  }
}

/** A bash that starts one program after the other and tells how each ended. */
class Shell {
  readonly #dir: string;
  readonly #child: ChildProcess;
  readonly #lines: Interface;
  readonly #ended: Promise<undefined>;
  #turn: Promise<unknown> = Promise.resolve();
  #count = 0;

  constructor(dir: string, file: string, args: string[], options: RunOptions) {
    const [program, argv] = withUser(file, args, options.uid);
    this.#dir = dir;
    this.#child = spawn(program, argv, {
      cwd: options.cwd,
      env: options.env,
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    this.#lines = createInterface(this.#child.stdout!);
    this.#ended = new Promise((resolve) => this.#child.once('close', () => resolve(undefined)));
  }

  /** Programs of one shell run one after the other, whoever asks. */
  run(command: string[]): Promise<RunResult> {
    const turn = this.#turn.then(() => this.#run(command));
    this.#turn = turn.catch(() => {});
    return turn;
  }

  async #run(command: string[]): Promise<RunResult> {
    const at = join(this.#dir, `.out${++this.#count}`);
    const words = command.map((word) => `'${word.replaceAll("'", "'\\''")}'`).join(' ');
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), 120_000);
    const answer = new Promise<string>((resolve) => this.#lines.once('line', resolve));
    this.#child.stdin!.write(`(exec ${words}) </dev/null >${at} 2>${at}.err; echo $?\n`);
    const line = await Promise.race([answer, this.#ended]);
    if (line === undefined) throw new Error(`no answer to ${words}`);
    const status = Number(line);
    clearTimeout(timer);
    const [stdout, stderr] = [at, `${at}.err`].map((path) => readFileSync(path, 'utf8'));
    for (const path of [at, `${at}.err`]) rmSync(path);
    return { status, signal: null, stdout: stdout!, stderr: stderr! };
  }

  async end(): Promise<void> {
    this.#child.stdin!.end();
    await this.#ended;
  }
}

export const WRITES = 'sys/kernel/debug/pageblock/writes';

export function parseMeminfo(text: string): Record<string, number> {
  const values: Record<string, number> = {};
  for (const [, key, value] of text.matchAll(/^(?:Node \d+ )?([\w()]+): +(\d+)/gm)) {
    values[key!] = Number(value);
  }
  return values;
}

/** The numbers in a line of a table. */
export function numbers(line: string | undefined): number[] {
  return (line ?? '').match(/-?\d+(?:\.\d+)?/g)?.map(Number) ?? [];
}
