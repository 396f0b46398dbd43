/**
 * Inodes of the disk: where a file's blocks are, and an inode's life from creation to eviction.
 *
 * A file maps its first 12 blocks in the inode, the next 1024 through an indirect block, and so on
 * with double and triple indirect blocks, as ext2 does: each is a block of the device whose page
 * gets dirty when it changes. An inode in core has a slab object; it goes when name, open files
 * and the object have gone, and its pages and blocks with it.
 * Linux: fs/ext2/inode.c, fs/inode.c.
 */
import { BUG_ON } from '../../lib/bug.ts';
import { EFBIG, ENOMEM } from '../../lib/errno.ts';
import { is_job, type Job } from '../../lib/kthread.ts';
import {
  type AddressSpace,
  type AddressSpaceOperations,
  BUFFER_MIGRATE_PAGE,
  MAX_PAGE_INDEX,
} from '../../mm/address_space.ts';
import {
  __bread,
  __set_page_dirty_buffers,
  block_truncate_page,
  block_write_full_page,
  brelse,
  mpage_readpage,
} from '../../mm/buffer.ts';
import { GFP_HIGHUSER_MOVABLE, GFP_KERNEL } from '../../mm/gfp.ts';
import { unmap_mapping_range } from '../../mm/memory.ts';
import type { Machine } from '../../mm/mmzone.ts';
import {
  __mark_inode_dirty,
  filemap_write_and_wait,
  forget_dirty_mapping,
} from '../../mm/page_writeback.ts';
import { kmem_cache_alloc, kmem_cache_free } from '../../mm/slub.ts';
import { truncate_partial_page, truncate_some_pages } from '../../mm/truncate.ts';
import { FreedBlocks, free_inode, new_block } from './balloc.ts';
import {
  BLOCK,
  BLOCKS_PER_GROUP,
  type DiskFs,
  DiskInode,
  dirty_metadata,
  IndirectBlock,
  MAX_FILE_SIZE,
  NDIR_BLOCKS,
  PTRS,
  ROOT_INO,
} from './disk_fs.ts';
import { note_unused } from './shrink.ts';

/** A file with more pages and blocks than this is cut by a job that pauses. */
const CUT_AT_ONCE = 1024;
/** Key of the triple indirect block in DiskInode.upper; double ones count from 0. */
const TRIPLE = -1;

/** The device block of a file's block, -1 for a hole. */
function find_block(inode: DiskInode, block: number): number {
  if (block < NDIR_BLOCKS) return inode.direct![block]!;
  const at = block - NDIR_BLOCKS;
  const chunk = inode.indirect!.get(Math.floor(at / PTRS));
  return chunk === undefined ? -1 : chunk.map[at % PTRS]!;
}

/** Where the first block of a file is looked for: spread over its group by inode number. */
function first_goal(inode: DiskInode): number {
  const group = inode.fs.group_of_inode(inode.ino);
  const colour = (inode.ino % 16) * (BLOCKS_PER_GROUP / 16);
  return group.first + Math.max(group.overhead, colour);
}

/** A block near the file's last one. */
function take_block(m: Machine, inode: DiskInode): number {
  const block = new_block(m, inode.fs, inode.goal > 0 ? inode.goal : first_goal(inode));
  if (block >= 0) {
    inode.goal = block + 1;
    inode.nr_blocks++;
  }
  return block;
}

/** An indirect block with its page in the device's cache; -errno with nothing changed. */
function take_indirect(m: Machine, inode: DiskInode): number {
  const { fs } = inode;
  const block = take_block(m, inode);
  if (block < 0) return block;
  const err = dirty_metadata(m, fs, block, true);
  if (err === 0) return block;
  give_back(m, inode, block);
  return err;
}

function give_back(m: Machine, inode: DiskInode, block: number): void {
  const freed = new FreedBlocks(m, inode.fs);
  freed.free_metadata(block);
  freed.finish();
  inode.nr_blocks--;
}

/** The double or triple indirect block `key`, one child more; -errno with nothing changed. */
function hold_upper(m: Machine, inode: DiskInode, key: number): number {
  const upper = inode.upper!.get(key);
  if (upper !== undefined) {
    const err = dirty_metadata(m, inode.fs, upper.block);
    if (err !== 0) return err;
    upper.count++;
    return 0;
  }
  if (key > 0) {
    const err = hold_upper(m, inode, TRIPLE);
    if (err !== 0) return err;
  }
  const block = take_indirect(m, inode);
  if (block < 0) {
    if (key > 0) drop_upper(m, inode, TRIPLE, null);
    return block;
  }
  inode.upper!.set(key, { block, count: 1 });
  return 0;
}

function drop_upper(m: Machine, inode: DiskInode, key: number, freed: FreedBlocks | null): void {
  const upper = inode.upper!.get(key)!;
  if (--upper.count > 0) return;
  inode.upper!.delete(key);
  if (freed !== null) {
    freed.free_metadata(upper.block);
    inode.nr_blocks--;
  } else {
    give_back(m, inode, upper.block);
  }
  if (key > 0) drop_upper(m, inode, TRIPLE, freed);
}

/** The indirect block for a chunk of 1024 blocks, made if need be; -errno with nothing changed. */
function hold_chunk(m: Machine, inode: DiskInode, nr: number): IndirectBlock | number {
  const present = inode.indirect!.get(nr);
  if (present !== undefined) {
    const err = dirty_metadata(m, inode.fs, present.block);
    return err !== 0 ? err : present;
  }
  const key = Math.floor((nr - 1) / PTRS);
  if (nr > 0) {
    const err = hold_upper(m, inode, key);
    if (err !== 0) return err;
  }
  const block = take_indirect(m, inode);
  if (block < 0) {
    if (nr > 0) drop_upper(m, inode, key, null);
    return block;
  }
  const chunk = new IndirectBlock(block);
  inode.indirect!.set(nr, chunk);
  return chunk;
}

function drop_chunk(m: Machine, inode: DiskInode, nr: number, freed: FreedBlocks | null): void {
  const chunk = inode.indirect!.get(nr)!;
  inode.indirect!.delete(nr);
  if (freed !== null) {
    freed.free_metadata(chunk.block);
    inode.nr_blocks--;
  } else {
    give_back(m, inode, chunk.block);
  }
  if (nr > 0) drop_upper(m, inode, Math.floor((nr - 1) / PTRS), freed);
}

/** ext2_get_block: see AddressSpaceOperations.get_block. */
function get_block(m: Machine, mapping: AddressSpace, block: number, create: boolean): number {
  const inode = mapping.host as DiskInode;
  const found = find_block(inode, block);
  if (found >= 0 || !create) return found;
  if ((block + 1) * BLOCK > MAX_FILE_SIZE) return -EFBIG;
  if (block < NDIR_BLOCKS) {
    const taken = take_block(m, inode);
    if (taken >= 0) inode.direct![block] = taken;
    return taken;
  }
  const at = block - NDIR_BLOCKS;
  const nr = Math.floor(at / PTRS);
  const chunk = hold_chunk(m, inode, nr);
  if (typeof chunk === 'number') return chunk;
  const taken = take_block(m, inode);
  if (taken < 0) {
    if (chunk.count === 0) drop_chunk(m, inode, nr, null);
    return taken;
  }
  chunk.map[at % PTRS] = taken;
  chunk.count++;
  return taken;
}

/** Brings the inode table's page up to date (ext2_write_inode). Kept for later without memory. */
export function write_inode(m: Machine, inode: DiskInode): void {
  if (!inode.dirty) return;
  const { fs } = inode;
  if (dirty_metadata(m, fs, fs.inode_table_block(inode.ino)) === 0) inode.dirty = false;
}

function write_inode_of(m: Machine, mapping: AddressSpace): void {
  write_inode(m, mapping.host as DiskInode);
}

/** Data pages of the disk's files (ext2_aops). */
export const disk_aops: AddressSpaceOperations = {
  name: 'disk',
  migratepage: BUFFER_MIGRATE_PAGE,
  account_dirty: true,
  readpage: mpage_readpage,
  writepage: block_write_full_page,
  set_page_dirty: __set_page_dirty_buffers,
  get_block,
  write_inode: write_inode_of,
};

/** Notes a change of the inode; its table is written with the file's pages, or now. */
export function mark_inode_dirty(m: Machine, inode: DiskInode): void {
  inode.dirty = true;
  if (inode.mapping !== null) __mark_inode_dirty(m, inode.mapping);
  else write_inode(m, inode);
}

/** Size in bytes as stat tells it. */
export function inode_size(inode: DiskInode): number {
  if (inode.directory !== null) return inode.directory.blocks.length * BLOCK;
  if (inode.fast_symlink !== null) return utf8_length(inode.fast_symlink);
  return inode.mapping === null ? 0 : inode.mapping.i_size;
}

/** Bytes of a string in UTF-8; a lone surrogate counts 3, as its replacement does. */
export function utf8_length(text: string): number {
  let bytes = 0;
  for (let i = 0; i < text.length; i++) {
    const c = text.charCodeAt(i);
    if (c < 0x80) bytes += 1;
    else if (c < 0x800) bytes += 2;
    else if (c >= 0xd800 && c < 0xdc00 && (text.charCodeAt(i + 1) & 0xfc00) === 0xdc00) {
      bytes += 4;
      i++;
    } else bytes += 3;
  }
  return bytes;
}

/** An inode object that is not linked anywhere yet; null without memory for its slab object. */
export function alloc_inode(
  m: Machine,
  fs: DiskFs,
  ino: number,
  mode: number,
  parent: number,
  has_data: boolean,
): DiskInode | null {
  const object = kmem_cache_alloc(m, m.slab.find('ext2_inode_cache'), GFP_KERNEL);
  if (object === 0) return null;
  const mapping = has_data
    ? m.mappings.create(disk_aops, GFP_HIGHUSER_MOVABLE, null, fs.dev)
    : null;
  const inode = new DiskInode(fs, ino, mode, mapping, parent);
  inode.object = object;
  if (mapping !== null) mapping.host = inode;
  inode.atime = inode.mtime = inode.ctime = m.clock.real_ms();
  return inode;
}

/** Makes sure that an inode is in core. 0 or -ENOMEM (fs/inode.c: iget_locked, ext2_iget). */
export function iget(m: Machine, inode: DiskInode): number {
  if (inode.object !== 0 || inode.ino === ROOT_INO) return 0;
  const { fs } = inode;
  // The inode is read from its table. Without memory for that page it is known all the same.
  const bh = __bread(m, fs.bdev, fs.inode_table_block(inode.ino), true);
  if (bh > 0) brelse(m, bh);
  inode.object = kmem_cache_alloc(m, m.slab.find('ext2_inode_cache'), GFP_KERNEL);
  if (inode.object === 0) return -ENOMEM;
  note_unused(inode);
  return 0;
}

/** Frees the blocks that chunk `nr` maps, from its entry `from` on. */
function free_chunk_from(m: Machine, inode: DiskInode, nr: number, from: number): void {
  const freed = new FreedBlocks(m, inode.fs);
  const chunk = inode.indirect!.get(nr)!;
  for (let i = from; i < PTRS && chunk.count > 0; i++) {
    if (chunk.map[i]! < 0) continue;
    freed.free(chunk.map[i]!);
    inode.nr_blocks--;
    chunk.map[i] = -1;
    chunk.count--;
  }
  if (chunk.count === 0) drop_chunk(m, inode, nr, freed);
  else dirty_metadata(m, inode.fs, chunk.block);
  freed.finish();
}

/** Frees the blocks of one chunk that lies wholly behind block `first`. False: there is none. */
function free_one_chunk(m: Machine, inode: DiskInode, first: number): boolean {
  const whole = Math.ceil(Math.max(0, first - NDIR_BLOCKS) / PTRS);
  for (const nr of inode.indirect!.keys()) {
    if (nr < whole) continue;
    free_chunk_from(m, inode, nr, 0);
    return true;
  }
  return false;
}

/** Frees the blocks from `first` on that free_one_chunk leaves (ext2_truncate_blocks). */
function free_last_blocks(m: Machine, inode: DiskInode, first: number): void {
  const at = first - NDIR_BLOCKS;
  const nr = Math.floor(at / PTRS);
  if (at > 0 && at % PTRS > 0 && inode.indirect!.has(nr)) free_chunk_from(m, inode, nr, at % PTRS);
  const freed = new FreedBlocks(m, inode.fs);
  const { direct } = inode;
  for (let i = first; i < NDIR_BLOCKS; i++) {
    if (direct![i]! < 0) continue;
    freed.free(direct![i]!);
    inode.nr_blocks--;
    direct![i] = -1;
  }
  freed.finish();
  inode.goal = 0;
  for (let block = Math.min(first, NDIR_BLOCKS) - 1; block >= 0; block--) {
    if (direct![block]! < 0) continue;
    inode.goal = direct![block]! + 1;
    break;
  }
}

/** One step of freeing what lies behind the cut: pages first, then blocks. Cannot fail. */
function cut_some(m: Machine, inode: DiskInode): void {
  const mapping = inode.mapping!;
  const first_page = Math.ceil(inode.cut / (1 << m.shape.page_shift));
  if (truncate_some_pages(m, mapping, first_page) >= 0) return;
  const first_block = Math.ceil(inode.cut / BLOCK);
  if (free_one_chunk(m, inode, first_block)) return;
  free_last_blocks(m, inode, first_block);
  inode.cut = -1;
  if (!inode.dead) return;
  forget_dirty_mapping(m, mapping);
  m.mappings.destroy(mapping);
  free_dead_inode(m, inode);
}

/**
 * Ends at once what a job has left of a cut: for whoever needs i_mutex, which Linux holds
 * meanwhile, and cannot wait.
 */
export function finish_cut(m: Machine, inode: DiskInode): void {
  while (inode.cut >= 0) cut_some(m, inode);
}

function* cut_job(m: Machine, inode: DiskInode): Job {
  while (inode.cut >= 0) {
    cut_some(m, inode);
    yield;
  }
  return 0;
}

/** Frees what lies behind byte `at`, which nobody can reach any more: now, or by a job. */
function cut_at(m: Machine, inode: DiskInode, at: number): number | Job {
  inode.cut = at;
  if (inode.mapping!.nrpages + inode.nr_blocks > CUT_AT_ONCE) return cut_job(m, inode);
  finish_cut(m, inode);
  return 0;
}

/** The rest of a truncation, by a caller who counts as a user of the inode until its end. */
function* truncate_job(m: Machine, inode: DiskInode, rest: Job): Job {
  yield* rest;
  inode.opens--;
  const gone = iput(m, inode);
  return is_job(gone) ? yield* gone : gone;
}

/**
 * Sets a file's size: cuts it off, or makes a hole at its end. 0, -EFBIG, or -ENOMEM and -EIO with
 * nothing changed, or a job that frees the rest of a large file (ext2_setsize).
 */
export function set_size(m: Machine, inode: DiskInode, size: number): number | Job {
  const mapping = inode.mapping!;
  if (size > MAX_FILE_SIZE) return -EFBIG;
  finish_cut(m, inode);
  let result: number | Job = 0;
  if (size < mapping.i_size) {
    const err = block_truncate_page(m, mapping, size);
    if (err !== 0) return err;
    mapping.i_size = size;
    // Processes lose their private copies behind the new end, too (truncate_pagecache).
    const first = Math.ceil(size / (1 << m.shape.page_shift));
    unmap_mapping_range(m, mapping, first, MAX_PAGE_INDEX, true);
    truncate_partial_page(m, mapping, size);
    const rest = cut_at(m, inode, size);
    if (is_job(rest)) {
      inode.opens++;
      inode.fs.inode_unused.delete(inode.ino);
      result = truncate_job(m, inode, rest);
    }
  } else {
    mapping.i_size = size;
  }
  inode.mtime = inode.ctime = m.clock.real_ms();
  mark_inode_dirty(m, inode);
  return result;
}

/** Frees what an inode without name and user has (ext2_delete_inode). Cannot fail. */
function delete_inode(m: Machine, inode: DiskInode): number | Job {
  const { fs, mapping } = inode;
  BUG_ON(inode.dead, 'delete_inode: deleted twice');
  inode.dead = true;
  fs.inode_unused.delete(inode.ino);
  if (mapping !== null) {
    // Nobody writes it back any more (I_FREEING).
    forget_dirty_mapping(m, mapping);
    mapping.i_size = 0;
    return cut_at(m, inode, 0);
  }
  free_dead_inode(m, inode);
  return 0;
}

/** Frees a deleted inode itself, and a directory's blocks. */
function free_dead_inode(m: Machine, inode: DiskInode): void {
  const { fs } = inode;
  if (inode.directory !== null) {
    const freed = new FreedBlocks(m, fs);
    for (const block of inode.directory.blocks) freed.free_metadata(block);
    freed.finish();
    inode.directory.blocks.length = 0;
    inode.directory.room.length = 0;
    inode.nr_blocks = 0;
  }
  BUG_ON(inode.nr_blocks !== 0, 'delete_inode: blocks are left');
  if (inode.object !== 0) kmem_cache_free(m, m.slab.find('ext2_inode_cache'), inode.object);
  inode.object = 0;
  fs.inode_unused.delete(inode.ino);
  fs.inodes.delete(inode.ino);
  free_inode(m, fs, inode.ino, inode.is_dir());
}

/**
 * Called when a name or an open file has gone: deletes the inode after the last of both. Returns 0,
 * or a job that frees the rest of a large file.
 */
export function iput(m: Machine, inode: DiskInode): number | Job {
  if (inode.nlink === 0 && inode.opens === 0 && !inode.dead) return delete_inode(m, inode);
  note_unused(inode);
  return 0;
}

/** Writes a file's pages and inode to the device and waits (ext2_fsync). Ends in 0 or -EIO. */
export function* fsync_inode(m: Machine, inode: DiskInode): Job {
  const err = inode.mapping === null ? 0 : yield* filemap_write_and_wait(m, inode.mapping);
  write_inode(m, inode);
  const flushed = m.block_devices[inode.fs.dev]!.device.flush();
  return err === 0 && flushed < 0 ? flushed : err;
}
