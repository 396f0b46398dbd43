/**
 * Everything at once: processes that map, write, fork, lock, unmap and exit; files that are written,
 * truncated, renamed, removed while open; kernel allocations; the clock; and compactions that are
 * suspended at their yields while all of this goes on. Three oracles: what each page of each process
 * was last written with, the bytes of each file, and a scan of all page tables for the reverse mapping
 * and for every page's reference count. debug_vm recomputes the rest.
 */

import assert from 'node:assert/strict';
import { disk_mount, disk_of, disk_root } from '../../src/fs/disk/index.ts';
import { O_RDWR, type OpenFile, type Vnode } from '../../src/fs/vfs.ts';
import {
  deferred_split_shrinker,
  huge_zero_page_shrinker,
} from '../../src/kernels/linux-6.1/huge_memory.ts';
import { DEFRAG, thp_state } from '../../src/kernels/linux-6.1/huge_mm.ts';
import { start_stop_khugepaged } from '../../src/kernels/linux-6.1/khugepaged.ts';
import { is_job, type Job, run_job, settle } from '../../src/lib/kthread.ts';
import { advance_clock, boot, type MachineConfig } from '../../src/machine.ts';
import { MemoryBlockDevice } from '../../src/mm/block_device.ts';
import { dump_page } from '../../src/mm/debug_state.ts';
import { debug_vm } from '../../src/mm/debug_vm.ts';
import { create_process, do_exit, do_fork } from '../../src/mm/fork.ts';
import { GFP_KERNEL } from '../../src/mm/gfp.ts';
import { lru_add_drain_all } from '../../src/mm/lru.ts';
import {
  do_madvise,
  do_mlock,
  do_mprotect,
  MADV_COLLAPSE,
  MADV_DONTNEED,
  MADV_HUGEPAGE,
  MADV_NOHUGEPAGE,
} from '../../src/mm/madvise.ts';
import { access_page, read_tag, write_tag } from '../../src/mm/memory.ts';
import type { Task } from '../../src/mm/mm_types.ts';
import { do_mmap, do_munmap, MAP_ANONYMOUS, MAP_PRIVATE, MAP_SHARED } from '../../src/mm/mmap.ts';
import type { Machine } from '../../src/mm/mmzone.ts';
import { rmap_walk } from '../../src/mm/rmap.ts';
import { open_for_map } from '../../src/sim/open_for_map.ts';
import { compact_node } from '../helpers/kernels.ts';
import { naive_mappings } from '../oracle/naive_rmap.ts';
import type { Model, ModelOptions } from './model.ts';
import { Random } from './random.ts';

const MIB = 2 ** 20;
const CONFIGS: Record<string, MachineConfig> = {
  '64M': { memory: 64 * MIB },
  '4-cpus': { memory: 80 * MIB, cpus: 4 },
  'two-nodes': { memory: 136 * MIB, nodes: 2, cpus: 3 },
  x86: { memory: 70 * MIB, machine: 'x86' },
  vanilla: { memory: 64 * MIB, compaction: false },
  '6.1': { kernel: '6.1', memory: 64 * MIB },
  '6.1-two-nodes': { kernel: '6.1', memory: 136 * MIB, nodes: 2, cpus: 3 },
  '6.1-vanilla': { kernel: '6.1', memory: 64 * MIB, compaction: false },
  '6.1-thp': { kernel: '6.1', memory: 72 * MIB, swap: 256 * MIB },
  '6.1-thp-two-nodes': { kernel: '6.1', memory: 160 * MIB, nodes: 2, cpus: 2 },
};

const ROOT = { uid: 0, gid: 0, pid: 1 };
const ENOMEM = -12;
const EFAULT = -14;
const EAGAIN = -11;
const EBUSY = -16;
const EINVAL = -22;
const EIO = -5;
const ENOSPC = -28;

interface Page {
  tag: number;
  writable: boolean;
  locked: boolean;
}

/** A file that a process maps: where, which part, and how. */
interface FileArea {
  start: number;
  len: number;
  file: File;
  pgoff: number;
  shared: boolean;
}

interface Process {
  task: Task;
  /** By virtual page: every anonymous page that is mapped. */
  pages: Map<number, Page>;
  maps: FileArea[];
}

interface File {
  name: string | null;
  node: Vnode;
  open: OpenFile;
  bytes: Uint8Array;
  size: number;
}

const MAX_FILE = 400_000;

export class MmRun {
  readonly m: Machine;
  readonly random: Random;
  readonly root: Vnode;
  readonly processes: Process[] = [];
  readonly files: File[] = [];
  readonly kernel: [number, number][] = [];
  job: Job | null = null;
  private names = 0;
  private tag = 1;
  private readonly compaction: boolean;
  private readonly huge: boolean;

  constructor(o: ModelOptions) {
    const config = CONFIGS[o.shape]!;
    this.compaction = config.compaction !== false;
    this.m = boot({ ...config, seed: o.seed });
    if (disk_of(this.m) === null) {
      assert.ok(disk_mount(this.m, new MemoryBlockDevice(256 * MIB)) >= 0);
    }
    this.root = disk_root(this.m);
    this.random = new Random(o.seed);
    this.huge = o.shape.includes('thp');
    const k = thp_state(this.m);
    if (!this.huge || k === null) return;
    // So small a machine boots without huge pages.
    k.enabled = 'always';
    k.use_zero_page = 1;
    k.khugepaged_defrag = 1;
    k.scan_sleep_millisecs = 100;
    k.alloc_sleep_millisecs = 200;
    start_stop_khugepaged(this.m);
  }

  step(): void {
    const { m, random } = this;
    // A suspended compaction keeps its CPU: others would have to run on another.
    if (this.job === null) m.this_cpu = random.below(m.shape.nr_cpus);
    switch (random.weighted([40, 25, 12, 6, 6, 3, 3])) {
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
        run_job(advance_clock(m, random.range(1, 400)));
        break;
      case 4:
        this.compact_event();
        break;
      case 5:
        if (random.one_in(2)) lru_add_drain_all(m);
        else m.kernel.drain_pages(m, m.this_cpu);
        break;
      default:
        this.relieve();
    }
  }

  /** When memory is short: somebody exits, a file goes. */
  private relieve(): void {
    let free = 0;
    for (const zone of this.m.populated_zones) free += zone.vm_stat[0]!;
    if (free > (this.m.nr_swap_pages > 0 ? 600 : 2500)) return;
    if (this.m.nr_swap_pages > 20_000 && !this.random.one_in(20)) return;
    while (this.kernel.length > 20) this.kernel_free();
    if (this.processes.length > 1) this.exit();
    if (this.files.length > 1) this.remove();
  }

  // ---- processes

  private process_event(): void {
    const { random } = this;
    if (this.processes.length === 0) {
      this.spawn();
      return;
    }
    switch (random.weighted([30, 30, 6, 4, 4, 3, 2, 2, 2, 2, 5, 14, 2, this.huge ? 3 : 0])) {
      case 0:
        this.write_pages();
        break;
      case 1:
        this.read_pages();
        break;
      case 2:
        this.map();
        break;
      case 3:
        this.unmap();
        break;
      case 4:
        this.dont_need();
        break;
      case 5:
        this.lock();
        break;
      case 6:
        this.protect();
        break;
      case 7:
        if (this.processes.length < 12) this.fork();
        break;
      case 8:
        if (this.processes.length < 8) this.spawn();
        break;
      case 9:
        if (this.processes.length > 2) this.exit();
        break;
      case 10:
        this.map_file();
        break;
      case 11:
        this.touch_file();
        break;
      case 12:
        this.unmap_file();
        break;
      default:
        this.huge_event();
    }
  }

  /** What only a kernel with huge pages has: advice, and other settings. */
  private huge_event(): void {
    const { m, random } = this;
    const k = thp_state(m)!;
    const p = random.pick(this.processes);
    const range = this.range(p, 1600);
    switch (random.below(4)) {
      case 0: {
        // What reclaim asks for when memory is short.
        const { nid } = random.pick(m.nodes);
        deferred_split_shrinker.shrink(m, random.range(1, 20), GFP_KERNEL, nid);
        huge_zero_page_shrinker.shrink(m, random.below(2), GFP_KERNEL);
        break;
      }
      case 1:
        k.enabled = random.pick(['always', 'always', 'madvise', 'never'] as const);
        k.defrag = random.pick(DEFRAG);
        k.use_zero_page = random.below(2);
        k.max_ptes_none = random.pick([10, 511, 511]);
        k.max_ptes_shared = random.pick([0, 256, 511]);
        start_stop_khugepaged(m);
        break;
      default: {
        if (range === null) return;
        const advice = random.pick([MADV_HUGEPAGE, MADV_HUGEPAGE, MADV_NOHUGEPAGE, MADV_COLLAPSE]);
        const err = do_madvise(m, p.task.mm!, range[0], range[1], advice);
        // Whether a collapse succeeds is not this oracle's business; what the pages hold is.
        const expected =
          advice === MADV_COLLAPSE ? [0, ENOMEM, EAGAIN, EBUSY, EINVAL] : [0, ENOMEM];
        assert.ok(expected.includes(err), `madvise: ${err}`);
      }
    }
  }

  private map_file(): void {
    const { m, random } = this;
    const p = random.pick(this.processes);
    const named = this.files.filter((f) => f.name !== null);
    if (p.maps.length > 6 || named.length === 0) return;
    const file = random.pick(named);
    const mapped = open_for_map(m, `/disk/${file.name}`, true);
    if (typeof mapped === 'number') {
      assert.equal(mapped, ENOMEM);
      return;
    }
    const shared = random.one_in(2);
    const pgoff = random.below(60);
    const len = random.range(1, 60);
    const flags = shared ? MAP_SHARED : MAP_PRIVATE;
    const start = do_mmap(m, p.task.mm!, mapped, 0, len, 3, flags, pgoff);
    if (start < 0) {
      assert.equal(start, ENOMEM);
      mapped.open?.release();
      return;
    }
    p.maps.push({ start, len, file, pgoff, shared });
  }

  /** Reads or writes a few pages of a mapped file; behind its end that is a bus error. */
  private touch_file(): void {
    const { m, random } = this;
    const p = random.pick(this.processes);
    if (p.maps.length === 0) return;
    const area = random.pick(p.maps);
    for (let tries = random.range(1, 8); tries > 0; tries--) {
      const i = random.below(area.len);
      const err = access_page(m, p.task, area.start + i, random.one_in(2));
      const inside = (area.pgoff + i) * 4096 < area.file.size;
      const busy = err === EAGAIN && this.job !== null;
      if (err !== ENOMEM && !busy) assert.equal(err, inside ? 0 : EIO, `page ${area.pgoff + i}`);
    }
  }

  private unmap_file(): void {
    const p = this.random.pick(this.processes);
    if (p.maps.length === 0) return;
    const [area] = p.maps.splice(this.random.below(p.maps.length), 1);
    const err = do_munmap(this.m, p.task.mm!, area!.start, area!.len);
    if (err !== 0) {
      assert.equal(err, ENOMEM);
      p.maps.push(area!);
    }
  }

  private spawn(): void {
    const task = create_process(this.m, 'model');
    if (typeof task === 'number') assert.equal(task, ENOMEM);
    else this.processes.push({ task, pages: new Map(), maps: [] });
  }

  private fork(): void {
    const parent = this.random.pick(this.processes);
    const task = do_fork(this.m, parent.task);
    if (typeof task === 'number') {
      assert.equal(task, ENOMEM);
      return;
    }
    const pages: Map<number, Page> = new Map();
    // Locks are not inherited.
    for (const [vpn, page] of parent.pages) pages.set(vpn, { ...page, locked: false });
    this.processes.push({ task, pages, maps: [...parent.maps] });
  }

  private exit(): void {
    const at = this.random.below(this.processes.length);
    const [gone] = this.processes.splice(at, 1);
    do_exit(this.m, gone!.task, 0);
  }

  private map(): void {
    const { m, random } = this;
    const p = random.pick(this.processes);
    if (p.pages.size > (this.huge ? 6000 : 2500)) return;
    const most = this.huge && random.one_in(2) ? 1600 : random.one_in(5) ? 600 : 60;
    const len = random.range(1, most);
    const start = do_mmap(m, p.task.mm!, null, 0, len, 3, MAP_PRIVATE | MAP_ANONYMOUS);
    if (start < 0) {
      assert.equal(start, ENOMEM);
      return;
    }
    for (let i = 0; i < len; i++) {
      assert.ok(!p.pages.has(start + i), 'mmap over a mapping');
      p.pages.set(start + i, { tag: 0, writable: true, locked: false });
    }
  }

  /** A run of mapped pages of a process, somewhere: [first, length] or null. */
  private range(p: Process, most: number): [number, number] | null {
    if (p.pages.size === 0) return null;
    const vpns = [...p.pages.keys()];
    const first = this.random.pick(vpns);
    let len = 1;
    const want = this.random.range(1, most);
    while (len < want && p.pages.has(first + len)) len++;
    return [first, len];
  }

  private write_pages(): void {
    const p = this.random.pick(this.processes);
    const range = this.range(p, 40);
    if (range === null) return;
    for (let vpn = range[0]; vpn < range[0] + range[1]; vpn++) {
      const page = p.pages.get(vpn)!;
      const err = write_tag(this.m, p.task, vpn, this.tag);
      if (!page.writable) {
        assert.equal(err, EFAULT, 'a write to a read-only page');
      } else if (err === 0) {
        page.tag = this.tag++;
      } else {
        assert.ok(err === ENOMEM || (err === EAGAIN && this.job !== null), `write_tag: ${err}`);
        return;
      }
    }
  }

  private read_pages(): void {
    const p = this.random.pick(this.processes);
    const range = this.range(p, 60);
    if (range === null) return;
    for (let vpn = range[0]; vpn < range[0] + range[1]; vpn++) {
      this.read(p, vpn);
    }
    assert.equal(read_tag(this.m, p.task, 5), EFAULT, 'a read where nothing is mapped');
  }

  private read(p: Process, vpn: number): void {
    const tag = read_tag(this.m, p.task, vpn);
    if (tag === ENOMEM || (tag === EAGAIN && this.job !== null)) return;
    assert.equal(tag, p.pages.get(vpn)!.tag, `process ${p.task.pid} page ${vpn}`);
  }

  private unmap(): void {
    const p = this.random.pick(this.processes);
    const range = this.range(p, this.huge && this.random.one_in(3) ? 1200 : 80);
    if (range === null) return;
    const err = do_munmap(this.m, p.task.mm!, range[0], range[1]);
    if (err !== 0) {
      assert.equal(err, ENOMEM);
      return;
    }
    for (let i = 0; i < range[1]; i++) p.pages.delete(range[0] + i);
  }

  private dont_need(): void {
    const p = this.random.pick(this.processes);
    const range = this.range(p, this.huge && this.random.one_in(3) ? 1200 : 50);
    if (range === null) return;
    const pages: Page[] = [];
    for (let i = 0; i < range[1]; i++) pages.push(p.pages.get(range[0] + i)!);
    if (pages.some((page) => page.locked)) return;
    assert.equal(do_madvise(this.m, p.task.mm!, range[0], range[1], MADV_DONTNEED), 0);
    for (const page of pages) page.tag = 0;
  }

  private lock(): void {
    const p = this.random.pick(this.processes);
    const range = this.range(p, this.huge && this.random.one_in(2) ? 700 : 30);
    if (range === null) return;
    const lock = this.random.one_in(2);
    const err = do_mlock(this.m, p.task.mm!, range[0], range[1], lock);
    assert.ok(err === 0 || err === ENOMEM || err === EAGAIN, `mlock: ${err}`);
    // After a failure some of the pages are locked: which, is not this oracle's business.
    for (let i = 0; i < range[1]; i++) p.pages.get(range[0] + i)!.locked = lock || err !== 0;
  }

  private protect(): void {
    const p = this.random.pick(this.processes);
    const range = this.range(p, this.huge && this.random.one_in(2) ? 700 : 30);
    if (range === null) return;
    const writable = this.random.one_in(2);
    const err = do_mprotect(this.m, p.task.mm!, range[0], range[1], writable ? 3 : 1);
    if (err !== 0) {
      // Without memory for another area nothing has changed, or a part of it.
      assert.equal(err, ENOMEM);
      do_exit(this.m, p.task, 1);
      this.processes.splice(this.processes.indexOf(p), 1);
      return;
    }
    for (let i = 0; i < range[1]; i++) p.pages.get(range[0] + i)!.writable = writable;
  }

  // ---- files

  private file_event(): void {
    const { random } = this;
    if (this.files.length === 0) {
      this.create();
      return;
    }
    switch (random.weighted([20, 20, 5, 4, 3, 2, 2])) {
      case 0:
        this.write();
        break;
      case 1:
        this.read_file(random.pick(this.files));
        break;
      case 2:
        if (this.files.length < 40) this.create();
        break;
      case 3:
        this.truncate();
        break;
      case 4:
        this.rename();
        break;
      case 5:
        this.unlink_open();
        break;
      default:
        if (random.one_in(3)) this.sync();
        else this.remove();
    }
  }

  private create(): void {
    const name = `f${this.names++}`;
    const node = this.root.create(name, 0o644, ROOT);
    if (typeof node === 'number') {
      assert.ok(node === ENOMEM || node === ENOSPC, `create: ${node}`);
      return;
    }
    const open = node.open(O_RDWR, ROOT);
    if (typeof open === 'number') {
      assert.equal(open, ENOMEM);
      assert.equal(settle(this.root.unlink(name)), 0);
      node.forget();
      return;
    }
    this.files.push({ name, node, open, bytes: new Uint8Array(MAX_FILE), size: 0 });
  }

  private finish(result: number | Job): number {
    return is_job(result) ? run_job(result) : result;
  }

  private write(): void {
    const { random } = this;
    const f = random.pick(this.files);
    // Mostly at the end, at times anywhere, holes included.
    const pos = random.one_in(3) ? random.below(MAX_FILE - 1) : Math.min(f.size, MAX_FILE - 1);
    const len = Math.min(random.range(1, random.one_in(4) ? 60_000 : 9000), MAX_FILE - pos);
    const data = new Uint8Array(len);
    for (let i = 0; i < len; i += 1 + (i & 63)) data[i] = random.below(256);
    const done = this.finish(f.open.write(data, pos));
    if (done < 0) {
      assert.ok(done === ENOMEM || done === ENOSPC, `write: ${done}`);
      return;
    }
    assert.ok(done > 0 && done <= len, `write of ${len} bytes returned ${done}`);
    f.bytes.set(data.subarray(0, done), pos);
    f.size = Math.max(f.size, pos + done);
  }

  private read_file(f: File): void {
    const { random } = this;
    const pos = random.below(f.size + 5000);
    const buf = new Uint8Array(random.range(1, 70_000)).fill(170);
    const got = f.open.read(buf, pos);
    if (got === ENOMEM) return;
    const expected = f.bytes.subarray(pos, Math.min(pos + buf.length, f.size));
    // A read may be cut short when there is no memory for more.
    assert.ok(got >= 0 && got <= Math.max(0, expected.length), `read: ${got}`);
    if (expected.length > 0) assert.ok(got > 0, 'a read returned nothing before the end');
    assert.ok(
      Buffer.compare(buf.subarray(0, got), expected.subarray(0, got)) === 0,
      `${f.name ?? 'a removed file'}: wrong bytes within ${got} from ${pos}`,
    );
    assert.equal(f.node.getattr().size, f.size);
  }

  private truncate(): void {
    const { random } = this;
    const f = random.pick(this.files);
    const size = random.one_in(3) ? random.below(MAX_FILE) : random.below(f.size + 1);
    const err = settle(f.node.setattr({ size }, ROOT));
    if (err !== 0) {
      assert.ok(err === ENOMEM || err === ENOSPC, `truncate: ${err}`);
      return;
    }
    if (size < f.size) f.bytes.fill(0, size, f.size);
    f.size = size;
  }

  private rename(): void {
    const f = this.random.pick(this.files);
    if (f.name === null) return;
    const name = `r${this.names++}`;
    const err = settle(this.root.rename(f.name, this.root, name));
    if (err === 0) f.name = name;
    else assert.ok(err === ENOMEM || err === ENOSPC, `rename: ${err}`);
  }

  /** The file goes on without a name until it is closed. */
  private unlink_open(): void {
    const f = this.random.pick(this.files);
    if (f.name === null) return;
    const err = settle(this.root.unlink(f.name));
    if (err === 0) f.name = null;
    else assert.ok(err === ENOMEM || err === ENOSPC, `unlink: ${err}`);
  }

  private remove(): void {
    const at = this.random.below(this.files.length);
    const f = this.files[at]!;
    if (f.name !== null && settle(this.root.unlink(f.name)) !== 0) return;
    this.files.splice(at, 1);
    f.open.release();
    f.node.forget();
  }

  private sync(): void {
    const f = this.random.pick(this.files);
    const err = this.finish(f.open.fsync(this.random.one_in(2)));
    assert.ok(err === 0 || err === ENOMEM, `fsync: ${err}`);
  }

  // ---- the kernel

  private kernel_event(): void {
    const { m, random } = this;
    if (this.kernel.length > 150 || random.one_in(2)) {
      this.kernel_free();
      return;
    }
    const order = random.weighted([30, 10, 8, 5, 3, 2, 1, 1]);
    const gfp = random.pick([0xd0, 0x800d0, 0x20, 0x200da, 0x2, 0x40d0]);
    const pfn = m.kernel.alloc_pages(m, gfp, order, random.below(m.nodes.length));
    if (pfn < 0) return;
    assert.equal(m.memmap._count[pfn], 1);
    this.kernel.push([pfn, order]);
  }

  private kernel_free(): void {
    if (this.kernel.length === 0) return;
    const at = this.random.below(this.kernel.length);
    const [pfn, order] = this.kernel.splice(at, 1)[0]!;
    this.m.kernel.__free_pages(this.m, pfn, order);
  }

  /** Begins a compaction, or carries one on for a while, or to its end. */
  private compact_event(): void {
    const { m, random } = this;
    if (!this.compaction) return;
    if (this.job === null) {
      if (random.one_in(3)) this.job = compact_node(m, random.below(m.nodes.length));
      return;
    }
    let steps = random.one_in(6) ? 100_000 : random.range(1, 30);
    while (steps-- > 0) {
      if (this.job.next().done) {
        this.job = null;
        return;
      }
    }
  }

  finish_job(): void {
    if (this.job !== null) run_job(this.job);
    this.job = null;
  }

  // ---- oracles

  /** Reverse mapping and reference counts against a scan of all page tables. */
  check_mappings(): void {
    const { m } = this;
    const p = m.memmap;
    const mapped = naive_mappings(m.tasks.values());
    // Pages to be moved to their list's end are on the list and in a vector at once.
    const rotating: number[] = [];
    for (const pvec of m.lru_rotate_pvecs) rotating.push(...pvec.pages.subarray(0, pvec.nr));
    for (const zone of m.populated_zones) {
      const end = zone.zone_start_pfn + zone.spanned_pages;
      for (let pfn = zone.zone_start_pfn; pfn < end; pfn++) {
        const flags = p.flags[pfn]!;
        if ((flags & (1 << 10)) !== 0) continue;
        const ptes = mapped.get(pfn) ?? [];
        const small = ptes.filter((x) => !x.whole).length;
        assert.equal(p._mapcount[pfn], small, `map count: ${dump_page(m, pfn)}`);
        if ((flags & (1 << 5)) === 0) continue;
        // On an LRU list and nothing going on: mappings, the cache, buffers, vectors.
        const cached = p.mapping[pfn] !== 0 && (p.mapping[pfn]! & 1) === 0 ? 1 : 0;
        const swap = (flags & (1 << 16)) !== 0 ? 1 : 0;
        const buffers = (flags & (1 << 11)) !== 0 ? 1 : 0;
        const rotated = rotating.filter((x) => x === pfn).length;
        let holders = ptes.length + cached + swap + buffers + rotated;
        const head = (flags & (1 << 14)) !== 0;
        if (head) {
          // Every part's small mappings hold the huge page, too.
          for (let i = 1; i < 512; i++) {
            holders += (mapped.get(pfn + i) ?? []).filter((x) => !x.whole).length;
          }
        }
        if (this.job === null && (flags & 1) === 0) {
          assert.equal(p._count[pfn], holders, `${holders} holders: ${dump_page(m, pfn)}`);
        }
        if (head || ptes.length === 0 || (pfn & 7) !== 0 || (flags & 1) !== 0) continue;
        const found: string[] = [];
        p.flags[pfn]! |= 1; // a walk needs the page lock
        rmap_walk(
          m,
          pfn,
          (_m, _pfn, vma, vpn) => {
            const at = ptes.find((x) => (x.mm as unknown) === vma.vm_mm && x.vpn === vpn);
            if (at !== undefined) found.push(`${at.pid}:${vpn}`);
            return 1;
          },
          0,
        );
        p.flags[pfn]! &= ~1;
        const expected = ptes.map((x) => `${x.pid}:${x.vpn}`).sort();
        assert.deepEqual([...new Set(found)].sort(), expected, `rmap: ${dump_page(m, pfn)}`);
      }
    }
  }

  check_contents(): void {
    for (const p of this.processes) {
      for (const [vpn, page] of p.pages) if (page.tag !== 0) this.read(p, vpn);
    }
    for (const f of this.files) this.read_file(f);
  }

  reset(): void {
    this.finish_job();
    while (this.processes.length > 0) this.exit();
    while (this.kernel.length > 0) this.kernel_free();
    for (let tries = 0; this.files.length > 0 && tries < 1000; tries++) this.remove();
    assert.equal(this.files.length, 0, 'files could not be removed');
  }
}

export const mm_model: Model = {
  name: 'mm',
  shapes: Object.keys(CONFIGS),
  run(o) {
    const run = new MmRun(o);
    debug_vm(run.m);
    for (let i = 1; i <= o.events; i++) {
      run.step();
      if (i % o.check_every === 0 || i === o.events) {
        debug_vm(run.m);
        run.check_mappings();
        run.check_contents();
      }
      // A suspended compaction that nobody carries on would never see the vectors drained.
      if (i % (o.check_every * 20) === 0) run.finish_job();
    }
    run.reset();
    lru_add_drain_all(run.m);
    debug_vm(run.m);
    return o.events;
  },
};
