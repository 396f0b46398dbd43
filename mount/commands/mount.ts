/**
 * `pageblock mount MNT`: starts a server, in the background unless told otherwise.
 *
 * The background server is this same program with --foreground, in its own session, its output
 * in a log file. It tells through a pipe whether it came up; then this process itself asks the
 * tree, from outside, and returns when it has got an answer.
 */
import { spawn } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { resolve } from 'node:path';
import type { Readable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { type Command, Option } from 'commander';
import {
  formatSize,
  type MountOptions,
  parseCount,
  parseHugePageSize,
  parseKernel,
  parseMachine,
  parsePageSize,
  parseSeed,
  parseSize,
} from '../config.ts';
import { withMachineFile } from '../machine_file.ts';
import { canonicalMountPoint } from '../mountinfo.ts';
import { logPath } from '../runtime.ts';
import { prepareMountPoint, serve } from '../server.ts';
import { Failure } from '../transport.ts';
import { probe } from '../unmount.ts';

export function registerMount(program: Command): void {
  program
    .command('mount')
    .description('mount an emulated machine on a directory; returns when the tree answers')
    .argument('<mnt>', 'an empty directory; made if it does not exist')
    .option('--kernel <version>', 'the kernel to emulate: 2.6.35 or 6.1', parseKernel, '2.6.35')
    .option('--no-compaction', 'a kernel built without CONFIG_COMPACTION')
    .option('--machine <type>', 'x86_64, x86 or ppc64', parseMachine, 'x86_64')
    .addOption(
      new Option('--memory <size>', 'emulated memory, such as 512M or 16G')
        .argParser(parseSize)
        .default(2 * 2 ** 30, '2G'),
    )
    .option('--nodes <n>', 'NUMA nodes', parseCount, 1)
    .option('--no-numa', 'a kernel built without NUMA: one node, no node files')
    .addOption(
      new Option('--page-size <size>', '4K, or 64K on ppc64')
        .argParser(parsePageSize)
        .default(4096, '4K'),
    )
    .option(
      '--hugepagesz <size>',
      'huge pages of 1G beside those of 2M: an empty pool (x86_64)',
      parseHugePageSize,
    )
    .option(
      '--swap <size>',
      'swap for anonymous memory, at the end of the disk file (default: none)',
      parseSize,
    )
    .option('--cpus <n>', 'CPUs that the machine counts', parseCount)
    .option('--seed <n>', 'seed of everything that is random in the machine', parseSeed)
    .option('--disk <file>', 'host file behind mnt/disk; made if missing (default: temporary)')
    .option('--config <file>', 'a machine file: options, and texts to write to virtual files')
    .option('--fault <spec>', 'a fault for tests, such as "pool 20"; may be repeated', collect)
    .option('--foreground', 'stay in the foreground; Ctrl-C unmounts')
    .option('--allow-other', 'let other users in (always on for a mount by root)')
    .addHelpText(
      'after',
      '\nThe tree: MNT/proc, MNT/sys (debugfs in MNT/sys/kernel/debug), and MNT/disk, a file\n' +
        'system whose page cache is the emulated memory. pageblock umount MNT ends it.\n',
    )
    .action(async (mnt: string, onCommandLine: MountOptions, command: Command) => {
      const mountPoint = canonicalMountPoint(mnt);
      const given = withMachineFile(command, onCommandLine);
      const options = {
        ...given,
        ...(given.disk === undefined ? {} : { disk: resolve(given.disk) }),
        ...(given.config === undefined ? {} : { config: resolve(given.config) }),
      };
      if (options.foreground) {
        await serve(mountPoint, options);
        if (process.env['PAGEBLOCK_READY_FD'] === undefined) {
          process.stdout.write(`pageblock: ${mountPoint} is mounted; Ctrl-C unmounts it\n`);
        }
      } else {
        await prepareMountPoint(mountPoint);
        await startServer(mountPoint, options);
      }
    });
}

function collect(spec: string, before: readonly string[] = []): readonly string[] {
  return [...before, spec];
}

function serverArguments(mountPoint: string, options: MountOptions): string[] {
  const args = [
    ...['mount', mountPoint, '--foreground', '--kernel', options.kernel],
    ...['--machine', options.machine, '--memory', formatSize(options.memory)],
    ...['--nodes', String(options.nodes)],
  ];
  if (!options.compaction) args.push('--no-compaction');
  if (!options.numa) args.push('--no-numa');
  args.push('--page-size', String(options.pageSize));
  if (options.hugepagesz !== undefined) args.push('--hugepagesz', String(options.hugepagesz));
  if (options.swap !== undefined) args.push('--swap', String(options.swap));
  if (options.cpus !== undefined) args.push('--cpus', String(options.cpus));
  if (options.seed !== undefined) args.push('--seed', String(options.seed));
  if (options.disk !== undefined) args.push('--disk', options.disk);
  if (options.allowOther) args.push('--allow-other');
  if (options.config !== undefined) args.push('--config', options.config);
  for (const spec of options.fault ?? []) args.push('--fault', spec);
  return args;
}

async function startServer(mountPoint: string, options: MountOptions): Promise<void> {
  const main = fileURLToPath(new URL('../main.js', import.meta.url));
  const log = logPath(mountPoint);
  const logFd = openSync(log, 'w', 0o600);
  const child = spawn(
    process.execPath,
    [...process.execArgv, main, ...serverArguments(mountPoint, options)],
    {
      cwd: '/',
      detached: true,
      stdio: ['ignore', logFd, logFd, 'pipe'],
      env: { ...process.env, PAGEBLOCK_READY_FD: '3' },
    },
  );
  closeSync(logFd);
  const abandon = () => {
    child.kill('SIGTERM');
    process.exit(1);
  };
  process.once('SIGINT', abandon);
  process.once('SIGTERM', abandon);
  const line = await firstLine(child.stdio[3] as Readable);
  if (line !== 'ready') {
    throw new Failure(line === '' ? `the server did not start: see ${log}` : line);
  }
  child.unref();
  (child.stdio[3] as Readable).destroy();
  const answer = await probe(mountPoint, 20_000);
  if (answer !== 'ok') {
    child.kill('SIGTERM');
    throw new Failure(`the tree on ${mountPoint} does not answer (${answer}): see ${log}`);
  }
}

/** The first line of a stream, '' when it ends before one. */
function firstLine(stream: Readable): Promise<string> {
  return new Promise((done) => {
    let text = '';
    stream.setEncoding('utf8');
    stream.on('data', (chunk: string) => {
      text += chunk;
      const end = text.indexOf('\n');
      if (end >= 0) done(text.slice(0, end));
    });
    stream.on('end', () => done(''));
    stream.on('error', () => done(''));
  });
}
