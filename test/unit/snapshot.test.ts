/**
 * Saving, restoring, forking and hashing a whole machine: a restored machine goes on bit for bit
 * as the one that was saved would have.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { test } from 'node:test';
import type { Vnode } from '../../src/fs/vfs.ts';
import { compact_nodes } from '../../src/kernels/linux-2.6.35/compaction.ts';
import { KernelBug } from '../../src/lib/bug.ts';
import { type Job, run_job } from '../../src/lib/kthread.ts';
import {
  hash_snapshot,
  load_snapshot,
  SnapshotRegistry,
  save_snapshot,
} from '../../src/lib/snapshot.ts';
import { advance_clock, boot } from '../../src/machine.ts';
import { type BlockDevice, MemoryBlockDevice } from '../../src/mm/block_device.ts';
import { debug_vm } from '../../src/mm/debug_vm.ts';
import { create_process, run_as } from '../../src/mm/fork.ts';
import { write_tag } from '../../src/mm/memory.ts';
import type { Task } from '../../src/mm/mm_types.ts';
import { do_mmap, MAP_ANONYMOUS, MAP_PRIVATE } from '../../src/mm/mmap.ts';
import type { Machine } from '../../src/mm/mmzone.ts';
import { swap_device_bytes, swapon } from '../../src/mm/swap_state.ts';
import { PSWPIN, PSWPOUT } from '../../src/mm/vmstat.ts';
import { mount_root } from '../../src/mount_root.ts';
import { fork_machine, load_machine, save_machine, state_hash } from '../../src/snapshot.ts';

const caller = { uid: 0, gid: 0, pid: 0 };

function at(root: Vnode, path: string): Vnode {
  let node: Vnode | number = root;
  for (const name of path.split('/')) {
    assert.ok(typeof node !== 'number', `${path}: errno ${String(node)}`);
    node = node.lookup(name);
  }
  assert.ok(typeof node !== 'number', `${path}: errno ${String(node)}`);
  return node;
}

function write(node: Vnode, data: Uint8Array): void {
  const file = node.open(1, caller);
  assert.ok(typeof file !== 'number');
  const done = file.write(data, 0);
  assert.equal(typeof done === 'number' ? done : run_job(done), data.length);
  file.release();
}

/** Files, deleted files, processes that share pages, half of their memory given back. */
function work(m: Machine, from: number): void {
  const root = mount_root(m);
  const disk = at(root, 'disk');
  for (let i = from; i < from + 40; i++) {
    const node = disk.create(`f${i}`, 0o644, caller);
    assert.ok(typeof node !== 'number');
    write(node, new Uint8Array(200_000).fill(i));
  }
  for (let i = from; i < from + 40; i += 2) assert.equal(disk.unlink(`f${i}`), 0);
  const spawn = at(root, 'sys/kernel/debug/pageblock/spawn');
  write(spawn, Buffer.from('fork anon 8M children=2 cow=50'));
  write(spawn, Buffer.from('anon 16M pattern=every:2'));
  run_job(advance_clock(m, 700));
  run_job(compact_nodes(m));
}

const config = { memory: 128 * 2 ** 20, cpus: 2 };

test('the same configuration and inputs give the same state, byte for byte', () => {
  const a = boot({ ...config, disk: new MemoryBlockDevice(2 ** 28) });
  const b = boot({ ...config, disk: new MemoryBlockDevice(2 ** 28) });
  work(a, 0);
  work(b, 0);
  assert.equal(state_hash(a), state_hash(b));
});

test('a restored machine and a forked one go on as the original does', () => {
  const m = boot({ ...config, disk: new MemoryBlockDevice(2 ** 28) });
  work(m, 0);
  const restored = load_machine(save_machine(m));
  const forked = fork_machine(m);
  assert.equal(state_hash(restored), state_hash(m));
  for (const machine of [m, restored, forked]) {
    work(machine, 100);
    debug_vm(machine);
  }
  assert.equal(state_hash(restored), state_hash(m));
  assert.equal(state_hash(forked), state_hash(m));
});

/** A device that is not in the machine's state, as a host file is not. */
class OutsideDevice implements BlockDevice {
  readonly inner: MemoryBlockDevice;
  readonly size: number;

  constructor(size: number) {
    this.size = size;
    this.inner = new MemoryBlockDevice(size);
  }
  read(buf: Uint8Array, offset: number): number {
    return this.inner.read(buf, offset);
  }
  write(buf: Uint8Array, offset: number): number {
    return this.inner.write(buf, offset);
  }
  flush(): number {
    return 0;
  }
  discard(): void {}
}

test('what is swapped out to a host file is saved with the machine, and read back', () => {
  const swap = 96 * 2 ** 20;
  const outside = (): OutsideDevice => new OutsideDevice(swap_device_bytes(swap / 4096, 4096));
  const device = outside();
  const m = boot({ memory: 64 * 2 ** 20, swap, swap_device: device });
  const spawn = (machine: Machine, text: string): void =>
    write(at(mount_root(machine), 'sys/kernel/debug/pageblock/spawn'), Buffer.from(text));
  spawn(m, 'anon 100M name=large');
  const pid = m.spawn.pids[0]!;
  assert.ok(m.vm_events[PSWPOUT]! > 5000);
  const hash = state_hash(m);
  const saved = save_machine(m);
  const forked = fork_machine(m);
  const device2 = outside();
  const restored = load_machine(saved, [device2]);
  assert.equal(state_hash(restored), hash);
  assert.equal(state_hash(forked), hash);
  // The device of the first machine is of no use to the others.
  device.inner.read_error = 5;
  for (const machine of [forked, restored]) {
    spawn(machine, `pid=${pid} verify`);
    assert.ok(machine.vm_events[PSWPIN]! > 5000);
    debug_vm(machine);
  }
  assert.equal(state_hash(restored), state_hash(forked));
  assert.equal(restored.block_devices[0]!.device, device2);
  // A bit of what is swapped out is a bit of the state.
  device.inner.read_error = 0;
  device.write(Uint8Array.of(0xff), 4096 * 5000);
  assert.notEqual(state_hash(m), hash);
});

test('one changed bit anywhere changes the hash', () => {
  const m = boot(config);
  const before = state_hash(m);
  m.memmap.index[12345]! ^= 1;
  assert.notEqual(state_hash(m), before);
  m.memmap.index[12345]! ^= 1;
  assert.equal(state_hash(m), before);
  m.populated_zones[0]!.compact_considered++;
  assert.notEqual(state_hash(m), before);
});

test('snapshots keep cycles, sharing, views of one buffer and odd numbers', () => {
  class Node {
    next: Node | null = null;
    values = [0, -0, 2 ** 40, Number.NaN, 'ü€', 10n ** 20n, undefined, null, true];
  }
  const buffer = new SharedArrayBuffer(10_000);
  const node = new Node();
  node.next = node;
  const root = {
    node,
    again: node,
    map: new Map<unknown, unknown>([[node, new Set([1, 'x'])]]),
    bytes: new Uint8Array(buffer, 100, 50),
    words: new Int32Array(buffer, 0, 60),
  };
  root.bytes[3] = 77;
  const registry = new SnapshotRegistry().add_class(Node);
  const saved = save_snapshot(root, registry);
  const back = load_snapshot<typeof root>(saved, registry);
  assert.equal(back.node.next, back.node);
  assert.equal(back.again, back.node);
  assert.ok(back.node instanceof Node);
  assert.deepEqual(back.node.values, node.values);
  assert.ok(back.map.get(back.node) instanceof Set);
  assert.equal(back.bytes[3], 77);
  assert.equal(back.bytes.buffer, back.words.buffer);
  assert.ok(back.bytes.buffer instanceof SharedArrayBuffer);
  assert.equal(hash_snapshot(back, registry), hash_snapshot(root, registry));
});

test('what is not data is refused by name', () => {
  class Unknown {}
  const registry = new SnapshotRegistry();
  assert.throws(() => save_snapshot({ x: new Unknown() }, registry), /Unknown/);
  assert.throws(() => save_snapshot({ hook: () => 0 }, registry), KernelBug);
});

test('6.1: a machine saved in the middle of kswapd goes on as the one that was not', () => {
  const m = boot({ kernel: '6.1', memory: 64 * 2 ** 20, seed: 5 });
  swapon(m, '/dev/sda2', 16385);
  m.sysctl['overcommit_memory'] = 1;
  const task = create_process(m, 'hog') as Task;
  const vpn = do_mmap(m, task.mm!, null, 0, 20000, 3, MAP_PRIVATE | MAP_ANONYMOUS);
  let touched = 0;
  const touch = (machine: Machine, who: Task, count: number): void => {
    for (let i = 0; i < count && touched < 20000; i++) {
      run_as(machine, who, () => write_tag(machine, who, vpn + touched, touched + 1));
      touched++;
    }
  };
  // Until kswapd is woken and has more than one step to do; its job is stopped after the first.
  let job: Job;
  for (;;) {
    assert.ok(touched < 20000, 'kswapd always slept after one step');
    touch(m, task, 10);
    if (!m.nodes[0]!.kswapd_woken) continue;
    job = m.kernel.kswapd_tick!(m);
    if (job.next().done === false) break;
  }
  assert.notEqual(m.nodes[0]!.kswapd_run, null);
  const saved = fork_machine(m);
  assert.equal(state_hash(saved), state_hash(m));
  run_job(job);
  run_job(saved.kernel.kswapd_tick!(saved));
  assert.equal(saved.nodes[0]!.kswapd_run, null);
  assert.equal(state_hash(saved), state_hash(m));
});

test('a machine is not saved while a compaction holds pages', () => {
  const m = boot({ memory: 64 * 2 ** 20 });
  const job = compact_nodes(m);
  assert.equal(job.next().done, false);
  assert.throws(() => save_machine(m), /while a job of it holds pages/);
  run_job(job);
  assert.equal(state_hash(load_machine(save_machine(m))), state_hash(m));
});

test('the objects of a restored machine are as fast as those of a booted one', () => {
  const machine = new URL('../../src/machine.js', import.meta.url).href;
  const snapshot = new URL('../../src/snapshot.js', import.meta.url).href;
  const script = `
    import { boot } from '${machine}';
    import { load_machine, save_machine } from '${snapshot}';
    const m = boot({ memory: 2 ** 27, cpus: 2, swap: 2 ** 26 });
    const loaded = load_machine(save_machine(m));
    const objects = (m) => [m, m.memmap, m.contents, m.clock, m.slab, ...m.zones, ...m.nodes,
      ...m.populated_zones[0].pageset, ...m.block_devices, ...m.slab.caches, ...m.swap_info];
    const slow = objects(loaded).filter((x) => x !== undefined && !%HasFastProperties(x));
    console.log(objects(loaded).length, slow.map((x) => x.constructor.name).join());`;
  const args = ['--allow-natives-syntax', '--input-type=module', '-e', script];
  const out = execFileSync(process.execPath, args, { encoding: 'utf8' });
  assert.match(out, /^\d{2,} \n$/);
});
