/** The disk file system holds four times the memory, and gives back what was written. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { disk_mount, disk_of, disk_root } from '../../src/fs/disk/index.ts';
import { is_job, run_job } from '../../src/lib/kthread.ts';
import { advance_clock, boot, type MachineConfig } from '../../src/machine.ts';
import { MemoryBlockDevice } from '../../src/mm/block_device.ts';
import { debug_vm } from '../../src/mm/debug_vm.ts';
import type { Machine } from '../../src/mm/mmzone.ts';
import {
  ALLOCSTALL,
  KSWAPD_INODESTEAL,
  KSWAPD_STEAL,
  PAGEOUTRUN,
  PGINODESTEAL,
  PGSTEAL,
} from '../../src/mm/vmstat.ts';
import { CHUNK, open, pattern, ROOT } from '../helpers/disk_files.ts';

const MIB = 2 ** 20;

function steals(m: Machine): number {
  let sum = m.vm_events[KSWAPD_INODESTEAL]! + m.vm_events[PGINODESTEAL]!;
  for (let z = 0; z < m.shape.zone_names.length; z++) sum += m.vm_events[PGSTEAL + z]!;
  return sum;
}

/** Writes `files` files of `chunks` chunks, reads them all. `tick`: the clock moves in between. */
function fill_and_read(
  config: MachineConfig,
  files: number,
  chunks: number,
  tick: boolean,
): Machine {
  const m = boot(config);
  if (disk_of(m) === null) assert.ok(disk_mount(m, new MemoryBlockDevice(512 * MIB)) >= 0);
  const root = disk_root(m);
  const words = new Uint32Array(CHUNK / 4);
  const bytes = new Uint8Array(words.buffer);
  const got = new Uint8Array(CHUNK);
  for (let f = 0; f < files; f++) {
    const node = root.create(`f${f}`, 0o644, ROOT);
    assert.ok(typeof node !== 'number', `create: ${node}`);
    const file = open(node);
    for (let c = 0; c < chunks; c++) {
      pattern(words, f, c);
      const rc = file.write(bytes, c * CHUNK);
      assert.equal(is_job(rc) ? run_job(rc) : rc, CHUNK, `write of file ${f} chunk ${c}`);
      if (tick) run_job(advance_clock(m, 2));
    }
    file.release();
    node.forget();
  }
  debug_vm(m);
  for (let f = 0; f < files; f++) {
    const node = root.lookup(`f${f}`);
    assert.ok(typeof node !== 'number', 'lookup failed');
    const file = open(node);
    for (let c = 0; c < chunks; c++) {
      assert.equal(file.read(got, c * CHUNK), CHUNK, `read of file ${f} chunk ${c}`);
      pattern(words, f, c);
      assert.ok(Buffer.compare(got, bytes) === 0, `file ${f} chunk ${c} reads back wrong`);
      if (tick) run_job(advance_clock(m, 2));
    }
    file.release();
    node.forget();
  }
  debug_vm(m);
  return m;
}

test('files of four times the memory: kswapd keeps up while the clock moves', () => {
  const m = fill_and_read({ memory: 64 * MIB }, 32, 64, true);
  assert.ok(m.vm_events[KSWAPD_STEAL]! > 50_000, 'kswapd steals');
  assert.ok(m.vm_events[PAGEOUTRUN]! > 50, 'kswapd runs');
  assert.ok(m.vm_events[ALLOCSTALL]! < 50, `direct reclaim: ${m.vm_events[ALLOCSTALL]}`);
  assert.ok(steals(m) > 100_000, `stolen: ${steals(m)}`);
});

test('files of four times the memory: direct reclaim alone', () => {
  const m = fill_and_read({ memory: 64 * MIB }, 32, 64, false);
  assert.ok(m.vm_events[ALLOCSTALL]! > 1000, 'direct reclaim');
  assert.ok(steals(m) > 100_000, `stolen: ${steals(m)}`);
});

test('files of four times the memory: small files, inodes and names go too', () => {
  const m = fill_and_read({ memory: 64 * MIB, compaction: false }, 2048, 1, true);
  assert.ok(m.vm_events[KSWAPD_INODESTEAL]! > 0, 'kswapd_inodesteal');
});

test('files of four times the memory: HighMem and two nodes', () => {
  fill_and_read({ memory: 64 * MIB, machine: 'x86' }, 32, 64, true);
  fill_and_read({ memory: 128 * MIB, nodes: 2, cpus: 2 }, 56, 64, true);
});
