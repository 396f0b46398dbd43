/**
 * Child processes for end-to-end tests: each with a time limit, none left behind.
 *
 * The test process itself may touch a mount only because the server is another process.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';

export interface RunOptions {
  /** Milliseconds until SIGKILL; the result then has status null. */
  readonly timeout?: number;
  readonly cwd?: string;
  readonly env?: NodeJS.ProcessEnv;
  readonly input?: string;
  /** Runs as this user and group, without further groups. */
  readonly uid?: number;
}

export interface RunResult {
  readonly status: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

export const NOBODY = 65534;

/** Runs a program to its end. */
export function run(file: string, args: string[], options: RunOptions = {}): Promise<RunResult> {
  const [program, argv] = withUser(file, args, options.uid);
  return new Promise((resolve, reject) => {
    const child = spawn(program, argv, {
      cwd: options.cwd,
      env: options.env ?? process.env,
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    let stdout = '';
    let stderr = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      stdout += text;
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      stderr += text;
    });
    child.stdin.on('error', () => {}); // the program may not read what it is given
    child.stdin.end(options.input ?? '');
    const timer = setTimeout(() => child.kill('SIGKILL'), options.timeout ?? 20_000);
    child.on('error', reject);
    child.on('close', (status, signal) => {
      clearTimeout(timer);
      resolve({ status, signal, stdout, stderr });
    });
  });
}

/** Runs a shell script; throws with its output unless it exits 0. */
export async function sh(script: string, options: RunOptions = {}): Promise<string> {
  const result = await run('bash', ['-c', script], options);
  if (result.status !== 0) {
    throw new Error(
      `exit ${result.status ?? result.signal} of: ${script}\n${result.stdout}${result.stderr}`,
    );
  }
  return result.stdout;
}

/** The command that runs a program as another user. */
export function withUser(
  file: string,
  args: string[],
  uid: number | undefined,
): [string, string[]] {
  if (uid === undefined) return [file, args];
  const ids = [`--reuid=${uid}`, `--regid=${uid}`, '--clear-groups'];
  return ['setpriv', [...ids, '--', file, ...args]];
}

/** Starts a program and waits for a line on its standard output that begins with `ready`. */
export function startServer(
  file: string,
  args: string[],
  ready: string,
  env: NodeJS.ProcessEnv = process.env,
): Promise<ChildProcess> {
  return new Promise((resolve, reject) => {
    const child = spawn(file, args, { env, stdio: ['ignore', 'pipe', 'inherit'] });
    const timer = setTimeout(() => {
      child.kill('SIGKILL');
      reject(new Error(`${file} ${args.join(' ')}: not ready in time`));
    }, 20_000);
    createInterface(child.stdout).on('line', (line) => {
      if (!line.startsWith(ready)) return;
      clearTimeout(timer);
      resolve(child);
    });
    child.on('exit', (code, signal) => {
      clearTimeout(timer);
      reject(new Error(`${file} ${args.join(' ')}: ended with ${code ?? signal}`));
    });
  });
}

/** Ends a child with a signal and waits for it; SIGKILL after two seconds. */
export function endChild(child: ChildProcess, signal: NodeJS.Signals): Promise<number | null> {
  if (child.exitCode !== null || child.signalCode !== null) return Promise.resolve(child.exitCode);
  return new Promise((resolve) => {
    const timer = setTimeout(() => child.kill('SIGKILL'), 2000);
    child.on('exit', (code) => {
      clearTimeout(timer);
      resolve(code);
    });
    child.kill(signal);
  });
}
