/** What `spawn` accepts, and the files that steer a machine. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { disk_root } from '../../src/fs/disk/index.ts';
import { O_RDWR, type OpenFile, type Vnode } from '../../src/fs/vfs.ts';
import { compact_nodes } from '../../src/kernels/linux-2.6.35/compaction.ts';
import { EINVAL, EIO, ENOENT, ENOMEM, ESRCH } from '../../src/lib/errno.ts';
import { is_job, run_job } from '../../src/lib/kthread.ts';
import { advance_clock } from '../../src/machine.ts';
import { MemoryBlockDevice } from '../../src/mm/block_device.ts';
import { debug_vm } from '../../src/mm/debug_vm.ts';
import { do_exit_job, is_alive, kill_process } from '../../src/mm/fork.ts';
import { ksm_state_of } from '../../src/mm/ksm_def.ts';
import { lru_add_drain_all } from '../../src/mm/lru.ts';
import { read_tag, write_tag } from '../../src/mm/memory.ts';
import { MM_ANONPAGES, type Task } from '../../src/mm/mm_types.ts';
import { type Machine, page_zone } from '../../src/mm/mmzone.ts';
import { PageActive, PageSwapBacked } from '../../src/mm/page.ts';
import { global_page_state, NR_MLOCK, NR_SHMEM } from '../../src/mm/vmstat.ts';
import { mount_root } from '../../src/mount_root.ts';
import { open_for_map } from '../../src/sim/open_for_map.ts';
import {
  parse_size,
  spawn_workload,
  verify_process,
  workload_tag,
} from '../../src/sim/workload.ts';
import { fork_machine, state_hash } from '../../src/snapshot.ts';
import { frame, MIB, migrate, small_machine } from './process_machine.ts';

const ROOT = { uid: 0, gid: 0, pid: 0 };
const DIR = 'sys/kernel/debug/pageblock';

function control(m: Machine, name: string): OpenFile {
  let node: Vnode | number = mount_root(m);
  for (const part of `${DIR}/${name}`.split('/')) node = (node as Vnode).lookup(part);
  const file = (node as Vnode).open(O_RDWR, ROOT);
  assert.ok(typeof file !== 'number');
  return file;
}

function write(file: OpenFile, text: string): number {
  const result = file.write(new TextEncoder().encode(text), 0);
  return is_job(result) ? run_job(result) : result;
}

function read(file: OpenFile): string {
  const buf = new Uint8Array(65536);
  return Buffer.from(buf.subarray(0, file.read(buf, 0))).toString('latin1');
}

/** Spawns and returns the processes. */
function spawn(m: Machine, text: string): Task[] {
  assert.equal(run_job(spawn_workload(m, text, open_for_map)), 0, m.spawn.error);
  return m.spawn.pids.map((pid) => m.tasks.get(pid)!);
}

const anon_pages = (task: Task): number => task.mm!.rss_stat[MM_ANONPAGES]! - 1; // less the stack

test('sizes', () => {
  const m = small_machine();
  for (const [text, pages] of [
    ['4096', 1],
    ['4097', 2],
    ['64K', 16],
    ['16M', 4096],
    ['1G', 262144],
    ['300p', 300],
    ['0', 0],
    ['', -1],
    ['M', -1],
    ['1.5M', -1],
    ['-4K', -1],
  ] as const) {
    assert.equal(parse_size(m, text), pages, text);
  }
});

for (const [text, left] of [
  ['anon 100p', 100],
  ['anon 100p pattern=every:2', 50],
  ['anon 100p pattern=every:3', 67],
  ['anon 100p pattern=runs:30', 60],
  ['anon 100p pattern=low:25', 75],
  ['anon 100p pattern=high:40', 60],
  ['anon 100p pattern=all', 0],
  ['anon 100p + free every:2', 50],
  ['heap 10p + anon 5p', 15],
  ['read 50p', 0],
  ['mlock 20p name=locked node=0', 20],
  ['anon 10p + exec + anon 3p', 3],
  ['anon 10p pattern=every:2 + write + verify', 5],
  ['anon 4p + kernel 3 order=2', 4],
] as const) {
  test(`spawn '${text}' leaves ${left} pages`, () => {
    const m = small_machine();
    const [task] = spawn(m, text);
    assert.equal(anon_pages(task!), left);
    assert.equal(verify_process(m, task!).bad, 0);
    debug_vm(m);
  });
}

test('fork, children, cow: who shares what', () => {
  const m = small_machine();
  const [parent, ...children] = spawn(m, 'fork anon 100p children=3 cow=50 name=family');
  assert.equal(children.length, 3);
  assert.equal(parent!.comm, 'family');
  for (const child of children) {
    assert.equal(child.ppid, parent!.pid);
    assert.deepEqual(verify_process(m, child), { checked: 100, bad: 0, first_bad: -1 });
    const vpn = child.mm!.mmap[0]!.vm_start;
    let own = 0;
    for (let i = 0; i < 100; i++) if (frame(child, vpn + i) !== frame(parent!, vpn + i)) own++;
    assert.equal(own, 50);
  }
  debug_vm(m);
});

test('shared: children see the same pages, which are on the inactive anonymous list', () => {
  const m = small_machine();
  const promised = m.vm_committed_as;
  const [parent, child] = spawn(m, 'fork shared 100p cow=50 pattern=every:4');
  const vpn = parent!.mm!.mmap[0]!.vm_start;
  assert.deepEqual([...parent!.mm!.rss_stat], [75, 1, 0]);
  assert.equal(global_page_state(m, NR_SHMEM), 100);
  assert.equal(write_tag(m, child!, vpn, workload_tag(child!.pid, vpn)), 0);
  assert.equal(frame(child!, vpn), frame(parent!, vpn));
  assert.equal(read_tag(m, parent!, vpn), workload_tag(child!.pid, vpn));
  // Given back by one process, it is still there: shared memory lasts as long as its mappings.
  assert.equal(read_tag(m, parent!, vpn + 3), workload_tag(parent!.pid, vpn + 3));
  lru_add_drain_all(m);
  const pfn = frame(parent!, vpn);
  assert.ok(PageSwapBacked(m.memmap, pfn) && !PageActive(m.memmap, pfn));
  debug_vm(m);
  const moved = frame(parent!, vpn);
  assert.equal(migrate(m, [moved]), 0);
  assert.notEqual(frame(parent!, vpn), moved);
  assert.equal(frame(parent!, vpn), frame(child!, vpn));
  for (const task of [parent!, child!]) assert.equal(verify_process(m, task).bad, 0);
  debug_vm(m);
  kill_process(m, parent!.pid);
  assert.equal(global_page_state(m, NR_SHMEM), 100);
  kill_process(m, child!.pid);
  assert.equal(global_page_state(m, NR_SHMEM), 0);
  assert.equal(m.vm_committed_as, promised);
  debug_vm(m);
});

test('verify finds a page that holds something else, also another process page', () => {
  const m = small_machine();
  const [a, b] = spawn(m, 'anon 10p count=2');
  const vpn = a!.mm!.mmap[0]!.vm_start;
  m.contents.copy_page(frame(b!, vpn + 4), frame(a!, vpn + 4));
  assert.deepEqual(verify_process(m, a!), { checked: 10, bad: 1, first_bad: vpn + 4 });
  const run = (text: string): number => run_job(spawn_workload(m, text, open_for_map));
  assert.equal(run(`verify pid=${a!.pid}`), -EIO);
  assert.match(m.spawn.error, /^verify: 1 of 10 pages are wrong/);
  assert.equal(run(`verify pid=${b!.pid}`), 0);
  assert.deepEqual(m.spawn.pids, [b!.pid]);
  // Writing again mends it.
  assert.equal(run(`write pid=${a!.pid}`), 0);
  assert.equal(run(`verify pid=${a!.pid}`), 0);
});

test('contents survive loops of compaction', () => {
  const m = small_machine({ memory: 128 * MIB });
  const tasks = spawn(m, 'fork anon 16M children=2 cow=30 pattern=random:40 seed=5');
  tasks.push(...spawn(m, 'mlock 1M'), ...spawn(m, 'anon 20M pattern=every:2'));
  for (let round = 0; round < 3; round++) {
    run_job(compact_nodes(m));
    for (const task of tasks) assert.equal(verify_process(m, task).bad, 0);
    debug_vm(m);
    tasks.push(...spawn(m, `anon 2M pattern=runs:${5 + round}`));
  }
  assert.ok(m.vm_events.length > 0 && global_page_state(m, NR_MLOCK) === 256);
});

test('node= and policy= place the pages', () => {
  const m = small_machine({ memory: 256 * MIB, nodes: 2, cpus: 2 });
  const nid = (task: Task, i: number): number =>
    page_zone(m, frame(task, task.mm!.mmap[0]!.vm_start + i)).nid;
  const [bound] = spawn(m, 'anon 20p node=1');
  const [spread] = spawn(m, 'anon 20p policy=interleave');
  for (let i = 0; i < 20; i++) assert.equal(nid(bound!, i), 1);
  const nodes = Array.from({ length: 20 }, (_, i) => nid(spread!, i));
  assert.equal(nodes.filter((n) => n === 1).length, 10);
  const [local] = spawn(m, 'anon 20p cpu=1');
  assert.equal(nid(local!, 3), 1);
  assert.equal(m.this_cpu, 0);
});

test('map: files of the disk, read, private, shared', () => {
  const m = small_machine({ disk: new MemoryBlockDevice(16 * MIB) });
  const file = (disk_root(m).create('f', 0o644, ROOT) as Vnode).open(O_RDWR, ROOT) as OpenFile;
  file.write(new Uint8Array(65536).fill(3), 0);
  const [a] = spawn(m, 'map /disk/f + map /f 16K mode=private + map /f mode=shared');
  assert.deepEqual([...a!.mm!.rss_stat], [32, 5, 0]);
  debug_vm(m);
  run_job(compact_nodes(m));
  debug_vm(m);
  const run = (text: string): number => run_job(spawn_workload(m, text, open_for_map));
  assert.equal(run('map /disk/none'), -ENOENT);
  assert.equal(run('map /f mode=x'), -EINVAL);
  const tasks = m.tasks.size;
  assert.equal(tasks, 1, 'what failed left no process');
  kill_process(m, a!.pid);
  debug_vm(m);
});

for (const [text, message] of [
  ['', /nothing to do/],
  ['anon', /anon: a size is missing/],
  ['anon 5X', /anon: '5X' is not a size/],
  ['anon 0', /is not a size/],
  ['anon 4K 5K', /'5K' is too much/],
  ['dance 4K', /unknown step 'dance'/],
  ['anon 4K colour=red', /unknown option 'colour'/],
  ['anon 4K pattern=every:0', /is no pattern/],
  ['anon 4K pattern=random:101', /is no pattern/],
  ['anon 4K node=7', /node=7/],
  ['anon 4K policy=best', /policy=best/],
  ['fork anon 4K children=x', /children=x/],
  ['kernel 2 order=44', /order=44/],
  ['write', /the process has no memory yet/],
] as const) {
  test(`spawn '${text}' is refused with a reason`, () => {
    const m = small_machine();
    const file = control(m, 'spawn');
    assert.equal(write(file, text + '\n'), -EINVAL);
    assert.match(read(file), message);
    assert.equal(m.tasks.size, 0);
    assert.match(read(control(m, 'status')), message);
  });
}

test('spawn, processes and kill as files', () => {
  const m = small_machine();
  const file = control(m, 'spawn');
  assert.match(read(file), /^# Write a line here/);
  assert.equal(write(file, 'fork anon 1M children=2\n'), 24);
  assert.equal(read(file), '300\n301\n302\n');
  assert.equal(read(control(m, 'spawn')), '300\n301\n302\n');
  const rows = read(control(m, 'processes')).trim().split('\n');
  assert.deepEqual(rows[1]!.trim().split(/\s+/), [
    '300',
    '1',
    '1156',
    '1028',
    '0',
    '0',
    '256',
    '0',
    'anon',
  ]);
  assert.equal(rows.length, 4);
  const kill = control(m, 'kill');
  assert.equal(write(kill, '301 999\n'), -ESRCH, 'all of them or none');
  assert.equal(m.tasks.size, 3);
  assert.equal(write(kill, 'x\n'), -EINVAL);
  assert.equal(write(kill, '301 300\n'), 8);
  assert.deepEqual([...m.tasks.keys()], [302]);
  assert.equal(m.tasks.get(302)!.ppid, 1);
  assert.match(read(control(m, 'status')), /^kernel: 2\.6\.35\nmachine: x86_64, 1 node, 1 CPU,/);
  debug_vm(m);
});

test('too much memory: the process is ended, the rest of the machine is whole', () => {
  const m = small_machine();
  m.sysctl['overcommit_memory'] = 1;
  const [small] = spawn(m, 'anon 1M');
  assert.equal(run_job(spawn_workload(m, 'anon 200M', open_for_map)), -ENOMEM);
  assert.match(m.spawn.error, /./);
  assert.equal(m.tasks.has(small!.pid) ? verify_process(m, small!).bad : 0, 0);
  assert.ok(m.tasks.size <= 1);
  debug_vm(m);
  spawn(m, 'anon 8M');
});

test('killing a big process pauses in between, and frees as exit does', () => {
  const free_lists = (slowly: boolean): unknown => {
    const m = small_machine();
    const [task] = spawn(m, 'anon 12M + mlock 3M + shared 1M');
    if (slowly) {
      const job = do_exit_job(m, task!, 9);
      let pauses = 0;
      while (job.next().done !== true) {
        pauses++;
        debug_vm(m);
        assert.ok(!is_alive(m, task!));
      }
      assert.ok(pauses > 8, `${pauses} pauses`);
    } else kill_process(m, task!.pid);
    assert.equal(m.tasks.size, 0);
    debug_vm(m);
    // Per-CPU lists and free lists, in their order.
    return [[...m.memmap.next], [...m.vm_events]];
  };
  assert.deepEqual(free_lists(true), free_lists(false));
});

test('a process that is killed while its workload runs ends the workload', () => {
  const m = small_machine();
  const job = spawn_workload(m, 'anon 8M', open_for_map);
  job.next();
  assert.equal(kill_process(m, 300), 0);
  assert.equal(run_job(job), -ESRCH);
  assert.equal(m.tasks.size, 0);
  debug_vm(m);
});

test('processes with mapped files and shared memory are saved, restored and go on', () => {
  const m = small_machine({ disk: new MemoryBlockDevice(16 * MIB) });
  const file = (disk_root(m).create('f', 0o644, ROOT) as Vnode).open(O_RDWR, ROOT) as OpenFile;
  file.write(new Uint8Array(65536).fill(3), 0);
  file.release();
  spawn(m, 'fork shared 1M + map /f + map /f mode=private + anon 100p children=2 cow=30');
  const copy = fork_machine(m);
  assert.equal(state_hash(copy), state_hash(m));
  for (const machine of [m, copy]) {
    run_job(compact_nodes(machine));
    for (const task of machine.tasks.values()) assert.equal(verify_process(machine, task).bad, 0);
    for (const pid of [...machine.tasks.keys()]) kill_process(machine, pid);
    assert.equal(global_page_state(machine, NR_SHMEM), 0);
    debug_vm(machine);
  }
  assert.equal(state_hash(copy), state_hash(m));
});

test('same: processes hold equal contents, which KSM merges and verify knows', () => {
  const m = small_machine();
  const tasks = spawn(m, 'anon 100p same=25 merge=1 count=3');
  ksm_state_of(m).run = 1;
  lru_add_drain_all(m);
  for (let i = 0; i < 100; i++) run_job(advance_clock(m, 10));
  assert.equal(ksm_state_of(m).pages_shared, 25);
  assert.equal(ksm_state_of(m).pages_sharing, 275);
  debug_vm(m);
  for (const task of tasks) assert.equal(verify_process(m, task).bad, 0);
  const [child] = spawn(m, `fork write pid=${tasks[0]!.pid} cow=50`);
  for (const task of m.tasks.values()) assert.equal(verify_process(m, task).bad, 0);
  assert.ok(child !== undefined);
  const at = tasks[1]!.mm!.mmap[0]!.vm_start;
  assert.equal(write_tag(m, tasks[1]!, at, 0xffff0000 + ((at + 1) % 25)), 0);
  assert.equal(verify_process(m, tasks[1]!).bad, 1);
  assert.equal(
    run_job(spawn_workload(m, `write same=7 pid=${tasks[2]!.pid}`, open_for_map)),
    -EINVAL,
  );
});
