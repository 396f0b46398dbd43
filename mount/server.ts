/**
 * The server of one mount: boots the machine, serves its tree, ends cleanly.
 *
 * One process serves one mount and does nothing else: it never touches its own mount point (a
 * synchronous call on it would wait for itself for ever) and starts no long-lived children. It
 * ends on SIGINT, SIGTERM and SIGHUP, on an unmount from outside, and on a defect; in each case
 * the mount point is taken away first. What SIGKILL leaves is cleaned by the next mount or umount.
 */
import { mkdirSync, readdirSync, readFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import createDebug from 'debug';
import { ClockDriver } from './clock_driver.ts';
import type { MountOptions } from './config.ts';
import { HostDisk } from './host_disk.ts';
import { JobRunner, reportDefect } from './jobs.ts';
import { bootMachine, swapBytes } from './machine.ts';
import { mountAt } from './mountinfo.ts';
import { packageRoot } from './native.ts';
import { Operations } from './ops.ts';
import {
  bootId,
  isAlive,
  logPath,
  readRecord,
  removeRecord,
  startTimeOf,
  writeRecord,
} from './runtime.ts';
import { Failure } from './transport.ts';
import { FuseNativeTransport } from './transport_a.ts';
import { detach, FS_TYPE, probe } from './unmount.ts';

const debug = createDebug('pageblock:server');

const WATCH_EVERY = 1000;

/**
 * Makes a mount point usable: takes away what a killed server left, makes the directory, refuses
 * everything else. Throws a Failure.
 */
export async function prepareMountPoint(mountPoint: string): Promise<void> {
  for (let entry = mountAt(mountPoint); entry !== undefined; entry = mountAt(mountPoint)) {
    if (entry.type !== FS_TYPE) {
      throw new Failure(
        `${mountPoint} is a mount point of ${entry.source}: choose another directory`,
      );
    }
    const record = readRecord(mountPoint);
    if (record !== undefined && isAlive(record)) {
      throw new Failure(
        `${mountPoint} is already mounted (pid ${record.pid}): pageblock umount ${mountPoint} first`,
      );
    }
    if ((await probe(mountPoint)) !== 'dead') {
      throw new Failure(
        `${mountPoint} is already mounted by another user: choose another directory`,
      );
    }
    debug('detaching the stale mount on %s', mountPoint);
    const failed = await detach(mountPoint);
    if (failed !== null) throw new Failure(failed);
  }
  removeRecord(mountPoint);
  try {
    mkdirSync(mountPoint, { recursive: true });
    if (readdirSync(mountPoint).length > 0) {
      throw new Failure(`${mountPoint} is not empty: choose an empty directory`);
    }
  } catch (error) {
    if (error instanceof Failure) throw error;
    const { code } = error as NodeJS.ErrnoException;
    throw new Failure(`cannot use ${mountPoint} (${code}): choose a directory that you may write`);
  }
}

export function version(): string {
  const text = readFileSync(join(packageRoot(), 'package.json'), 'utf8');
  return (JSON.parse(text) as { version: string }).version;
}

/** The other end of a background server: one line tells how the start went. */
function tellParent(line: string): void {
  const fd = process.env['PAGEBLOCK_READY_FD'];
  if (fd === undefined) return;
  try {
    writeSync(Number(fd), line + '\n');
  } catch {
    // nobody waits any more
  }
}

/** Serves until told to end, then exits the process. Throws a Failure when it cannot start. */
export async function serve(mountPoint: string, options: MountOptions): Promise<void> {
  try {
    await start(mountPoint, options);
  } catch (error) {
    if (error instanceof Failure) tellParent(error.message);
    throw error;
  }
  tellParent('ready');
}

async function start(mountPoint: string, options: MountOptions): Promise<void> {
  await prepareMountPoint(mountPoint);
  const disk = new HostDisk(options.disk, undefined, swapBytes(options));
  const machine = bootMachine(options, disk);
  const jobs = new JobRunner();
  const ops = new Operations(machine.root, jobs);
  const transport = new FuseNativeTransport(ops, {
    mountPoint,
    caller: { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0, pid: 0 },
    // Root's mount is open to all, as /proc is; FUSE lets others ask for it only with a line in
    // /etc/fuse.conf.
    allowOther: options.allowOther === true || process.getuid?.() === 0,
  });
  const clock = new ClockDriver(
    {
      advance: (ms) => machine.advance(ms),
      giveBack: () => machine.giveBack(),
    },
    jobs,
  );

  // A signal may come while the mount is being made: it must not leave half of one.
  let mounting: Promise<void> = Promise.resolve();
  let ending = false;
  const end = async (status: number, why: string): Promise<void> => {
    if (ending) return;
    ending = true;
    debug('ending: %s', why);
    clock.stop();
    try {
      await mounting.catch(() => {});
      await transport.unmount();
    } catch (error) {
      process.stderr.write(`pageblock: ${(error as Error).message}\n`);
      status = 1;
    }
    removeRecord(mountPoint, process.pid);
    disk.close();
    process.exit(status);
  };
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(signal, () => void end(0, signal));
  }
  process.on('uncaughtException', (error) => {
    reportDefect('the server', error);
    void end(1, 'defect');
  });
  mounting = transport.mount();
  await mounting;
  if (ending) return;
  const device = mountAt(mountPoint)?.device;
  const background = process.env['PAGEBLOCK_READY_FD'] !== undefined;
  const { foreground: _, ...shown } = options;
  writeRecord({
    mountPoint,
    pid: process.pid,
    startTime: startTimeOf(process.pid) ?? '',
    bootId: bootId(),
    version: version(),
    transport: transport.name,
    options: shown,
    log: background ? logPath(mountPoint) : null,
    since: new Date().toISOString(),
  });
  clock.start();

  // fuse-native does not say when somebody else unmounts.
  setInterval(() => {
    if (mountAt(mountPoint)?.device !== device) void end(0, 'unmounted from outside');
  }, WATCH_EVERY);
  debug('%s answers on %s, pid %d', transport.name, mountPoint, process.pid);
}
