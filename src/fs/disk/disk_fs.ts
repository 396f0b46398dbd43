/**
 * The emulated disk's file system: its layout and its state.
 *
 * The layout is that of ext2 with blocks of 4 KiB: groups of 32768 blocks, each with a block
 * bitmap, an inode bitmap and an inode table. File data lies in the page cache of the file, and
 * metadata blocks in the page cache of the device, so that using the file system fills memory with
 * the kinds of pages that a real one makes. What the metadata *says* is kept in plain objects
 * here; the metadata blocks on the device are placeholders. The disk lives as long as its machine.
 * Linux: fs/ext2/super.c, ext2.h. Differs: no superblock copies, no reserved blocks for root, no
 * extended attributes, directory blocks are cached with the device (as in ext3).
 */
import type { AddressSpace } from '../../mm/address_space.ts';
import { __bread, brelse, mark_buffer_dirty } from '../../mm/buffer.ts';
import type { Machine } from '../../mm/mmzone.ts';
import { S_IFDIR, S_IFMT, S_IFREG } from '../vfs.ts';

export const BLOCK = 4096;
export const BLOCKS_PER_GROUP = 32768;
const INODE_RATIO = 16384;
const INODES_PER_BLOCK = 16;
export const DESC_PER_BLOCK = 128;
export const ROOT_INO = 2;
/** The first inode that files get; those below are the file system's own. */
export const FIRST_INO = 11;
export const LINK_MAX = 32000;
export const NAME_MAX = 255;
/** What an inode with 512-byte block counts of 32 bits can address (ext2_max_size). */
export const MAX_FILE_SIZE = 2 ** 41 - BLOCK;

/** Block pointers in the inode itself, and in an indirect block. */
export const NDIR_BLOCKS = 12;
export const PTRS = 1024;

/** An indirect block: where it lies, and what it points to (-1: hole). */
export class IndirectBlock {
  readonly block: number;
  readonly map: Int32Array = new Int32Array(PTRS).fill(-1);
  count = 0;

  constructor(block: number) {
    this.block = block;
  }
}

/** A name in a directory. `dentry` and `name_object` are slab objects, 0 while not in core. */
export interface DirEntry {
  readonly dir: DiskInode;
  readonly ino: number;
  readonly mode: number;
  /** Which block of the directory holds it. */
  readonly slot: number;
  dentry: number;
  name_object: number;
  /** Stands for its inode, or, negative, for there being none: d_instantiate was called. */
  instantiated: boolean;
  /** Came onto the list of unused names and was not passed over yet (DCACHE_REFERENCED). */
  referenced: boolean;
  /** The name, once nothing has it any more and its dentry is still in core (a negative dentry). */
  negative: string | null;
}

/** An entry that is not in core. */
export function new_entry(dir: DiskInode, ino: number, mode: number, slot: number): DirEntry {
  return {
    dir,
    ino,
    mode,
    slot,
    dentry: 0,
    name_object: 0,
    instantiated: false,
    referenced: false,
    negative: null,
  };
}

/** What a directory has besides an inode. */
export class Directory {
  readonly entries: Map<string, DirEntry> = new Map();
  /** Removed names whose dentries are still in core. */
  readonly negatives: Map<string, DirEntry> = new Map();
  /** Device block of each of its blocks, and the bytes that are free in it. */
  readonly blocks: number[] = [];
  readonly room: number[] = [];
  parent: number;
  /** Its names that are in core: they keep it in core too. */
  nr_dentries = 0;
  /** Its own name while that is in core. */
  entry: DirEntry | null = null;

  constructor(parent: number) {
    this.parent = parent;
  }
}

export class DiskInode {
  readonly fs: DiskFs;
  readonly ino: number;
  mode: number;
  nlink = 1;
  uid = 0;
  gid = 0;
  rdev = 0;
  // Milliseconds since the epoch.
  atime = 0;
  mtime = 0;
  ctime = 0;
  /** Blocks of the device in use for it, indirect ones included. */
  nr_blocks = 0;
  /** Target of a symlink that fits into the inode; longer ones are file data. */
  fast_symlink: string | null = null;
  readonly directory: Directory | null;
  /** The file's cached pages and its size. */
  readonly mapping: AddressSpace | null;
  readonly direct: Int32Array | null;
  /** Indirect blocks by the number of the 1024 file blocks that they map. */
  readonly indirect: Map<number, IndirectBlock> | null;
  /** Double and triple indirect blocks: device block and number of children, by number. */
  readonly upper: Map<number, { block: number; count: number }> | null;
  /** Where the next block would best be: behind the last one. */
  goal = 0;
  /** Open files. */
  opens = 0;
  /** Slab object of the in-core inode, 0 while not in core, and the names in core that hold it. */
  object = 0;
  nr_dentries = 0;
  /** Names that reclaim found in use while it was open: off the list of unused ones until it is not. */
  busy_names: DirEntry[] | null = null;
  /** The inode table does not know the latest. */
  dirty = false;
  /** Nothing is left of it: neither name nor user. */
  dead = false;
  /** Being cut at this byte: pages and blocks behind it are still to be freed. -1: it is not. */
  cut = -1;

  constructor(fs: DiskFs, ino: number, mode: number, mapping: AddressSpace | null, parent: number) {
    this.fs = fs;
    this.ino = ino;
    this.mode = mode;
    this.mapping = mapping;
    this.directory = (mode & S_IFMT) === S_IFDIR ? new Directory(parent) : null;
    const data = mapping !== null;
    this.direct = data ? new Int32Array(NDIR_BLOCKS).fill(-1) : null;
    this.indirect = data ? new Map() : null;
    this.upper = data ? new Map() : null;
  }

  is_dir(): boolean {
    return this.directory !== null;
  }

  is_reg(): boolean {
    return (this.mode & S_IFMT) === S_IFREG;
  }
}

/** A block group. Bitmaps are made when the first block or inode of the group is taken. */
export class Group {
  /** First block of the group and how many it has. */
  readonly first: number;
  readonly nr_blocks: number;
  /** Blocks at its start that hold metadata. */
  readonly overhead: number;
  readonly block_bitmap_block: number;
  readonly inode_bitmap_block: number;
  readonly inode_table: number;
  free_blocks: number;
  free_inodes: number;
  used_dirs = 0;
  block_bitmap: Uint32Array | null = null;
  inode_bitmap: Uint32Array | null = null;

  constructor(first: number, nr_blocks: number, gdt_blocks: number, inodes: number) {
    this.first = first;
    this.nr_blocks = nr_blocks;
    this.block_bitmap_block = first + gdt_blocks;
    this.inode_bitmap_block = first + gdt_blocks + 1;
    this.inode_table = first + gdt_blocks + 2;
    this.overhead = gdt_blocks + 2 + Math.ceil(inodes / INODES_PER_BLOCK);
    this.free_blocks = nr_blocks - this.overhead;
    this.free_inodes = inodes;
  }
}

export class DiskFs {
  /** The device's number and its page cache, for metadata. */
  readonly dev: number;
  readonly bdev: AddressSpace;
  readonly nr_blocks: number;
  readonly inodes_per_group: number;
  readonly groups: Group[] = [];
  readonly inodes: Map<number, DiskInode> = new Map();
  /** Buffers of superblock and group descriptors: held for as long as the disk is mounted. */
  readonly held_buffers: number[] = [];
  free_blocks = 0;
  free_inodes = 0;
  /** Names in core by their slab object, and inodes in core that nobody holds; oldest use first. */
  readonly dentry_lru: Map<number, DirEntry> = new Map();
  readonly inode_unused: Map<number, DiskInode> = new Map();

  constructor(dev: number, bdev: AddressSpace, size: number) {
    this.dev = dev;
    this.bdev = bdev;
    this.nr_blocks = Math.floor(size / BLOCK);
    const nr_groups = Math.max(1, Math.ceil(this.nr_blocks / BLOCKS_PER_GROUP));
    const wanted = Math.max(32, Math.floor(size / INODE_RATIO / nr_groups));
    // A whole number of table blocks, and no more inodes than a bitmap block has bits.
    this.inodes_per_group = Math.min(
      Math.ceil(wanted / INODES_PER_BLOCK) * INODES_PER_BLOCK,
      BLOCKS_PER_GROUP,
    );
    const gdt = 1 + Math.ceil(nr_groups / DESC_PER_BLOCK);
    for (let g = 0; g < nr_groups; g++) {
      const first = g * BLOCKS_PER_GROUP;
      const nr = Math.min(BLOCKS_PER_GROUP, this.nr_blocks - first);
      const group = new Group(first, nr, g === 0 ? gdt : 0, this.inodes_per_group);
      // A last group that is too small for its own metadata is left unused.
      if (group.free_blocks <= 0) break;
      this.groups.push(group);
      this.free_blocks += group.free_blocks;
      this.free_inodes += group.free_inodes;
    }
  }

  /** Inodes in all, and blocks that files can use. */
  total_inodes(): number {
    return this.groups.length * this.inodes_per_group;
  }

  data_blocks(): number {
    let blocks = 0;
    for (const group of this.groups) blocks += group.nr_blocks - group.overhead;
    return blocks;
  }

  group_of_inode(ino: number): Group {
    return this.groups[Math.floor((ino - 1) / this.inodes_per_group)]!;
  }

  /** Block of the inode table that holds an inode. */
  inode_table_block(ino: number): number {
    const in_group = (ino - 1) % this.inodes_per_group;
    return this.group_of_inode(ino).inode_table + Math.floor(in_group / INODES_PER_BLOCK);
  }

  /** Block that holds the descriptor of a group. */
  descriptor_block(group: Group): number {
    return 1 + Math.floor(group.first / BLOCKS_PER_GROUP / DESC_PER_BLOCK);
  }
}

/** The block bitmap of a group, with its metadata marked as used. */
export function block_bitmap(group: Group): Uint32Array {
  if (group.block_bitmap === null) {
    group.block_bitmap = new Uint32Array(BLOCKS_PER_GROUP / 32);
    set_bits(group.block_bitmap, 0, group.overhead);
    set_bits(group.block_bitmap, group.nr_blocks, BLOCKS_PER_GROUP);
  }
  return group.block_bitmap;
}

export function set_bits(bitmap: Uint32Array, from: number, to: number): void {
  for (let bit = from; bit < to; bit++) bitmap[bit >>> 5]! |= 1 << (bit & 31);
}

/** The first clear bit in from..to-1, or -1. */
export function find_next_zero_bit(bitmap: Uint32Array, from: number, to: number): number {
  for (let bit = from; bit < to; ) {
    const free = ~bitmap[bit >>> 5]! & (-1 << (bit & 31));
    if (free !== 0) {
      const found = (bit & ~31) + 31 - Math.clz32(free & -free);
      return found < to ? found : -1;
    }
    bit = (bit & ~31) + 32;
  }
  return -1;
}

/**
 * Marks a metadata block as changed in the device's page cache. 0, -ENOMEM or -EIO. `fresh`: the
 * block is new, and need not be read.
 */
export function dirty_metadata(m: Machine, fs: DiskFs, block: number, fresh = false): number {
  const bh = __bread(m, fs.bdev, block, !fresh);
  if (bh < 0) return bh;
  mark_buffer_dirty(m, bh);
  brelse(m, bh);
  return 0;
}

/**
 * Buffers of metadata that an operation is going to change: taken first, all of them or none, so
 * that the operation cannot fail half-way for want of memory.
 */
export class Transaction {
  private readonly buffers: number[] = [];

  /** Takes one more block. 0 or -errno; after an error only `abort` is of use. */
  add(m: Machine, fs: DiskFs, block: number): number {
    const bh = __bread(m, fs.bdev, block, true);
    if (bh < 0) return bh;
    this.buffers.push(bh);
    return 0;
  }

  commit(m: Machine): void {
    for (const bh of this.buffers) {
      mark_buffer_dirty(m, bh);
      brelse(m, bh);
    }
    this.buffers.length = 0;
  }

  abort(m: Machine): void {
    for (const bh of this.buffers) brelse(m, bh);
    this.buffers.length = 0;
  }
}

/** The mounted disk of a machine, or null. */
export function disk_of(m: Machine): DiskFs | null {
  const fs = m.file_systems.get('disk');
  return fs instanceof DiskFs ? fs : null;
}
