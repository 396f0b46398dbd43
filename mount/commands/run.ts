/**
 * `pageblock run MNT -- CMD…`: runs an unmodified program on the mounted machine.
 *
 * The program finds the machine's files in place of the host's in /proc and /sys (namespace.ts).
 * Without --log this process becomes the program: pid, signals, terminal, streams and exit status
 * are the program's own. With --log it has to outlive it, so it is a child, to which signals are
 * passed on and whose end is repeated here. Nothing on this way may touch process.stdout: Node
 * would make a pipe that others share non-blocking.
 */
import { spawn } from 'node:child_process';
import { constants } from 'node:os';
import { isatty } from 'node:tty';
import { type Command, InvalidArgumentError, Option } from 'commander';
import { commandInNamespace } from '../namespace.ts';
import { exec } from '../native.ts';
import { Failure } from '../transport.ts';
import { WriteLog } from '../write_log.ts';

export function registerRun(program: Command): void {
  program
    .command('run')
    .description('run a program that sees the mounted machine as its own')
    .argument('<mnt>', 'the mount point')
    .argument('<command...>', 'the program and its arguments, after --')
    .addOption(
      new Option('--log <file>', 'what was written to virtual files, as JSON lines').argParser(
        parseLog,
      ),
    )
    .addHelpText(
      'after',
      "\nThe exit status is the program's; 127 if it is not found, 1 if it was not started.\n" +
        'What programs mount is kept for the next call, until the machine is unmounted.\n\n' +
        'Example:\n  $ pageblock run mnt -- hugeadm --pool-list\n',
    )
    .action(async (mnt: string, command: string[], options: { log?: string }) => {
      await become(mnt, command, options.log);
    });
}

function parseLog(file: string): string {
  if (file === '--' || file === '') throw new InvalidArgumentError('A file is needed.');
  return file;
}

/** Runs a command in the namespace of a mounted machine and ends as it ends. */
export async function become(mnt: string, command: string[], log?: string): Promise<void> {
  const writes = log === undefined ? undefined : new WriteLog(mnt, log);
  const argv = await commandInNamespace(mnt, command);
  if (writes === undefined) {
    const error = exec(argv);
    if (error !== -constants.errno.ENOSYS) {
      throw new Failure(`cannot start ${argv[0]} (errno ${-error})`);
    }
  }
  const { status, signal } = await follow(argv);
  writes?.close();
  if (signal !== null) {
    process.kill(process.pid, signal);
    // Some signals only arrive when this turn is over.
    await new Promise((resolve) => setTimeout(resolve, 1000));
  }
  process.exit(status ?? 1);
}

/** What a terminal sends to all processes in the foreground: the child has it already. */
const FROM_TERMINAL = ['SIGINT', 'SIGQUIT'] as const;
const PASSED_ON = ['SIGTERM', 'SIGHUP', 'SIGUSR1', 'SIGUSR2', 'SIGALRM'] as const;

function follow(argv: string[]): Promise<{ status: number | null; signal: NodeJS.Signals | null }> {
  return new Promise((resolve, reject) => {
    const child = spawn(argv[0]!, argv.slice(1), { stdio: 'inherit' });
    const passOn = (signal: NodeJS.Signals) => void child.kill(signal);
    const ignore = () => {};
    for (const signal of PASSED_ON) process.on(signal, passOn);
    for (const signal of FROM_TERMINAL) process.on(signal, isatty(0) ? ignore : passOn);
    child.on('error', (error) => reject(new Failure(`cannot start ${argv[0]}: ${error.message}`)));
    child.on('exit', (status, signal) => {
      for (const name of [...PASSED_ON, ...FROM_TERMINAL]) process.removeAllListeners(name);
      resolve({ status, signal });
    });
  });
}
