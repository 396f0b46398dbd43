/**
 * What experiments use instead of a host file as disk: no bytes are kept, neither on the device
 * nor in memory, since no experiment looks at file data; and a disk that is full of files already.
 *
 * All that memory management sees stays: pages, buffers, metadata blocks, write-back and its time.
 */

import { claim_inode } from '../../fs/disk/balloc.ts';
import {
  BLOCK,
  block_bitmap,
  type DiskFs,
  DiskInode,
  NDIR_BLOCKS,
  new_entry,
  ROOT_INO,
} from '../../fs/disk/disk_fs.ts';
import { disk_aops } from '../../fs/disk/inode.ts';
import { S_IFDIR, S_IFREG } from '../../fs/vfs.ts';
import { BUG_ON } from '../../lib/bug.ts';
import type { BlockDevice } from '../../mm/block_device.ts';
import { Contents } from '../../mm/contents.ts';
import { GFP_HIGHUSER_MOVABLE } from '../../mm/gfp.ts';
import type { Machine } from '../../mm/mmzone.ts';

/** Takes everything and reads as zeroes. */
export class NullDevice implements BlockDevice {
  readonly size: number;

  constructor(size: number) {
    this.size = size;
  }

  read(buf: Uint8Array): number {
    buf.fill(0);
    return 0;
  }

  write(): number {
    return 0;
  }

  flush(): number {
    return 0;
  }

  discard(): void {}
}

/** Frames whose bytes nobody asks for; tags of simulated pages stay. */
class NoBytes extends Contents {
  override write_page(): void {}
  override read_page(): void {}
}

/** Lets a machine forget what its files hold. To be called right after boot. */
export function forget_bytes(m: Machine): void {
  const contents = new NoBytes(m.memmap.nr_pages, 2 ** m.shape.page_shift);
  (m as { contents: Contents }).contents = contents;
}

/** The first inode number that is free in a group, or -1. */
function free_ino(fs: DiskFs, g: number): number {
  const group = fs.groups[g]!;
  group.inode_bitmap ??= new Uint32Array(Math.ceil(fs.inodes_per_group / 32));
  for (let bit = 0; bit < fs.inodes_per_group; bit++) {
    if ((group.inode_bitmap[bit >>> 5]! & (1 << (bit & 31))) === 0) {
      return g * fs.inodes_per_group + bit + 1;
    }
  }
  return -1;
}

function take_blocks(fs: DiskFs, g: number, nr: number): number[] {
  const group = fs.groups[g]!;
  const bitmap = block_bitmap(group);
  const taken: number[] = [];
  for (let bit = 0; bit < group.nr_blocks && taken.length < nr; bit++) {
    if ((bitmap[bit >>> 5]! & (1 << (bit & 31))) !== 0) continue;
    bitmap[bit >>> 5]! |= 1 << (bit & 31);
    taken.push(group.first + bit);
  }
  group.free_blocks -= taken.length;
  fs.free_blocks -= taken.length;
  return taken;
}

function add(m: Machine, fs: DiskFs, dir: DiskInode, name: string, ino: number, mode: number) {
  const mapping =
    mode >>> 12 === S_IFREG >>> 12
      ? m.mappings.create(disk_aops, GFP_HIGHUSER_MOVABLE, null, fs.dev)
      : null;
  const inode = new DiskInode(fs, ino, mode, mapping, dir.ino);
  if (mapping !== null) mapping.host = inode;
  claim_inode(fs, ino, mapping === null);
  fs.inodes.set(ino, inode);
  const entry = new_entry(dir, ino, mode & 0o170000, 0);
  dir.directory!.entries.set(name, entry);
  return inode;
}

/** Gives a file `nr` blocks of data, at most as many as its inode points to by itself. */
function add_data(fs: DiskFs, g: number, inode: DiskInode, nr: number): void {
  BUG_ON(nr > NDIR_BLOCKS, 'populate: such a file needs indirect blocks');
  const blocks = take_blocks(fs, g, nr);
  for (let i = 0; i < blocks.length; i++) inode.direct![i] = blocks[i]!;
  inode.nr_blocks = blocks.length;
  inode.mapping!.i_size = blocks.length * BLOCK;
}

/**
 * A tree of `dirs` directories with `files` files, as if it had been on the disk before the
 * machine was started: nothing of it is in memory. It fills the groups from the last one down.
 * The files have `data` blocks of data in all, one or three each (without it: none).
 */
export function populate(m: Machine, fs: DiskFs, dirs: number, files: number, data = 0): void {
  const longer = Math.max(0, data - files) / 2 / files;
  const root = fs.inodes.get(ROOT_INO)!;
  let g = fs.groups.length - 1;
  let nr = 0;
  for (let d = 0; d < dirs; d++) {
    const here = Math.floor(((d + 1) * files) / dirs) - Math.floor((d * files) / dirs);
    if (fs.groups[g]!.free_inodes < here + 1) g--;
    BUG_ON(g < 0, 'populate: the disk is too small');
    const dir = add(m, fs, root, `tree${d}`, free_ino(fs, g), S_IFDIR | 0o755);
    dir.nlink = 2;
    root.nlink++;
    // A name of 20 letters takes 28 bytes.
    const blocks = take_blocks(fs, g, Math.ceil((here * 28 + 24) / 4096));
    dir.directory!.blocks.push(...blocks);
    for (const _ of blocks) dir.directory!.room.push(0);
    dir.nr_blocks = blocks.length;
    for (let f = 0; f < here; f++) {
      const inode = add(m, fs, dir, `file${f}`, free_ino(fs, g), S_IFREG | 0o644);
      if (data > 0) {
        const long = Math.floor((nr + 1) * longer) > Math.floor(nr * longer);
        add_data(fs, g, inode, long ? 3 : 1);
      }
      nr++;
    }
  }
}
