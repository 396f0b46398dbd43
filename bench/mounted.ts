/**
 * What a mounted machine costs its clients, with real programs and system calls.
 *
 * The server is the real command in a process of its own; clients are this process (synchronous
 * system calls, as a C program makes them) and dd. The host's own /proc is measured in the same
 * rounds: the kernel's price for the same three calls.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import {
  closeSync,
  mkdtempSync,
  openSync,
  readFileSync,
  readSync,
  rmSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Result, type Row, runGroup } from './harness.ts';

const MAIN = fileURLToPath(new URL('../mount/main.js', import.meta.url));

/** A mounted machine for as long as `body` runs. */
async function withMount<T>(args: string[], body: (mnt: string) => Promise<T>): Promise<T> {
  const dir = mkdtempSync(join(tmpdir(), 'pageblock-bench-'));
  const mnt = join(dir, 'mnt');
  execFileSync(process.execPath, [MAIN, 'mount', mnt, ...args], { stdio: 'inherit' });
  try {
    return await body(mnt);
  } finally {
    execFileSync(process.execPath, [MAIN, 'umount', mnt], { stdio: 'inherit' });
    rmSync(dir, { recursive: true });
  }
}

const buffer = Buffer.alloc(65536);

function readFileOnce(path: string): void {
  const fd = openSync(path, 'r');
  while (readSync(fd, buffer, 0, buffer.length, null) > 0);
  closeSync(fd);
}

/** Median microseconds of open + read to the end + close. */
function readOp(path: string, count: number): number {
  return medianOp(count, () => readFileOnce(path));
}

function writeOp(path: string, text: string, count: number): number {
  return medianOp(count, () => {
    const fd = openSync(path, 'w');
    writeSync(fd, text);
    closeSync(fd);
  });
}

function medianOp(count: number, op: () => void): number {
  const times = new Float64Array(count);
  for (let i = 0; i < count; i++) {
    const start = process.hrtime.bigint();
    op();
    times[i] = Number(process.hrtime.bigint() - start) / 1000;
  }
  return times.sort()[count >> 1]!;
}

/** MiB/s of one dd; direction 'write' makes the file, 'read' reads it. */
function dd(path: string, direction: 'write' | 'read', block: string, mib: number): number {
  const bytes = { '4k': 4096, '128k': 131072, '1M': 2 ** 20 }[block]!;
  const count = Math.floor((mib * 2 ** 20) / bytes);
  const io =
    direction === 'write' ? ['if=/dev/zero', `of=${path}`] : [`if=${path}`, 'of=/dev/null'];
  const start = process.hrtime.bigint();
  const { status } = spawnSync('dd', [...io, `bs=${block}`, `count=${count}`], { stdio: 'ignore' });
  if (status !== 0) throw new Error(`bench: dd ${io.join(' ')} ended with ${status}`);
  return mib / (Number(process.hrtime.bigint() - start) / 1e9);
}

export async function benchFiles(rounds: number): Promise<Result[]> {
  return withMount(['--memory', '2G'], (mnt) => {
    const rows: Row[] = [];
    const pair = (what: string, ours: string, host: string): void => {
      rows.push({ name: `read ${what}`, unit: 'us', round: () => readOp(join(mnt, ours), 400) });
      rows.push({ name: `read ${what}, the host's`, unit: 'us', round: () => readOp(host, 400) });
    };
    pair('/proc/buddyinfo', 'proc/buddyinfo', '/proc/buddyinfo');
    pair('/proc/vmstat', 'proc/vmstat', '/proc/vmstat');
    rows.push({
      name: 'write 1 to /proc/sys/vm/stat_interval',
      unit: 'us',
      round: () => writeOp(join(mnt, 'proc/sys/vm/stat_interval'), '1', 400),
    });
    const host = '/proc/sys/vm/stat_interval';
    if (process.getuid?.() === 0) {
      const value = readFileSync(host, 'utf8');
      rows.push({
        name: "write to it, the host's (its own value)",
        unit: 'us',
        round: () => writeOp(host, value, 400),
      });
    }
    return runGroup('open + read or write + close of files', rows, rounds);
  });
}

export async function benchDisk(rounds: number): Promise<Result[]> {
  return withMount(['--memory', '2G'], (mnt) => {
    const rows: Row[] = [];
    for (const [block, mib] of [
      ['4k', 16],
      ['128k', 256],
      ['1M', 256],
    ] as const) {
      const path = join(mnt, 'disk', `bench-${block}`);
      rows.push({
        name: `dd write bs=${block}`,
        unit: 'MiB/s',
        round: () => dd(path, 'write', block, mib),
      });
      rows.push({
        name: `dd read bs=${block}`,
        unit: 'MiB/s',
        round: () => dd(path, 'read', block, mib),
      });
    }
    return runGroup('dd on mnt/disk', rows, rounds);
  });
}
