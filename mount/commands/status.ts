/**
 * `pageblock status MNT`: what is mounted there. Exit 0 only when it answers.
 *
 * The server's record tells the process and the options, the tree itself the machine. Neither is
 * needed for the other: a mount of another user has no record here, a killed server no tree.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Command } from 'commander';
import { formatSize } from '../config.ts';
import { canonicalMountPoint, mountAt } from '../mountinfo.ts';
import { isAlive, readRecord } from '../runtime.ts';
import { Failure } from '../transport.ts';
import { FS_TYPE, probe } from '../unmount.ts';

/** Options that are sizes in bytes. */
const SIZES = ['memory', 'pageSize', 'swap'];

export const CONTROL_DIR = 'sys/kernel/debug/pageblock';

export function registerStatus(program: Command): void {
  program
    .command('status')
    .description('tell what is mounted: kernel, machine, uptime, pid')
    .argument('<mnt>', 'the mount point')
    .action(async (mnt: string) => {
      await status(canonicalMountPoint(mnt));
    });
}

async function status(mountPoint: string): Promise<void> {
  if (mountAt(mountPoint)?.type !== FS_TYPE) {
    throw new Failure(`${mountPoint} is not mounted: pageblock mount ${mountPoint} mounts it`);
  }
  const answer = await probe(mountPoint);
  if (answer === 'dead') {
    throw new Failure(`the server of ${mountPoint} was killed: pageblock umount ${mountPoint}`);
  }
  if (answer === 'silent') {
    throw new Failure(
      `the server of ${mountPoint} does not answer: pageblock umount ${mountPoint}`,
    );
  }
  if (answer === 'forbidden') {
    throw new Failure(`${mountPoint} is another user's mount: mount it with --allow-other`);
  }
  const rows: [string, string][] = [['mount', mountPoint]];
  const record = readRecord(mountPoint);
  if (record !== undefined && isAlive(record)) {
    rows.push(['pid', String(record.pid)], ['since', record.since]);
    rows.push(['version', record.version], ['transport', record.transport]);
    for (const [name, value] of Object.entries(record.options)) {
      rows.push([name, SIZES.includes(name) ? formatSize(Number(value)) : String(value)]);
    }
    if (record.log !== null) rows.push(['log', record.log]);
  }
  const width = Math.max(...rows.map(([name]) => name.length)) + 2;
  let text = rows.map(([name, value]) => name.padEnd(width) + value + '\n').join('');
  try {
    text += readFileSync(join(mountPoint, CONTROL_DIR, 'status'), 'utf8');
  } catch {
    // a tree without a status file of its own
  }
  process.stdout.write(text);
}
