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
/** Options of which the machine's own lines tell. */
const TOLD = ['compaction', 'nodes', 'cpus', 'pageSize'];

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
  const rows = new Map([['mount', mountPoint]]);
  const record = readRecord(mountPoint);
  if (record !== undefined && isAlive(record)) {
    rows.set('pid', String(record.pid)).set('since', record.since);
    rows.set('version', record.version).set('transport', record.transport);
    for (const [name, value] of Object.entries(record.options)) {
      rows.set(name, SIZES.includes(name) ? formatSize(Number(value)) : String(value));
    }
    if (record.log !== null) rows.set('log', record.log);
  }
  const machine = machineRows(mountPoint);
  if (machine.length > 0) for (const name of TOLD) rows.delete(name);
  for (const [name, value] of machine) rows.set(name, value);
  const width = Math.max(...[...rows.keys()].map((name) => name.length)) + 2;
  for (const [name, value] of rows) process.stdout.write(name.padEnd(width) + value + '\n');
}

/** What the machine says of itself, by name; nothing for a tree without a status file. */
function machineRows(mountPoint: string): [string, string][] {
  let text: string;
  try {
    text = readFileSync(join(mountPoint, CONTROL_DIR, 'status'), 'utf8');
  } catch {
    return [];
  }
  return text
    .split('\n')
    .filter((line) => line.includes(': '))
    .map((line) => [line.slice(0, line.indexOf(': ')), line.slice(line.indexOf(': ') + 2)]);
}
