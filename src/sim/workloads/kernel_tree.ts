/**
 * Source trees of a kernel on the disk: what they consist of, expanding them, walking over them.
 *
 * Each build of the published third test has a tree of its own, and the test ends by deleting them:
 * so it begins by expanding them. A process writes file after file, so that names, inodes,
 * metadata and data come into memory side by side and fill it, as long as they fit.
 * Facts: Linux 2.6.35 has 33,316 files of 412 MB (its announcement) in some 1,950 directories.
 * Choices: how sizes are spread around that mean, names of less than 32 letters, trees one after the
 * other. The walk is updatedb's: it reads directories and looks at each name once.
 */
import { type DiskVnode, disk_of, disk_root } from '../../fs/disk/index.ts';
import { O_RDONLY, O_WRONLY, type Vnode } from '../../fs/vfs.ts';
import type { Prng } from '../../lib/prng.ts';
import { __bread, brelse } from '../../mm/buffer.ts';
import type { Machine } from '../../mm/mmzone.ts';
import { command } from './command.ts';
import { COST } from './costs.ts';
import type { Reads } from './disk_time.ts';
import type { Journal } from './journal.ts';
import type { Process } from './scheduler.ts';
import type { Program, Shell } from './userland.ts';

const ROOT = { uid: 0, gid: 0, pid: 1 };

const TAR: Program = { name: 'tar', text: 70, data: 6, bss: 6, heap: 40, stack: 4 };
const UPDATEDB: Program = { name: 'updatedb', text: 60, data: 4, bss: 4, heap: 60, stack: 3 };

export const KERNEL_TREE = {
  dirs: 1950,
  files: 33_316,
  /** Blocks of 4 KiB: of 1000 files so many have `from` to `to`. 3.4 on average. */
  sizes: [
    { files: 450, from: 1, to: 1 },
    { files: 170, from: 2, to: 2 },
    { files: 110, from: 3, to: 3 },
    { files: 80, from: 4, to: 4 },
    { files: 115, from: 5, to: 8 },
    { files: 60, from: 9, to: 16 },
    { files: 15, from: 17, to: 40 },
  ],
} as const;

/** What tar writes at once (GNU tar: 20 blocks of 512 bytes): pages on its borders are written twice. */
const TAR_RECORD = 10_240;

/** How many directories and files a tree has: KERNEL_TREE, or less on a small machine. */
export interface TreeSize {
  readonly dirs: number;
  readonly files: number;
}

function draw_blocks(prng: Prng): number {
  let at = prng.below(1000);
  for (const { files, from, to } of KERNEL_TREE.sizes) {
    if (at < files) return prng.range(from, to);
    at -= files;
  }
  return 1;
}

/** The first file of directory `d`. */
export function first_file(size: TreeSize, d: number): number {
  return Math.floor((d * size.files) / size.dirs);
}

function* extract(m: Machine, name: string, size: TreeSize, prng: Prng): Process {
  const top = disk_root(m).mkdir(name, 0o755, ROOT) as Vnode;
  const buf = new Uint8Array(TAR_RECORD);
  for (let d = 0; d < size.dirs; d++) {
    const dir = top.mkdir(`d${d}`, 0o755, ROOT);
    yield COST.create;
    if (typeof dir === 'number') continue;
    for (let f = first_file(size, d); f < first_file(size, d + 1); f++) {
      const node = dir.create(`f${f}`, 0o644, ROOT);
      yield COST.create;
      if (typeof node === 'number') continue;
      const file = node.open(O_WRONLY, ROOT);
      if (typeof file !== 'number') {
        const bytes = draw_blocks(prng) * 4096 - prng.below(4096);
        for (let pos = 0; pos < bytes; pos += TAR_RECORD) {
          file.write(bytes - pos < TAR_RECORD ? buf.subarray(0, bytes - pos) : buf, pos);
          yield COST.write_block * 2.5;
        }
        file.release();
      }
      node.forget();
    }
    dir.forget();
  }
}

/** A process that expands trees `names`, one after the other. */
export function* expand(m: Machine, shell: Shell, names: string[], size: TreeSize): Process {
  const prng = m.prng.fork('kernel trees');
  for (const name of names) {
    yield* command(m, shell, TAR, () => extract(m, name, size, prng));
  }
}

/** A process that walks over everything on the disk once. */
export function updatedb(m: Machine, shell: Shell, disk: Reads, journal: Journal): Process {
  const walk = function* (dir: Vnode, ino: number): Process {
    const fs = disk_of(m)!;
    disk.begin();
    for (const block of fs.inodes.get(ino)!.directory!.blocks) {
      const bh = __bread(m, fs.bdev, block, true);
      if (bh > 0) brelse(m, bh);
    }
    const wait = disk.wait();
    if (wait > 0) yield -wait;
    const { atime } = (dir as DiskVnode).inode;
    const names = dir.readdir();
    if (typeof names === 'number') return;
    if ((dir as DiskVnode).inode.atime !== atime) journal.inode(dir as DiskVnode);
    for (const { name, ino } of names) {
      disk.begin();
      const node = dir.lookup(name);
      const wait = disk.wait();
      yield COST.stat;
      if (wait > 0) yield -wait;
      if (typeof node === 'number') continue;
      if (fs.inodes.get(ino)?.directory) yield* walk(node, ino);
      node.forget();
    }
  };
  return command(m, shell, UPDATEDB, () => walk(disk_root(m), 2));
}

/** Reads a file of a tree from its beginning to its end. */
export function* read_file(
  disk: Reads,
  journal: Journal,
  dir: Vnode,
  name: string,
  buf: Uint8Array,
): Process {
  disk.begin();
  const node = dir.lookup(name);
  if (typeof node === 'number') return;
  const { atime } = (node as DiskVnode).inode;
  const file = node.open(O_RDONLY, ROOT);
  if (typeof file !== 'number') {
    let blocks = 0;
    while ((file.read(buf, blocks * buf.length) as number) > 0) blocks++;
    file.release();
    if ((node as DiskVnode).inode.atime !== atime) journal.inode(node as DiskVnode);
    const wait = disk.wait();
    yield COST.open_cached + blocks * COST.read_cached;
    if (wait > 0) yield -wait;
  }
  node.forget();
}
