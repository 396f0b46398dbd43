/**
 * `pageblock umount MNT`: ends the server of a mount, and cleans up after one that was killed.
 *
 * A living server is asked to end and takes its mount away itself. When it is gone, or does not
 * end in time, the mount point is detached from here; then nothing of it is left.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Command } from 'commander';
import { canonicalMountPoint, mountAt } from '../mountinfo.ts';
import { endNamespace } from '../namespace.ts';
import { isAlive, readRecord, removeRecord, type ServerRecord } from '../runtime.ts';
import { Failure } from '../transport.ts';
import { detach, FS_TYPE } from '../unmount.ts';

const PATIENCE = 10_000;

export function registerUmount(program: Command): void {
  program
    .command('umount')
    .description('unmount, and end the server; also cleans up after a killed server')
    .argument('<mnt>', 'the mount point')
    .action(async (mnt: string) => {
      await unmount(canonicalMountPoint(mnt));
    });
}

async function unmount(mountPoint: string): Promise<void> {
  const record = readRecord(mountPoint);
  const entry = mountAt(mountPoint);
  if (entry !== undefined && entry.type !== FS_TYPE) {
    throw new Failure(`${mountPoint} is a mount of ${entry.source}, not of pageblock: use umount`);
  }
  const alive = record !== undefined && isAlive(record);
  endNamespace(mountPoint);
  if (entry === undefined && !alive) {
    if (removeRecord(mountPoint)) return;
    throw new Failure(`${mountPoint} is not mounted: pageblock mount ${mountPoint} mounts it`);
  }
  if (alive) await endServer(record);
  while (mountAt(mountPoint)?.type === FS_TYPE) {
    const failed = await detach(mountPoint);
    if (failed !== null) throw new Failure(failed);
  }
  if (alive && isAlive(record)) {
    process.kill(record.pid, 'SIGKILL');
    await gone(record, PATIENCE);
  }
  removeRecord(mountPoint);
}

async function endServer(record: ServerRecord): Promise<void> {
  try {
    process.kill(record.pid, 'SIGTERM');
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'EPERM') {
      throw new Failure(`the server (pid ${record.pid}) belongs to another user: run as that user`);
    }
  }
  await gone(record, PATIENCE);
}

async function gone(record: ServerRecord, limit: number): Promise<void> {
  const end = performance.now() + limit;
  while (isAlive(record) && performance.now() < end) await sleep(10);
}
