/** What the builds of a kernel stand on: time that reading takes, blocks that a journal holds, trees. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type DiskVnode, disk_of, disk_root } from '../../src/fs/disk/index.ts';
import { O_WRONLY, type OpenFile } from '../../src/fs/vfs.ts';
import { boot } from '../../src/machine.ts';
import { MemoryBlockDevice } from '../../src/mm/block_device.ts';
import type { Machine } from '../../src/mm/mmzone.ts';
import { global_page_state, NR_WRITEBACK } from '../../src/mm/vmstat.ts';
import { Reads } from '../../src/sim/workloads/disk_time.ts';
import { Journal } from '../../src/sim/workloads/journal.ts';
import { first_file, KERNEL_TREE } from '../../src/sim/workloads/kernel_tree.ts';
import { boot_for_experiment, SHELL } from '../../src/sim/workloads/prepare.ts';
import { type Process, Scheduler } from '../../src/sim/workloads/scheduler.ts';

const MIB = 2 ** 20;
const ROOT = { uid: 0, gid: 0, pid: 1 };
const SPEED = { bytes_per_ms: 4096, ms_per_read: 5, ms_per_write: 1 };

function machine(): Machine {
  return boot({ memory: 64 * MIB, disk: new MemoryBlockDevice(64 * MIB) });
}

test('reading takes a seek and the bytes, one reader after the other, and nothing from the cache', () => {
  const m = machine();
  const q = m.block_devices[0]!;
  const reads = new Reads(m, SPEED);
  reads.begin();
  assert.equal(reads.wait(), 0);
  const once = (): number => {
    reads.begin();
    q.reads++;
    q.read_bytes += 8192;
    return reads.wait();
  };
  assert.equal(once(), 7);
  // The next one waits for the arm.
  assert.equal(once(), 14);
  m.clock.now_ms += 100;
  assert.equal(once(), 7);
});

const held = (m: Machine): number => m.buffer_heads.b_count.reduce((sum, n) => sum + n, 0);

/** Lets a process go on until it sleeps, and returns for how long. */
function until_asleep(process: Process): number {
  for (;;) {
    const { done, value } = process.next();
    if (done || value < 0) return -(value ?? 0);
  }
}

test('the journal holds the blocks that a new name changes until it commits', () => {
  const m = machine();
  const fs = disk_of(m)!;
  const journal = new Journal(new Scheduler(m));
  const root = disk_root(m) as DiskVnode;
  const node = root.create('a', 0o644, ROOT) as DiskVnode;
  const before = held(m);
  journal.name(root, node);
  // Directory, inode table (both inodes are in one block of it), two bitmaps.
  assert.equal(fs.inode_table_block(node.inode.ino), fs.inode_table_block(root.inode.ino));
  assert.equal(held(m), before + 4);
  // Once in a transaction is enough.
  journal.name(root, node);
  assert.equal(held(m), before + 4);
  const kjournald = journal.kjournald();
  until_asleep(kjournald);
  m.clock.now_ms += 4999;
  until_asleep(kjournald);
  assert.equal(held(m), before + 4, 'too young');
  m.clock.now_ms += 1;
  until_asleep(kjournald);
  assert.equal(held(m), before);
});

test('a commit writes the data and drops its heads, and nobody changes metadata while the log is written', () => {
  const m = machine();
  const s = new Scheduler(m);
  const journal = new Journal(s);
  const node = disk_root(m).create('a', 0o644, ROOT) as DiskVnode;
  const file = node.open(O_WRONLY, ROOT) as OpenFile;
  const before_changes = held(m);
  let heads = 0;
  let freed = 0;
  m.trace.kmem_cache_alloc.subscribe(() => heads++);
  const buf = new Uint8Array(4096);
  for (let b = 0; b < 100; b++) {
    file.write(buf, b * 4096);
    const before = heads;
    journal.data(node);
    assert.ok(heads > before, 'a head for each page');
  }
  // Inodes of many blocks of the inode table, so that writing the log takes long.
  const root = disk_root(m) as DiskVnode;
  for (let i = 0; i < 4000; i++) journal.name(root, root.create(`f${i}`, 0o644, ROOT) as DiskVnode);
  m.trace.kmem_cache_free.subscribe(() => freed++);
  const all = held(m);
  assert.ok(all - before_changes > 100, `${all - before_changes} blocks`);
  assert.equal(journal.access().next().done, true, 'nobody waits before the commit');

  journal.commit_now();
  s.start(journal.kjournald());
  // Who changes metadata never runs while a part of the log is written; an onlooker does.
  let changes_during = 0;
  let looks_during = 0;
  let changes_after = 0;
  // Buffers that were looked up last, and those of bitmaps, stay held beside the journal's.
  const few = before_changes + 8;
  const in_the_middle = (): boolean => held(m) < all && held(m) > few;
  function* writer(): Process {
    for (;;) {
      yield* journal.access();
      if (in_the_middle()) changes_during++;
      else if (held(m) <= few) changes_after++;
      yield 0.1;
    }
  }
  function* onlooker(): Process {
    for (;;) {
      if (in_the_middle()) {
        looks_during++;
        assert.equal(global_page_state(m, NR_WRITEBACK), 0, 'the log before the data');
      }
      yield 0.1;
    }
  }
  s.start(writer());
  s.start(onlooker());
  const limit = m.clock.now_ms + 60_000;
  s.run(() => changes_after > 0 || m.clock.now_ms > limit);
  assert.ok(changes_after > 0, 'the commit never ended');
  assert.ok(looks_during > 5, `${looks_during} looks`);
  assert.equal(changes_during, 0);
  assert.ok(!m.writeback.b_dirty.has(node.inode.mapping!.id), 'data is not written');
  assert.ok(freed >= 100, `${freed} heads freed`);
});

test('a tree: every file belongs to a directory, 3.4 blocks each', () => {
  let files = 0;
  for (let d = 0; d < KERNEL_TREE.dirs; d++) {
    const nr = first_file(KERNEL_TREE, d + 1) - first_file(KERNEL_TREE, d);
    assert.ok(nr === 17 || nr === 18);
    files += nr;
  }
  assert.equal(files, KERNEL_TREE.files);
  let of_1000 = 0;
  let blocks = 0;
  for (const { files: n, from, to } of KERNEL_TREE.sizes) {
    of_1000 += n;
    blocks += (n * (from + to)) / 2;
  }
  assert.equal(of_1000, 1000);
  // 412 MB, and half a block more for each file.
  const mean = blocks / 1000;
  assert.ok(Math.abs(mean - (412e6 / KERNEL_TREE.files / 4096 + 0.5)) < 0.2, `${mean} blocks`);
});

test('on 32 bits a program has half of the variables, and the same text and stack', () => {
  const program = (machine: 'x86' | 'x86_64') =>
    boot_for_experiment({
      machine,
      compaction: true,
      seed: 1,
      memory: 128 * MIB,
      swap: 0,
      daemons: 0,
    }).shell.image.program;
  assert.deepEqual(program('x86_64'), SHELL);
  const { data, bss, heap } = SHELL;
  const halves = { data: Math.ceil(data / 2), bss: Math.ceil(bss / 2), heap: Math.ceil(heap / 2) };
  assert.deepEqual(program('x86'), { ...SHELL, ...halves });
});
