/**
 * A machine that is always more than full: processes with several times its memory, files that do
 * not fit beside them, kernel allocations of every order and mask, a huge page pool that grows and
 * shrinks, with and without swap. kswapd, compaction and the pool are suspended at their yields while
 * the rest goes on, and processes are killed when
 * nothing else helps. What a process or a file holds must be what was written last, as long as it
 * lives; debug_vm recomputes the rest. At the end nearly all memory must be free again.
 */
import assert from 'node:assert/strict';
import { disk_mount, disk_of, disk_root } from '../../src/fs/disk/index.ts';
import { O_RDWR, type OpenFile, type Vnode } from '../../src/fs/vfs.ts';
import { is_job, type Job, run_job, settle } from '../../src/lib/kthread.ts';
import { advance_clock, boot, type MachineConfig } from '../../src/machine.ts';
import { MemoryBlockDevice } from '../../src/mm/block_device.ts';
import { debug_vm } from '../../src/mm/debug_vm.ts';
import { create_process, do_exit, do_fork, run_as } from '../../src/mm/fork.ts';
import {
  __GFP_COMP,
  __GFP_NORETRY,
  __GFP_REPEAT,
  GFP_ATOMIC,
  GFP_HIGHUSER_MOVABLE,
  GFP_KERNEL,
  GFP_NOFS,
  GFP_NOIO,
} from '../../src/mm/gfp.ts';
import { lru_add_drain_all } from '../../src/mm/lru.ts';
import { do_mlock } from '../../src/mm/madvise.ts';
import { read_tag, write_tag } from '../../src/mm/memory.ts';
import type { Task } from '../../src/mm/mm_types.ts';
import {
  do_mmap,
  do_mmap_hugetlb,
  do_munmap,
  MAP_ANONYMOUS,
  MAP_PRIVATE,
} from '../../src/mm/mmap.ts';
import type { Machine } from '../../src/mm/mmzone.ts';
import { swapon } from '../../src/mm/swap_state.ts';
import { drop_pagecache } from '../../src/mm/truncate.ts';
import { global_page_state, NR_FREE_PAGES } from '../../src/mm/vmstat.ts';
import { compact_node, set_max_huge_pages } from '../helpers/kernels.ts';
import type { Model, ModelOptions } from './model.ts';
import { Random } from './random.ts';

const MIB = 2 ** 20;

export interface Pressure {
  config: MachineConfig;
  /** Pages of swap; 0: none. */
  swap: number;
  zone_reclaim: number;
  /** Share of memory that processes hold, beside nearly all of swap; 0.75 by default. */
  share?: number;
}

const SHAPES: Record<string, Pressure> = {
  swap: { config: { memory: 64 * MIB }, swap: 16384, zone_reclaim: 0 },
  'no-swap': { config: { memory: 64 * MIB, cpus: 2 }, swap: 0, zone_reclaim: 0 },
  vanilla: { config: { memory: 64 * MIB, compaction: false }, swap: 4096, zone_reclaim: 0 },
  x86: { config: { memory: 72 * MIB, machine: 'x86' }, swap: 8192, zone_reclaim: 0 },
  nodes: { config: { memory: 136 * MIB, nodes: 2, cpus: 2 }, swap: 16384, zone_reclaim: 7 },
  '6.1-swap': { config: { kernel: '6.1', memory: 64 * MIB }, swap: 16384, zone_reclaim: 0 },
  '6.1-no-swap': { config: { kernel: '6.1', memory: 64 * MIB, cpus: 2 }, swap: 0, zone_reclaim: 0 },
  '6.1-vanilla': {
    config: { kernel: '6.1', memory: 64 * MIB, compaction: false },
    swap: 4096,
    zone_reclaim: 0,
  },
  '6.1-nodes': {
    config: { kernel: '6.1', memory: 136 * MIB, nodes: 2, cpus: 2 },
    swap: 16384,
    zone_reclaim: 7,
  },
};

const ROOT = { uid: 0, gid: 0, pid: 1 };
const EIO = -5;
const ENOMEM = -12;
const EAGAIN = -11;
const ENOSPC = -28;
const MASKS = [
  GFP_KERNEL,
  GFP_KERNEL | __GFP_NORETRY,
  GFP_KERNEL | __GFP_REPEAT,
  GFP_NOFS,
  GFP_NOIO,
  GFP_ATOMIC,
  GFP_HIGHUSER_MOVABLE,
];

interface Process {
  task: Task;
  /** What each page was last written with. */
  pages: Map<number, number>;
  start: number;
  len: number;
  /** Areas of huge pages, what each page was last written with (-1: unknown), who promised them. */
  huge: { start: number; tags: number[]; owner: boolean }[];
}

interface File {
  node: Vnode;
  open: OpenFile;
  bytes: Uint8Array;
  size: number;
}

const MAX_FILE = 4 * MIB;

export class ReclaimRun {
  readonly m: Machine;
  readonly random: Random;
  readonly root: Vnode;
  readonly pages: number;
  private readonly free_at_boot: number;
  /** Pages that the processes hold together, about. */
  readonly target: number;
  processes: Process[] = [];
  readonly files: File[] = [];
  readonly kernel: [number, number][] = [];
  kernel_pages = 0;
  jobs: Job[] = [];
  killed = 0;
  /** The kernel's pages are part of what processes may hold. */
  private readonly exact: boolean;
  /** Pages read, written, unmapped or forked, and every other call of the allocator or a file. */
  operations = 0;
  private tag = 1;
  private names = 0;

  constructor(shape: Pressure, seed: number) {
    this.m = boot({ ...shape.config, seed });
    if (disk_of(this.m) === null) {
      assert.ok(disk_mount(this.m, new MemoryBlockDevice(512 * MIB)) >= 0);
    }
    if (shape.swap > 0) assert.equal(swapon(this.m, '/dev/sda2', shape.swap + 1), 0);
    this.m.sysctl['zone_reclaim_mode'] = shape.zone_reclaim;
    this.root = disk_root(this.m);
    this.exact = shape.share !== undefined && shape.swap === 0;
    this.random = new Random(seed);
    this.pages = this.m.totalram_pages;
    this.free_at_boot = global_page_state(this.m, NR_FREE_PAGES);
    this.target = Math.floor(this.pages * (shape.share ?? 0.75) + this.m.total_swap_pages * 0.9);
  }

  step(): void {
    const { m, random } = this;
    if (this.jobs.length === 0) m.this_cpu = random.below(m.shape.nr_cpus);
    switch (random.weighted([40, 25, 20, 10, 3, 1, 1, 2])) {
      case 0:
        this.process_event();
        break;
      case 1:
        this.file_event();
        break;
      case 2:
        this.kernel_event();
        break;
      case 3:
        this.clock_event();
        break;
      case 4:
        if (m.shape.compaction && this.jobs.length < 2) {
          this.jobs.push(compact_node(m, random.below(m.nodes.length)));
        }
        break;
      case 7:
        this.pool_event();
        break;
      case 5:
        run_job(drop_pagecache(m));
        break;
      default:
        this.finish_jobs();
    }
    this.run_jobs(random.below(20));
    this.bury();
  }

  /** Pages of all processes together; those that fork shares count for each. */
  private held(): number {
    let total = 0;
    for (const p of this.processes) total += p.pages.size;
    return total;
  }

  /** What processes may hold. Where it was asked for that memory be full, the kernel's part counts. */
  private room(): number {
    return this.target - (this.exact ? this.kernel_pages : 0);
  }

  /** Fills memory and swap at once as far as the model is going to keep them filled. */
  fill(): void {
    for (let want = this.room() - this.held(); want > 0; ) {
      const before = this.processes.length;
      this.spawn();
      const p = this.processes[before];
      if (p === undefined) break;
      const end = p.start + Math.min(p.len, want);
      want -= end - p.start;
      for (let vpn = p.start; vpn < end && this.write(p, vpn); vpn++);
      this.bury();
    }
  }

  private run_jobs(steps: number): void {
    for (let i = 0; i < steps && this.jobs.length > 0; i++) {
      const at = this.random.below(this.jobs.length);
      if (this.jobs[at]!.next().done) this.jobs.splice(at, 1);
    }
  }

  finish_jobs(): void {
    for (const job of this.jobs) run_job(job);
    this.jobs = [];
  }

  /** Forgets the processes that the OOM killer took. */
  private bury(): void {
    const alive = this.processes.filter((p) => this.m.tasks.get(p.task.pid) === p.task);
    this.killed += this.processes.length - alive.length;
    this.processes = alive;
  }

  private clock_event(): void {
    const ms = this.random.range(1, 300);
    if (this.jobs.length < 2 && this.random.one_in(3)) this.jobs.push(advance_clock(this.m, ms));
    else run_job(advance_clock(this.m, ms));
  }

  // ---- processes

  private process_event(): void {
    const { m, random } = this;
    // With swap most of it and all memory; without, as much as there is beside kernel and files.
    const enough = this.held() > this.room();
    if (this.processes.length < (enough ? 2 : 8) || (random.one_in(100) && !enough)) {
      this.spawn();
      return;
    }
    const p = random.pick(this.processes);
    const first = p.start + random.below(p.len);
    const end = Math.min(first + random.range(1, enough ? 300 : 2000), p.start + p.len);
    switch (random.weighted(enough ? [20, 20, 2, 2, 0, 1] : [60, 20, 1, 2, 1, 0])) {
      case 0:
        for (let vpn = first; vpn < end && this.write(p, vpn); vpn++);
        break;
      case 1:
        for (let vpn = first; vpn < end && this.read(p, vpn); vpn++);
        break;
      case 2:
        this.unmap(p, first, end);
        break;
      case 3: {
        const lock = random.one_in(3);
        const len = Math.min(end - first, 50);
        const err = run_as(m, p.task, () => do_mlock(m, p.task.mm!, first, len, lock));
        assert.ok([0, ENOMEM, EAGAIN].includes(err), `mlock: ${err}`);
        break;
      }
      case 4:
        this.fork(p);
        break;
      default:
        if (this.processes.length > 1) do_exit(m, p.task, 0);
    }
  }

  private spawn(): void {
    const { m } = this;
    const task = create_process(m, 'model');
    if (typeof task === 'number') {
      assert.equal(task, ENOMEM);
      return;
    }
    const len = this.random.range(this.target >> 4, this.target >> 2);
    const start = run_as(m, task, () =>
      do_mmap(m, task.mm!, null, 0, len, 3, MAP_PRIVATE | MAP_ANONYMOUS),
    );
    if (start > 0) this.processes.push({ task, pages: new Map(), start, len, huge: [] });
    else if (m.tasks.has(task.pid)) do_exit(m, task, 1);
  }

  private fork(parent: Process): void {
    if (this.processes.length >= 12) return;
    const task = do_fork(this.m, parent.task);
    if (typeof task === 'number') {
      assert.ok(task === ENOMEM || task === EAGAIN, `fork: ${task}`);
      return;
    }
    this.operations += parent.pages.size;
    const huge = parent.huge.map((area) => ({ ...area, tags: [...area.tags], owner: false }));
    this.processes.push({ ...parent, task, pages: new Map(parent.pages), huge });
  }

  /** Unmaps a range and what follows it; with nothing left the process ends. */
  private unmap(p: Process, first: number, end: number): void {
    const { m } = this;
    const err = run_as(m, p.task, () => do_munmap(m, p.task.mm!, first, end - first));
    if (err !== 0) {
      assert.equal(err, ENOMEM);
      return;
    }
    this.operations += end - first;
    for (let vpn = first; vpn < end; vpn++) p.pages.delete(vpn);
    const rest = p.start + p.len - end;
    if (m.tasks.get(p.task.pid) === p.task && rest > 0) {
      run_as(m, p.task, () => do_munmap(m, p.task.mm!, end, rest));
      for (let vpn = end; vpn < end + rest; vpn++) p.pages.delete(vpn);
    }
    p.len = first - p.start;
    if (p.len === 0 && m.tasks.get(p.task.pid) === p.task) do_exit(m, p.task, 0);
  }

  private write(p: Process, vpn: number): boolean {
    const tag = this.tag++;
    this.operations++;
    const err = run_as(this.m, p.task, () => write_tag(this.m, p.task, vpn, tag));
    if (err === 0) p.pages.set(vpn, tag);
    else this.check_error(p, err, vpn);
    return err === 0 && this.m.tasks.get(p.task.pid) === p.task;
  }

  private read(p: Process, vpn: number): boolean {
    this.operations++;
    const tag = run_as(this.m, p.task, () => read_tag(this.m, p.task, vpn));
    if (tag >= 0) assert.equal(tag, p.pages.get(vpn) ?? 0, `process ${p.task.pid} page ${vpn}`);
    else this.check_error(p, tag, vpn);
    return tag >= 0 && this.m.tasks.get(p.task.pid) === p.task;
  }

  private check_error(p: Process, err: number, vpn: number): void {
    if (err === ENOMEM || (err === EAGAIN && this.jobs.length > 0)) return;
    // -EFAULT: the page is not mapped any more, or the process is dead.
    const gone = this.m.tasks.get(p.task.pid) !== p.task || !p.pages.has(vpn);
    assert.ok(err === -14 && gone, `access to page ${vpn}: ${err}`);
  }

  // ---- files

  private file_event(): void {
    const { random } = this;
    if (this.files.length < 8 && (this.files.length === 0 || random.one_in(20))) {
      const node = this.root.create(`f${this.names++}`, 0o644, ROOT);
      if (typeof node === 'number') {
        assert.ok(node === ENOMEM || node === ENOSPC, `create: ${node}`);
        return;
      }
      const open = node.open(O_RDWR, ROOT);
      if (typeof open === 'number') {
        assert.equal(open, ENOMEM);
        return;
      }
      this.files.push({ node, open, bytes: new Uint8Array(MAX_FILE), size: 0 });
      return;
    }
    this.operations++;
    const f = random.pick(this.files);
    const len = random.range(1, random.one_in(4) ? 400_000 : 30_000);
    if (random.one_in(40)) {
      const size = random.below(f.size + 1);
      const err = settle(f.node.setattr({ size }, ROOT));
      assert.ok(err === 0 || err === ENOMEM, `truncate: ${err}`);
      if (err === 0) {
        f.bytes.fill(0, size, f.size);
        f.size = size;
      }
    } else if (random.one_in(2)) {
      const pos = Math.min(random.one_in(3) ? random.below(MAX_FILE) : f.size, MAX_FILE - len);
      const data = new Uint8Array(len);
      for (let i = 0; i < len; i += 1 + (i & 127)) data[i] = random.below(256);
      const rc = f.open.write(data, pos);
      const done = is_job(rc) ? run_job(rc) : rc;
      assert.ok(done > 0 || done === ENOMEM || done === ENOSPC, `write: ${done}`);
      if (done > 0) {
        f.bytes.set(data.subarray(0, done), pos);
        f.size = Math.max(f.size, pos + done);
      }
    } else {
      const pos = random.below(f.size + 1);
      const buf = new Uint8Array(len);
      const got = f.open.read(buf, pos);
      assert.ok(got >= 0 || got === ENOMEM, `read: ${got}`);
      const want = f.bytes.subarray(pos, Math.min(f.size, pos + Math.max(0, got)));
      assert.ok(Buffer.compare(buf.subarray(0, Math.max(0, got)), want) === 0, 'wrong bytes');
    }
  }

  // ---- the huge page pool

  /** Maps huge pages, or touches some: only a child of fork may fail, and never sees other contents. */
  private huge_event(p: Process): void {
    const { m, random } = this;
    const { task } = p;
    const order = m.hstates[0]!.order;
    if (p.huge.length === 0 || (p.huge.length < 3 && random.one_in(4))) {
      const count = random.range(1, 3);
      const start = run_as(m, task, () => do_mmap_hugetlb(m, task.mm!, 0, count, 3));
      if (start < 0) assert.equal(start, ENOMEM);
      else p.huge.push({ start, tags: new Array<number>(count).fill(0), owner: true });
      return;
    }
    const area = random.pick(p.huge);
    const at = random.below(area.tags.length);
    const vpn = area.start + at * 2 ** order + (at === 1 ? 3 : 0);
    const tag = this.tag++;
    const write = random.one_in(2);
    const got = run_as(m, task, () =>
      write ? write_tag(m, task, vpn, tag) : read_tag(m, task, vpn),
    );
    this.operations++;
    if (got < 0) {
      assert.ok(got === ENOMEM || (got === EIO && !area.owner), `huge page: ${got}`);
      // What was taken away does not come back; what could not be had may come later.
      if (got === EIO) area.tags[at] = -1;
      return;
    }
    if (write) area.tags[at] = tag;
    else if (area.tags[at]! >= 0) assert.equal(got, area.tags[at], 'contents of a huge page');
  }

  private pool_event(): void {
    const { m, random } = this;
    const h = m.hstates[0]!;
    if (random.one_in(3) && this.processes.length > 0) {
      this.huge_event(random.pick(this.processes));
      return;
    }
    h.nr_overcommit_huge_pages = random.below(3);
    const count = random.one_in(3) ? 0 : random.below(this.pages >> 12);
    const job = set_max_huge_pages(m, h, count);
    if (this.jobs.length < 2 && random.one_in(2)) this.jobs.push(job);
    else run_job(job);
  }

  // ---- the kernel

  private kernel_event(): void {
    const { m, random } = this;
    const limit = this.pages / 6;
    this.operations++;
    if (this.kernel.length > 0 && (this.kernel_pages > limit || random.one_in(3))) {
      const at = random.below(this.kernel.length);
      const [[pfn, order]] = this.kernel.splice(at, 1) as [[number, number]];
      this.kernel_pages -= 2 ** order;
      m.kernel.__free_pages(m, pfn, order);
      return;
    }
    const order = random.one_in(3) ? random.below(m.shape.max_order) : random.below(3);
    const nid = m.nodes.length > 1 && random.one_in(2) ? random.below(m.nodes.length) : -1;
    const pfn = m.kernel.alloc_pages(m, random.pick(MASKS) | __GFP_COMP, order, nid);
    if (pfn < 0) return;
    this.kernel.push([pfn, order]);
    this.kernel_pages += 2 ** order;
  }

  /** Everything that is left is read; then all of it goes, and memory with it. */
  finish(): void {
    const { m } = this;
    this.finish_jobs();
    for (const [pfn, order] of this.kernel) m.kernel.__free_pages(m, pfn, order);
    for (const f of this.files) {
      const buf = new Uint8Array(f.size + 1);
      for (let pos = 0; pos < f.size; ) {
        const got = f.open.read(buf.subarray(pos), pos);
        assert.ok(got > 0, `reading back: ${got}`);
        pos += got;
      }
      const same = Buffer.compare(buf.subarray(0, f.size), f.bytes.subarray(0, f.size)) === 0;
      assert.ok(same, 'a file reads back wrong');
      f.open.release();
      f.node.forget();
    }
    this.bury();
    for (const p of this.processes) {
      for (const vpn of p.pages.keys()) if (!this.read(p, vpn)) break;
    }
    this.bury();
    for (const p of this.processes) do_exit(m, p.task, 0);
    run_job(set_max_huge_pages(m, m.hstates[0]!, 0));
    assert.deepEqual([m.hstates[0]!.nr_huge_pages, m.hstates[0]!.resv_huge_pages], [0, 0]);
    run_job(advance_clock(m, 60_000));
    run_job(advance_clock(m, 60_000));
    run_job(drop_pagecache(m));
    lru_add_drain_all(m);
    for (let cpu = 0; cpu < m.shape.nr_cpus; cpu++) m.kernel.drain_pages(m, cpu);
    debug_vm(m);
    // A page whose last user went while it was being written or read stays in the swap cache until
    // reclaim meets it (swapfile.c: free_swap_and_cache).
    const cached = m.swapper_space.nrpages;
    assert.equal(m.nr_swap_pages + cached, m.total_swap_pages, 'swap slots leak');
    const free = global_page_state(m, NR_FREE_PAGES) + cached;
    // 6.1 keeps more for itself from the start; what it had then it must nearly have again.
    const own = m.kernel.name === '6.1' ? this.free_at_boot - this.pages * 0.02 : this.pages;
    const least = Math.min(this.pages * 0.9, own);
    assert.ok(free > least, `only ${free} of ${this.pages} pages are free in the end`);
  }
}

export const reclaim_model: Model = {
  name: 'reclaim',
  shapes: Object.keys(SHAPES),
  run(o: ModelOptions): number {
    const run = new ReclaimRun(SHAPES[o.shape]!, o.seed);
    for (let i = 0; i < o.events; i++) {
      run.step();
      if (i % o.check_every === 0) debug_vm(run.m);
    }
    run.finish();
    return o.events;
  },
};
