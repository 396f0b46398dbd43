/**
 * Taking and giving back blocks and inodes of the disk.
 *
 * A file's next block is the one behind its last, or the first free stretch of eight behind it in
 * the same group, or any free block of the group, or of the groups after it. Directories below
 * the root spread over the groups, everything else stays in its directory's group. Changes mark
 * bitmap and descriptor blocks in the device's page cache.
 * Linux: fs/ext2/balloc.c, ialloc.c. Differs: no reservation windows, a simple form of Orlov.
 */
import { BUG_ON } from '../../lib/bug.ts';
import { ENOSPC } from '../../lib/errno.ts';
import { forget_block } from '../../mm/buffer.ts';
import type { Machine } from '../../mm/mmzone.ts';
import {
  BLOCK,
  BLOCKS_PER_GROUP,
  block_bitmap,
  type DiskFs,
  dirty_metadata,
  find_next_zero_bit,
  type Group,
  ROOT_INO,
  Transaction,
} from './disk_fs.ts';

/** A free bit of the group, from `goal` on if possible; -1 when there is none. */
function find_free_block(group: Group, goal: number): number {
  const bitmap = block_bitmap(group);
  const { nr_blocks } = group;
  if (goal < nr_blocks && (bitmap[goal >>> 5]! & (1 << (goal & 31))) === 0) return goal;
  // A stretch of eight free blocks, so that the file goes on in one piece.
  for (let bit = (goal + 7) & ~7; bit + 8 <= nr_blocks; bit += 8) {
    if (((bitmap[bit >>> 5]! >>> (bit & 31)) & 0xff) === 0) return bit;
  }
  const behind = find_next_zero_bit(bitmap, goal, nr_blocks);
  return behind >= 0 ? behind : find_next_zero_bit(bitmap, 0, Math.min(goal, nr_blocks));
}

/**
 * Takes a block, near `goal`. Returns it, or -ENOSPC, -ENOMEM or -EIO with nothing changed
 * (ext2_new_block).
 */
export function new_block(m: Machine, fs: DiskFs, goal: number): number {
  if (fs.free_blocks === 0) return -ENOSPC;
  const nr_groups = fs.groups.length;
  const start = Math.min(Math.floor(goal / BLOCKS_PER_GROUP), nr_groups - 1);
  for (let i = 0; i < nr_groups; i++) {
    const group = fs.groups[(start + i) % nr_groups]!;
    if (group.free_blocks === 0) continue;
    const bit = find_free_block(group, i === 0 ? goal - group.first : 0);
    BUG_ON(bit < 0, 'new_block: the group has no free block after all');
    const change = new Transaction();
    let err = change.add(m, fs, group.block_bitmap_block);
    if (err === 0) err = change.add(m, fs, fs.descriptor_block(group));
    if (err !== 0) {
      change.abort(m);
      return err;
    }
    change.commit(m);
    group.block_bitmap![bit >>> 5]! |= 1 << (bit & 31);
    group.free_blocks--;
    fs.free_blocks--;
    return group.first + bit;
  }
  return -ENOSPC;
}

/** Blocks that are being freed together: neighbours go back to the device in one call. */
export class FreedBlocks {
  private readonly m: Machine;
  private readonly fs: DiskFs;
  private first = 0;
  private count = 0;
  private group: Group | null = null;
  nr_freed = 0;

  constructor(m: Machine, fs: DiskFs) {
    this.m = m;
    this.fs = fs;
  }

  /** Frees a block of metadata. */
  free_metadata(block: number): void {
    forget_block(this.m, this.fs.bdev, block);
    this.free(block);
  }

  /** Frees a block. Cannot fail (ext2_free_blocks). */
  free(block: number): void {
    const { m, fs } = this;
    const group = fs.groups[Math.floor(block / BLOCKS_PER_GROUP)]!;
    const bit = block - group.first;
    const bitmap = block_bitmap(group);
    BUG_ON((bitmap[bit >>> 5]! & (1 << (bit & 31))) === 0, 'free_block: the block is free');
    bitmap[bit >>> 5]! &= ~(1 << (bit & 31));
    group.free_blocks++;
    fs.free_blocks++;
    this.nr_freed++;
    if (group !== this.group) {
      this.group = group;
      // Without memory the placeholder on the device stays old; nothing depends on it.
      dirty_metadata(m, fs, group.block_bitmap_block);
      dirty_metadata(m, fs, fs.descriptor_block(group));
    }
    if (this.count > 0 && block === this.first + this.count) {
      this.count++;
      return;
    }
    this.finish();
    this.first = block;
    this.count = 1;
  }

  /** To be called after the last block. */
  finish(): void {
    if (this.count === 0) return;
    this.m.block_devices[this.fs.dev]!.device.discard(this.first * BLOCK, this.count * BLOCK);
    this.count = 0;
  }
}

/** The group for a new inode in the directory `parent`. */
function find_group(fs: DiskFs, parent: number, is_dir: boolean): number {
  const home = Math.floor((parent - 1) / fs.inodes_per_group);
  if (is_dir && parent === ROOT_INO) {
    // The emptiest, so that trees do not get in each other's way; the first of equals.
    let best = 0;
    for (let g = 1; g < fs.groups.length; g++) {
      const a = fs.groups[g]!;
      const b = fs.groups[best]!;
      if (a.used_dirs < b.used_dirs && a.free_inodes > 0 && a.free_blocks > 0) best = g;
    }
    return best;
  }
  return home;
}

/**
 * Takes an inode number for a file in directory `parent`. `change` gets the metadata blocks that it
 * touches; the number is taken when the caller calls `claim_inode`. -ENOSPC, -ENOMEM, -EIO
 * (ext2_new_inode).
 */
export function find_inode(
  m: Machine,
  fs: DiskFs,
  parent: number,
  is_dir: boolean,
  change: Transaction,
): number {
  const start = find_group(fs, parent, is_dir);
  for (let i = 0; i < fs.groups.length; i++) {
    const g = (start + i) % fs.groups.length;
    const group = fs.groups[g]!;
    if (group.free_inodes === 0) continue;
    group.inode_bitmap ??= new Uint32Array(Math.ceil(fs.inodes_per_group / 32));
    const bit = find_next_zero_bit(group.inode_bitmap, 0, fs.inodes_per_group);
    BUG_ON(bit < 0, 'find_inode: the group has no free inode after all');
    let err = change.add(m, fs, group.inode_bitmap_block);
    if (err === 0) err = change.add(m, fs, fs.descriptor_block(group));
    if (err === 0) err = change.add(m, fs, group.inode_table + Math.floor(bit / 16));
    return err !== 0 ? err : g * fs.inodes_per_group + bit + 1;
  }
  return -ENOSPC;
}

/** Marks an inode number as used. */
export function claim_inode(fs: DiskFs, ino: number, is_dir: boolean): void {
  const group = fs.group_of_inode(ino);
  const bit = (ino - 1) % fs.inodes_per_group;
  group.inode_bitmap![bit >>> 5]! |= 1 << (bit & 31);
  group.free_inodes--;
  fs.free_inodes--;
  if (is_dir) group.used_dirs++;
}

/** Gives an inode number back. Cannot fail (ext2_free_inode). */
export function free_inode(m: Machine, fs: DiskFs, ino: number, is_dir: boolean): void {
  const group = fs.group_of_inode(ino);
  const bit = (ino - 1) % fs.inodes_per_group;
  group.inode_bitmap![bit >>> 5]! &= ~(1 << (bit & 31));
  group.free_inodes++;
  fs.free_inodes++;
  if (is_dir) group.used_dirs--;
  dirty_metadata(m, fs, group.inode_bitmap_block);
  dirty_metadata(m, fs, fs.descriptor_block(group));
}
