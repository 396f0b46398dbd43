/**
 * Kernel 6.1 as a whole: files of several times the memory, processes, swap, compaction and huge
 * pages, and that nothing is lost on the way.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { disk_mount, disk_root } from '../../src/fs/disk/index.ts';
import { compact_nodes } from '../../src/kernels/linux-6.1/compaction.ts';
import { set_node_huge_pages } from '../../src/kernels/linux-6.1/hugetlb.ts';
import { is_job, run_job } from '../../src/lib/kthread.ts';
import { SeqFile } from '../../src/lib/seq_file.ts';
import { advance_clock, boot, type MachineConfig } from '../../src/machine.ts';
import { MemoryBlockDevice } from '../../src/mm/block_device.ts';
import { debug_vm } from '../../src/mm/debug_vm.ts';
import type { Machine } from '../../src/mm/mmzone.ts';
import * as stat from '../../src/mm/vmstat.ts';
import { spawn_workload, verify_process } from '../../src/sim/workload.ts';
import { load_machine, save_machine, state_hash } from '../../src/snapshot.ts';
import { CHUNK, open, pattern, ROOT } from '../helpers/disk_files.ts';

const MIB = 2 ** 20;

function machine(config: MachineConfig): Machine {
  const m = boot({ kernel: '6.1', ...config });
  assert.ok(disk_mount(m, new MemoryBlockDevice(512 * MIB)) >= 0);
  return m;
}

function write_files(m: Machine, files: number, chunks: number, tick: boolean): void {
  const words = new Uint32Array(CHUNK / 4);
  const bytes = new Uint8Array(words.buffer);
  for (let f = 0; f < files; f++) {
    const file = open(disk_root(m).create(`f${f}`, 0o644, ROOT));
    for (let c = 0; c < chunks; c++) {
      pattern(words, f, c);
      const rc = file.write(bytes, c * CHUNK);
      assert.equal(is_job(rc) ? run_job(rc) : rc, CHUNK, `write of file ${f} chunk ${c}`);
      if (tick) run_job(advance_clock(m, 2));
    }
    file.release();
  }
}

function check_files(m: Machine, files: number, chunks: number, tick: boolean): void {
  const words = new Uint32Array(CHUNK / 4);
  const bytes = new Uint8Array(words.buffer);
  const got = new Uint8Array(CHUNK);
  for (let f = 0; f < files; f++) {
    const file = open(disk_root(m).lookup(`f${f}`));
    for (let c = 0; c < chunks; c++) {
      assert.equal(file.read(got, c * CHUNK), CHUNK, `read of file ${f} chunk ${c}`);
      pattern(words, f, c);
      assert.ok(Buffer.compare(got, bytes) === 0, `file ${f} chunk ${c} reads back wrong`);
      if (tick) run_job(advance_clock(m, 2));
    }
    file.release();
  }
}

test('files of three times the memory, kswapd keeping up', () => {
  const m = machine({ memory: 64 * MIB });
  write_files(m, 24, 64, true);
  debug_vm(m);
  check_files(m, 24, 64, true);
  debug_vm(m);
  assert.ok(m.vm_events[stat.KSWAPD_STEAL]! > 50_000, 'kswapd steals');
});

test('files of four times the memory, direct reclaim alone', () => {
  const m = machine({ memory: 64 * MIB });
  write_files(m, 32, 64, false);
  check_files(m, 32, 64, false);
  debug_vm(m);
  assert.ok(m.vm_events[stat.ALLOCSTALL_ZONE + 3]! > 0, 'direct reclaim');
});

test('processes of twice the memory, with swap, keep what they wrote', () => {
  const m = machine({ memory: 64 * MIB, swap: 128 * MIB });
  for (let i = 0; i < 4; i++) run_job(spawn_workload(m, `anon 32M name=p${i}`, () => -1));
  run_job(advance_clock(m, 1000));
  debug_vm(m);
  assert.ok(m.vm_events[stat.PSWPOUT]! > 10_000, 'pages went to swap');
  for (const task of m.tasks.values()) {
    if (task.mm !== null) assert.equal(verify_process(m, task).bad, 0);
  }
});

/** What a proc file prints. */
function cat(m: Machine, path: string): string {
  const seq = new SeqFile();
  const row = m.kernel.files.find((file) => file.path === path)!;
  row.show!(seq, m, { id: -1, object: null, caller: ROOT, pos: 0, data: null });
  return seq.text();
}

test('a fragmented machine gives huge pages after compaction, and no byte moves wrongly', () => {
  const m = machine({ memory: 128 * MIB });
  write_files(m, 24, 32, true);
  for (let f = 0; f < 24; f += 2) {
    const rc = disk_root(m).unlink(`f${f}`);
    assert.equal(is_job(rc) ? run_job(rc) : rc, 0);
  }
  const order9 = (): number => {
    const rows = cat(m, '/proc/buddyinfo').trim().split('\n');
    return rows.reduce((sum, row) => {
      const counts = row.trim().split(/ +/).slice(-2).map(Number);
      return sum + counts[0]! + 2 * counts[1]!;
    }, 0);
  };
  const before = order9();
  run_job(compact_nodes(m));
  debug_vm(m);
  assert.ok(order9() > before, `${order9()} free blocks of order 9, ${before} before`);
  assert.ok(m.vm_events[stat.PGMIGRATE_SUCCESS]! > 100);
  run_job(set_node_huge_pages(m, m.hstates[0]!, 8, 0));
  assert.equal(m.hstates[0]!.nr_huge_pages, 8);
  debug_vm(m);
  const words = new Uint32Array(CHUNK / 4);
  const got = new Uint8Array(CHUNK);
  for (let f = 1; f < 24; f += 2) {
    const file = open(disk_root(m).lookup(`f${f}`));
    for (let c = 0; c < 32; c++) {
      assert.equal(file.read(got, c * CHUNK), CHUNK);
      pattern(words, f, c);
      assert.ok(Buffer.compare(got, new Uint8Array(words.buffer)) === 0, `file ${f} chunk ${c}`);
    }
    file.release();
  }
});

test('the same seed gives the same machine, and a saved one goes on as it would have', () => {
  const run = (): Machine => {
    const m = machine({ memory: 64 * MIB, seed: 7 });
    write_files(m, 8, 32, true);
    run_job(compact_nodes(m));
    return m;
  };
  const m = run();
  assert.equal(state_hash(run()), state_hash(m));
  const copy = load_machine(save_machine(m));
  assert.equal(state_hash(copy), state_hash(m));
  for (const each of [m, copy]) {
    check_files(each, 8, 32, true);
    run_job(compact_nodes(each));
  }
  assert.equal(state_hash(copy), state_hash(m));
});
