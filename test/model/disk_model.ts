/**
 * Random use of the disk file system on a small machine, against a naive file system.
 *
 * Files are written, cut, extended, read, renamed, linked, removed, also while they are open;
 * memory and disk run full; pages are evicted, written back, compacted; time passes. What fails for
 * want of memory or space must have changed nothing (a short write: only its first bytes). Every
 * byte read must be the byte last written, and at the end every file is compared in full.
 */
import { createHash } from 'node:crypto';
import { disk_mount, disk_of, disk_root } from '../../src/fs/disk/index.ts';
import { prune_dcache, prune_icache } from '../../src/fs/disk/shrink.ts';
import { O_APPEND, O_RDWR, O_TRUNC, type OpenFile, Vnode } from '../../src/fs/vfs.ts';
import { errno_name } from '../../src/lib/errno.ts';
import { is_job, run_job, settle } from '../../src/lib/kthread.ts';
import { advance_clock, boot } from '../../src/machine.ts';
import { MemoryBlockDevice } from '../../src/mm/block_device.ts';
import { debug_vm } from '../../src/mm/debug_vm.ts';
import { lru_add_drain_all } from '../../src/mm/lru.ts';
import type { Machine } from '../../src/mm/mmzone.ts';
import { sync_filesystems } from '../../src/mm/page_writeback.ts';
import { drop_pagecache } from '../../src/mm/truncate.ts';
import {
  global_page_state,
  NR_ACTIVE_FILE,
  NR_FILE_PAGES,
  NR_INACTIVE_FILE,
} from '../../src/mm/vmstat.ts';
import { compact_nodes } from '../helpers/kernels.ts';
import { NaiveFs, NaiveNode } from '../oracle/naive_fs.ts';
import type { Model, ModelOptions } from './model.ts';
import { Random } from './random.ts';

const MIB = 2 ** 20;
const CALLER = { uid: 1000, gid: 100, pid: 0 };

interface DiskShape {
  kernel?: '6.1';
  machine: 'x86_64' | 'ppc64';
  page_size: number;
  memory: number;
  disk: number;
  /** Largest size of a file, and of a write. */
  file: number;
  write: number;
}

const SHAPES: Record<string, DiskShape> = {
  // Memory for a part of the files only; the disk holds them all.
  'small-memory': {
    machine: 'x86_64',
    page_size: 4096,
    memory: 64 * MIB,
    disk: 512 * MIB,
    file: 8 * MIB,
    write: 300_000,
  },
  '6.1-small-memory': {
    kernel: '6.1',
    machine: 'x86_64',
    page_size: 4096,
    memory: 64 * MIB,
    disk: 512 * MIB,
    file: 8 * MIB,
    write: 300_000,
  },
  '6.1-small-disk': {
    kernel: '6.1',
    machine: 'x86_64',
    page_size: 4096,
    memory: 128 * MIB,
    disk: 24 * MIB,
    file: 6 * MIB,
    write: 300_000,
  },
  // The disk is full before memory is.
  'small-disk': {
    machine: 'x86_64',
    page_size: 4096,
    memory: 128 * MIB,
    disk: 24 * MIB,
    file: 6 * MIB,
    write: 300_000,
  },
  // 16 blocks a page.
  'large-pages': {
    machine: 'ppc64',
    page_size: 65536,
    memory: 256 * MIB,
    disk: 20 * MIB,
    file: 6 * MIB,
    write: 300_000,
  },
};

/** A disk whose unused blocks hold garbage: nobody may rely on zeroes that he did not write. */
class UsedDisk extends MemoryBlockDevice {
  constructor(size: number) {
    super(size);
    for (let at = 0; at < size; at += MIB) this.discard(at, Math.min(MIB, size - at));
  }

  override discard(offset: number, length: number): void {
    this.write(new Uint8Array(length).fill(0xdb), offset);
  }
}

/** What may be missing: then nothing is expected of the result. */
const SCARCE = new Set(['ENOMEM', 'ENOSPC']);

class DiskRun {
  readonly r: Random;
  readonly m: Machine;
  readonly root: Vnode;
  readonly naive = new NaiveFs();
  /** Directories of both worlds. */
  readonly dirs: [Vnode, NaiveNode][] = [];
  /** Open files: they stay open over unlink. */
  readonly open: { file: OpenFile; node: NaiveNode; append: boolean }[] = [];
  readonly shape: DiskShape;
  scarce = 0;

  constructor(seed: number, shape: DiskShape) {
    this.shape = shape;
    this.r = new Random(seed);
    this.m = boot({
      kernel: shape.kernel ?? '2.6.35',
      machine: shape.machine,
      page_size: shape.page_size,
      memory: shape.memory,
      seed,
      boot_time_ms: 1e12,
    });
    if (disk_of(this.m) === null) disk_mount(this.m, new UsedDisk(shape.disk));
    this.root = disk_root(this.m);
    this.dirs.push([this.root, this.naive.root]);
  }

  fail(what: string, want: unknown, got: unknown): never {
    throw new Error(`${what}: expected ${String(want)}, got ${String(got)}`);
  }

  /** Compares a result code; true when the operation took place. */
  check(what: string, want: string, result: unknown): boolean {
    const got = typeof result === 'number' && result < 0 ? errno_name(result) : 'OK';
    if (got === want) return got === 'OK';
    this.fail(what, want, got);
  }

  /** True when the real side lacked memory or space; the naive side must not act then. */
  lacks(result: unknown): boolean {
    if (typeof result !== 'number' || result >= 0 || !SCARCE.has(errno_name(result))) return false;
    this.scarce++;
    // Make room, so that the run goes on.
    const way = this.r.below(4);
    if (way < 2) run_job(drop_pagecache(this.m));
    else if (way === 2 && this.open.length > 0) this.close(0);
    else this.remove_some();
    return true;
  }

  remove_some(): void {
    const files: [Vnode, NaiveNode, string][] = [];
    for (const [v, n] of this.dirs) {
      for (const [name, node] of n.entries) if (node.kind === 'file') files.push([v, n, name]);
    }
    for (let i = 0; i < 3 && files.length > 0; i++) {
      const [[dir, ndir, name]] = files.splice(this.r.below(files.length), 1) as [
        [Vnode, NaiveNode, string],
      ];
      this.check('unlink', this.naive.unlink(ndir, name), settle(dir.unlink(name)));
    }
  }

  close(i: number): void {
    this.open[i]!.file.release();
    this.open.splice(i, 1);
  }

  name(): string {
    if (this.r.one_in(40)) return 'n'.repeat(this.r.range(250, 257));
    if (this.r.one_in(30)) return 'ü'.repeat(this.r.range(120, 130));
    return 'f' + this.r.below(24);
  }

  dir(): [Vnode, NaiveNode] {
    return this.r.pick(this.dirs);
  }

  create(): void {
    const [v, n] = this.dir();
    const name = this.name();
    const mode = 0o400 + this.r.below(0o377);
    const result = v.create(name, mode, CALLER);
    if (this.lacks(result)) return;
    this.check('create', this.naive.add(n, name, new NaiveNode('file', mode)), result);
  }

  mkdir(): void {
    if (this.dirs.length > 12) return;
    const [v, n] = this.dir();
    const name = this.name();
    const result = v.mkdir(name, 0o755, CALLER);
    if (this.lacks(result)) return;
    const node = new NaiveNode('dir', 0o755);
    if (this.check('mkdir', this.naive.add(n, name, node), result)) {
      this.dirs.push([result as Vnode, node]);
    }
  }

  symlink(): void {
    const [v, n] = this.dir();
    const name = this.name();
    const target = 'tä'.repeat(this.r.range(1, this.r.one_in(8) ? 1300 : 30));
    const result = v.symlink(name, target, CALLER);
    if (this.lacks(result)) return;
    const node = new NaiveNode('link', 0o777);
    node.target = target;
    this.check('symlink', this.naive.add(n, name, node), result);
  }

  lookup(v: Vnode, n: NaiveNode, name: string): [Vnode, NaiveNode] | null {
    const node = n.entries.get(name);
    const found = v.lookup(name);
    if (this.lacks(found)) return null;
    if (node === undefined) {
      const long = Buffer.byteLength(name) > 255 ? 'ENAMETOOLONG' : 'ENOENT';
      this.check('lookup', long, found);
      return null;
    }
    if (!(found instanceof Vnode)) this.fail('lookup', 'a node', found);
    return [found, node];
  }

  link(): void {
    const [v, n] = this.dir();
    const source = this.lookup(v, n, this.name());
    if (source === null) return;
    const [to, nto] = this.dir();
    const name = this.name();
    const result = to.link(name, source[0]);
    if (this.lacks(result)) return;
    this.check('link', this.naive.link(nto, name, source[1]), result);
  }

  unlink(): void {
    const [v, n] = this.dir();
    const name = this.name();
    if (Buffer.byteLength(name) > 255) return;
    this.check('unlink', this.naive.unlink(n, name), settle(v.unlink(name)));
  }

  rmdir(): void {
    const [v, n] = this.dir();
    const dirs = [...n.entries].filter(([, node]) => node.kind === 'dir');
    const name = dirs.length > 0 ? this.r.pick(dirs)[0] : this.name();
    if (Buffer.byteLength(name) > 255) return;
    const node = n.entries.get(name);
    if (this.check('rmdir', this.naive.rmdir(n, name), v.rmdir(name))) this.forget_dir(node!);
  }

  forget_dir(node: NaiveNode): void {
    const i = this.dirs.findIndex(([, n]) => n === node);
    if (i >= 0) this.dirs.splice(i, 1);
  }

  rename(): void {
    const [v, n] = this.dir();
    const [to, nto] = this.dir();
    const names = [...n.entries.keys()];
    const name = names.length > 0 && !this.r.one_in(10) ? this.r.pick(names) : this.name();
    const targets = [...nto.entries.keys()];
    const new_name = targets.length > 0 && this.r.one_in(2) ? this.r.pick(targets) : this.name();
    if (Buffer.byteLength(name) > 255) return;
    const result = settle(v.rename(name, to, new_name));
    if (this.lacks(result)) return;
    const victim = nto.entries.get(new_name);
    const source = n.entries.get(name);
    const ok = this.check('rename', this.naive.rename(n, name, nto, new_name), result);
    if (ok && victim !== undefined && victim !== source && victim.kind === 'dir') {
      this.forget_dir(victim);
    }
  }

  open_file(): void {
    if (this.open.length >= 12) {
      this.close(this.r.below(this.open.length));
      return;
    }
    const [v, n] = this.dir();
    const found = this.lookup(v, n, this.name());
    if (found === null || found[1].kind !== 'file') return;
    const append = this.r.one_in(6);
    const cut = this.r.one_in(8);
    const file = found[0].open(O_RDWR | (append ? O_APPEND : 0) | (cut ? O_TRUNC : 0), CALLER);
    if (this.lacks(file)) {
      // O_TRUNC may have been carried out before memory ran out.
      if (cut && found[0].getattr().size === 0) found[1].resize(0);
      return;
    }
    if (typeof file === 'number') this.fail('open', 'a file', errno_name(file));
    if (cut) found[1].resize(0);
    this.open.push({ file, node: found[1], append });
  }

  write(): void {
    if (this.open.length === 0) return;
    const { file, node, append } = this.r.pick(this.open);
    const length = this.r.one_in(3) ? this.r.range(1, this.shape.write) : this.r.range(1, 9000);
    const bytes = Buffer.alloc(length);
    const x = this.r.u32();
    for (let i = 0; i < length; i++) bytes[i] = (x + i * 31 + (i >> 8)) & 0xff;
    const far = this.r.one_in(3) ? this.shape.file : node.data.length + 10_000;
    const pos = this.r.one_in(3) ? this.r.below(far >> 12) << 12 : this.r.below(far);
    const count = file.write(bytes, pos) as number;
    if (this.lacks(count)) return;
    if (count < length) this.scarce++;
    if (count <= 0 || count > length) this.fail('write', length, count);
    node.write(bytes.subarray(0, count), append ? node.data.length : pos);
  }

  truncate(): void {
    const [v, n] = this.dir();
    const found = this.lookup(v, n, this.name());
    if (found === null || found[1].kind !== 'file') return;
    const { length } = found[1].data;
    const size = this.r.one_in(3) ? this.r.below(this.shape.file) : this.r.below(length + 1);
    const result = settle(found[0].setattr({ size }, CALLER));
    if (this.lacks(result)) return;
    if (result !== 0) this.fail('truncate', 0, errno_name(result));
    found[1].resize(size);
  }

  read(): void {
    if (this.open.length === 0) return;
    const { file, node } = this.r.pick(this.open);
    const buf = new Uint8Array(this.r.range(1, this.r.one_in(4) ? 400_000 : 20_000));
    const pos = this.r.below(node.data.length + 5000);
    const count = file.read(buf, pos);
    if (this.lacks(count)) return;
    const want = node.data.subarray(pos, pos + buf.length);
    // Without memory a read may end early, at the end of a page.
    const early = count > 0 && (pos + count) % this.shape.page_size === 0;
    if (count > want.length || (count < want.length && !early)) {
      this.fail('read', want.length, count);
    }
    if (Buffer.compare(buf.subarray(0, count), want.subarray(0, count)) !== 0) {
      this.fail('read: bytes', hash(want.subarray(0, count)), hash(buf.subarray(0, count)));
    }
  }

  disturb(): void {
    const { m, r } = this;
    switch (r.below(7)) {
      case 0:
        run_job(drop_pagecache(m));
        break;
      case 1:
        run_job(advance_clock(m, r.range(1, 40_000)));
        break;
      case 2:
        run_job(sync_filesystems(m));
        break;
      case 3:
        run_job(compact_nodes(m));
        break;
      case 4:
        prune_dcache(m, r.below(50));
        prune_icache(m, r.below(50));
        break;
      case 5:
        this.sync_one();
        break;
      default:
        run_job(advance_clock(m, 1));
    }
  }

  sync_one(): void {
    if (this.open.length === 0) return;
    const result = this.r.pick(this.open).file.fsync(false);
    const err = is_job(result) ? run_job(result) : result;
    if (err !== 0 && !this.lacks(err)) this.fail('fsync', 0, errno_name(err));
  }

  /** All names, attributes and bytes of the tree. */
  compare(v: Vnode, n: NaiveNode): void {
    const attr = v.getattr();
    if (attr.nlink !== n.nlink) this.fail('nlink', n.nlink, attr.nlink);
    if ((attr.mode & 0o7777) !== n.mode) this.fail('mode', n.mode, attr.mode & 0o7777);
    if (n.kind === 'dir') {
      const names = v.readdir();
      if (typeof names === 'number') this.fail('readdir', 'names', names);
      const got = names.map((d) => d.name).sort();
      const want = [...n.entries.keys()].sort();
      if (got.join('\n') !== want.join('\n')) this.fail('readdir', want, got);
      for (const [name, node] of n.entries) {
        const child = v.lookup(name);
        if (child instanceof Vnode) this.compare(child, node);
        else if (!SCARCE.has(errno_name(child))) this.fail('lookup', 'a node', child);
      }
      return;
    }
    const size = n.kind === 'file' ? n.data.length : Buffer.byteLength(n.target);
    if (attr.size !== size) this.fail('size', size, attr.size);
    if (n.kind === 'link') {
      const target = v.readlink();
      if (!this.scarce_result(target) && target !== n.target) {
        this.fail('readlink', n.target, target);
      }
      return;
    }
    const file = v.open(0, CALLER);
    if (typeof file === 'number') {
      if (!SCARCE.has(errno_name(file))) this.fail('open', 'a file', errno_name(file));
      return;
    }
    this.compare_bytes(file, n);
    file.release();
  }

  private scarce_result(result: unknown): boolean {
    return typeof result === 'number' && result < 0 && SCARCE.has(errno_name(result));
  }

  compare_bytes(file: OpenFile, n: NaiveNode): void {
    const buf = new Uint8Array(128 * 1024);
    for (let pos = 0; pos < n.data.length; ) {
      let count = file.read(buf, pos);
      if (this.scarce_result(count)) {
        run_job(drop_pagecache(this.m));
        count = file.read(buf, pos);
        if (this.scarce_result(count)) return;
      }
      if (count <= 0) this.fail('read', 'bytes', count);
      const want = n.data.subarray(pos, pos + count);
      if (Buffer.compare(buf.subarray(0, count), want) !== 0) {
        let i = 0;
        while (want[i] === buf[i]) i++;
        this.fail('compare: byte ' + (pos + i), want[i], buf[i]);
      }
      pos += count;
    }
  }

  /** Everything: the tree, open files, the machine. */
  check_all(): void {
    this.compare(this.root, this.naive.root);
    for (const { file, node } of this.open) this.compare_bytes(file, node);
    debug_vm(this.m);
  }
}

function hash(bytes: Uint8Array): string {
  return `${bytes.length} bytes ${createHash('sha256').update(bytes).digest('hex').slice(0, 12)}`;
}

const ACTIONS: [number, (run: DiskRun) => void][] = [
  [10, (run) => run.create()],
  [3, (run) => run.mkdir()],
  [2, (run) => run.symlink()],
  [3, (run) => run.link()],
  [5, (run) => run.unlink()],
  [2, (run) => run.rmdir()],
  [6, (run) => run.rename()],
  [12, (run) => run.open_file()],
  [30, (run) => run.write()],
  [6, (run) => run.truncate()],
  [16, (run) => run.read()],
  [5, (run) => run.disturb()],
];

export const disk_model: Model = {
  name: 'disk',
  shapes: Object.keys(SHAPES),
  run({ seed, events, shape, check_every }: ModelOptions): number {
    const run = new DiskRun(seed, SHAPES[shape]!);
    const weights = ACTIONS.map(([weight]) => weight);
    for (let i = 1; i <= events; i++) {
      const at = run.r.weighted(weights);
      try {
        ACTIONS[at]![1](run);
        if (i % check_every === 0) run.check_all();
      } catch (error) {
        (error as Error).message += ` (event ${i})`;
        throw error;
      }
    }
    run.check_all();
    // Everything goes, and nothing may be left of it.
    while (run.open.length > 0) run.close(0);
    run.check_all();
    const fs = disk_of(run.m)!;
    const remove = (v: Vnode, n: NaiveNode): void => {
      for (const [name, node] of n.entries) {
        if (node.kind !== 'dir') run.check('unlink', 'OK', settle(v.unlink(name)));
        else {
          const child = v.lookup(name);
          if (!(child instanceof Vnode)) return;
          remove(child, node);
          v.rmdir(name);
        }
      }
    };
    remove(run.root, run.naive.root);
    const { bfree, blocks } = run.root.statfs();
    const left = blocks - bfree - run.root.getattr().blocks / 8;
    if (fs.inodes.size === 1 && left !== 0) run.fail('blocks in use at the end', 0, left);
    // A page on an LRU list that no mapping knows would never be freed.
    lru_add_drain_all(run.m);
    const listed =
      global_page_state(run.m, NR_ACTIVE_FILE) + global_page_state(run.m, NR_INACTIVE_FILE);
    const cached = global_page_state(run.m, NR_FILE_PAGES);
    if (listed !== cached) run.fail('file pages on lists at the end', cached, listed);
    debug_vm(run.m);
    return events;
  },
};
