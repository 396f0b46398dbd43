/** The texts of /proc/PID, and pagemap's words. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { disk_root } from '../../src/fs/disk/index.ts';
import { mount_root } from '../../src/fs/tree.ts';
import { O_RDONLY, O_RDWR, type OpenFile, type Vnode } from '../../src/fs/vfs.ts';
import { EACCES, EINVAL, ENOENT, ESRCH } from '../../src/lib/errno.ts';
import { MemoryBlockDevice } from '../../src/mm/block_device.ts';
import { do_exit } from '../../src/mm/fork.ts';
import { do_mbind, do_mlock, do_mprotect } from '../../src/mm/madvise.ts';
import { access_page, read_tag } from '../../src/mm/memory.ts';
import { MPOL_BIND } from '../../src/mm/mm_types.ts';
import {
  do_brk,
  do_mmap,
  MAP_ANONYMOUS,
  MAP_FIXED,
  MAP_PRIVATE,
  MAP_SHARED,
} from '../../src/mm/mmap.ts';
import type { Machine } from '../../src/mm/mmzone.ts';
import { open_for_map } from '../../src/sim/open_for_map.ts';
import { fill, fork, frame, MIB, migrate, process, small_machine } from './process_machine.ts';

const ROOT = { uid: 0, gid: 0, pid: 0 };
const BASE = 0x10000;
const FIXED = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;

function find(m: Machine, path: string): Vnode | number {
  let node: Vnode | number = mount_root(m);
  for (const name of path.split('/').filter((part) => part !== '')) {
    if (typeof node === 'number') return node;
    node = node.lookup(name);
  }
  return node;
}

function open(m: Machine, path: string, flags = O_RDONLY): OpenFile {
  const node = find(m, path);
  assert.ok(typeof node !== 'number', `${path}: ${node}`);
  const file = node.open(flags, ROOT);
  assert.ok(typeof file !== 'number', `${path}: ${file}`);
  return file;
}

function text(m: Machine, path: string): string {
  const file = open(m, path);
  const buf = new Uint8Array(65536);
  const count = file.read(buf, 0);
  assert.ok(count >= 0, `${path}: ${count}`);
  return Buffer.from(buf.subarray(0, count)).toString('latin1');
}

/** A machine with a process of every kind of area, at fixed addresses. */
function machine_with_process() {
  const m = small_machine({
    memory: 128 * MIB,
    nodes: 2,
    cpus: 2,
    disk: new MemoryBlockDevice(8 * MIB),
  });
  const node = disk_root(m).create('a file', 0o644, ROOT) as Vnode;
  const file = node.open(O_RDWR, ROOT) as OpenFile;
  file.write(new Uint8Array(4096 * 6).fill(1), 0);
  const task = process(m, 'worker');
  const mm = task.mm!;
  do_brk(m, mm, mm.start_brk + 3);
  fill(m, task, mm.start_brk, 2, 1);
  do_mmap(m, mm, null, BASE, 8, 3, FIXED);
  fill(m, task, BASE, 4, 10);
  do_mprotect(m, mm, BASE + 6, 2, 1 | 4);
  const opened = open_for_map(m, '/disk/a file', true);
  assert.ok(typeof opened !== 'number');
  do_mmap(m, mm, opened, BASE + 16, 4, 3, MAP_SHARED | MAP_FIXED, 2);
  assert.equal(access_page(m, task, BASE + 17, false), 0);
  return { m, task, ino: node.getattr().ino };
}

test('maps: columns, names, offsets, the gate area at the end', () => {
  const { m, task, ino } = machine_with_process();
  const rows = text(m, `/proc/${task.pid}/maps`).split('\n');
  const head = (s: string): string => s.padEnd(73);
  assert.deepEqual(rows, [
    `${head('00602000-00605000 rw-p 00000000 00:00 0 ')}[heap]`,
    '10000000-10006000 rw-p 00000000 00:00 0 ',
    '10006000-10008000 r-xp 00000000 00:00 0 ',
    `${head(`10010000-10014000 rw-s 00002000 fe:00 ${ino} `)}/disk/a file`,
    `${head('7fffffde000-7fffffff000 rwxp 00000000 00:00 0 ')}[stack]`,
    `${head('ffffffffff600000-ffffffffff601000 r-xp 00000000 00:00 0 ')}[vsyscall]`,
    '',
  ]);
});

test('status, statm, stat, comm, cmdline', () => {
  const { m, task } = machine_with_process();
  do_mlock(m, task.mm!, BASE, 2, true);
  const lines = text(m, `/proc/${task.pid}/status`).split('\n');
  for (const line of [
    'Name:\tworker',
    'State:\tS (sleeping)',
    `Pid:\t${task.pid}`,
    'PPid:\t1',
    'VmPeak:\t     192 kB',
    'VmSize:\t     192 kB',
    'VmLck:\t       8 kB',
    'VmHWM:\t      32 kB',
    'VmRSS:\t      32 kB',
    'VmData:\t      44 kB',
    'VmStk:\t     132 kB',
    'VmExe:\t       0 kB',
    'VmPTE:\t      12 kB',
    'VmSwap:\t       0 kB',
    'Threads:\t1',
    'Cpus_allowed:\t3',
    'Cpus_allowed_list:\t0-1',
  ]) {
    assert.ok(lines.includes(line), `${JSON.stringify(line)} is missing:\n${lines.join('\n')}`);
  }
  assert.equal(text(m, `/proc/${task.pid}/statm`), '48 8 1 0 0 44 0\n');
  const stat = text(m, `/proc/${task.pid}/stat`);
  assert.match(stat, new RegExp(`^${task.pid} \\(worker\\) S 1 ${task.pid} ${task.pid} 0 -1 `));
  const fields = stat.trim().split(' ');
  assert.equal(fields.length, 44);
  assert.deepEqual(fields.slice(22, 25), [String(48 * 4096), '8', '18446744073709551615']);
  assert.equal(text(m, `/proc/${task.pid}/comm`), 'worker\n');
  assert.equal(text(m, `/proc/${task.pid}/cmdline`), 'worker\0');
  const comm = open(m, `/proc/${task.pid}/comm`, O_RDWR);
  assert.equal(comm.write(new Uint8Array([65]), 0), -EINVAL);
});

test('numa_maps and smaps', () => {
  const { m, task } = machine_with_process();
  const mm = task.mm!;
  do_mmap(m, mm, null, BASE + 32, 4, 3, FIXED);
  do_mbind(m, mm, BASE + 32, 4, MPOL_BIND, 1);
  fill(m, task, BASE + 32, 3, 1);
  fork(m, task);
  const rows = text(m, `/proc/${task.pid}/numa_maps`).trim().split('\n');
  // The pages are still in the vectors: none is active yet.
  assert.deepEqual(rows, [
    '00602000 default heap anon=2 dirty=2 mapmax=2 active=0 N0=2',
    '10000000 default anon=4 dirty=4 mapmax=2 active=0 N0=4',
    '10006000 default',
    '10010000 default file=/disk/a\\040file dirty=1 active=0 N0=1',
    '10020000 bind:1 anon=3 dirty=3 mapmax=2 active=0 N1=3',
    '7fffffde000 default stack anon=1 dirty=1 mapmax=2 active=0 N0=1',
  ]);
  const smaps = text(m, `/proc/${task.pid}/smaps`);
  assert.ok(
    smaps.includes(
      '10000000-10006000 rw-p 00000000 00:00 0 \n' +
        'Size:                 24 kB\nRss:                  16 kB\nPss:                   8 kB\n' +
        'Shared_Clean:          0 kB\nShared_Dirty:         16 kB\nPrivate_Clean:         0 kB\n' +
        'Private_Dirty:         0 kB\nReferenced:           16 kB\nSwap:                  0 kB\n' +
        'KernelPageSize:        4 kB\nMMUPageSize:           4 kB\n',
    ),
    smaps,
  );
});

function pagemap(m: Machine, pid: number, vpn: number, count: number): bigint[] {
  const buf = new Uint8Array(count * 8);
  assert.equal(open(m, `/proc/${pid}/pagemap`).read(buf, vpn * 8), count * 8);
  const view = new DataView(buf.buffer);
  return Array.from({ length: count }, (_, i) => view.getBigUint64(i * 8, true));
}

test('pagemap: present, empty, outside, zero page, migrating; offsets must be whole entries', () => {
  const { m, task } = machine_with_process();
  const shift = 12n << 55n;
  const present = (pfn: number): bigint => (1n << 63n) | shift | BigInt(pfn);
  const { pid } = task;
  assert.equal(read_tag(m, task, BASE + 5), 0);
  assert.deepEqual(pagemap(m, pid, BASE + 3, 4), [
    present(frame(task, BASE + 3)),
    0n,
    present(m.zero_pfn),
    0n,
  ]);
  assert.deepEqual(pagemap(m, pid, BASE + 8, 1), [shift]);
  const old = frame(task, BASE);
  let seen: bigint[] = [];
  m.other_cpu = () => {
    seen = pagemap(m, pid, BASE, 1);
  };
  migrate(m, [old]);
  m.other_cpu = null;
  assert.deepEqual(seen, [(1n << 62n) | shift | (BigInt(old) << 5n) | 31n]);
  assert.deepEqual(pagemap(m, pid, BASE, 1), [present(frame(task, BASE))]);
  const file = open(m, `/proc/${pid}/pagemap`);
  assert.equal(file.read(new Uint8Array(8), 4), -EINVAL);
  assert.equal(file.read(new Uint8Array(7), 0), -EINVAL);
  assert.equal(file.read(new Uint8Array(16), (2 ** 31 - 2) * 8), 8, 'the last page of user space');
  assert.equal(file.read(new Uint8Array(16), 2 ** 35), 0);
});

test('directories come and go; a file that is still open fails', () => {
  const { m, task } = machine_with_process();
  const { pid } = task;
  const status = open(m, `/proc/${pid}/status`);
  const node = find(m, `/proc/${pid}/pagemap`) as Vnode;
  assert.equal(node.getattr().mode & 0o777, 0o400);
  assert.equal(node.open(O_RDONLY, { uid: 1000, gid: 1000, pid: 0 }), -EACCES);
  const names = ((find(m, '/proc') as Vnode).readdir() as { name: string }[]).map((e) => e.name);
  assert.ok(names.includes(String(pid)));
  do_exit(m, task, 0);
  assert.equal(find(m, `/proc/${pid}`), -ENOENT);
  assert.equal(status.read(new Uint8Array(10), 0), -ESRCH);
});
