/**
 * Directories of the disk: names, and the operations that change them.
 *
 * A name takes 8 bytes and its own length, rounded up to 4, of a directory block, and a dentry in
 * core; names of 32 bytes and more take kernel memory besides. Every operation first takes all
 * that it needs (inode, slab objects, metadata pages) and then changes everything: it happens
 * wholly or not at all. Removing needs nothing, so that files can be removed without memory.
 * Linux: fs/namei.c, fs/ext2/namei.c, dir.c, fs/dcache.c. Differs: negative dentries are those of
 * removed names alone; a directory lists its names in the order in which they were made; removed
 * names leave no gaps.
 */
import {
  EEXIST,
  EINVAL,
  EISDIR,
  EMLINK,
  ENAMETOOLONG,
  ENOENT,
  ENOMEM,
  ENOTDIR,
  ENOTEMPTY,
  EPERM,
} from '../../lib/errno.ts';
import { type Job, settle } from '../../lib/kthread.ts';
import { generic_file_buffered_write } from '../../mm/buffer.ts';
import { GFP_KERNEL } from '../../mm/gfp.ts';
import type { Machine } from '../../mm/mmzone.ts';
import { kmalloc, kmem_cache_alloc, kmem_cache_free } from '../../mm/slub.ts';
import { type Caller, S_IFDIR, S_IFLNK, S_IFMT, S_IFREG } from '../vfs.ts';
import { claim_inode, FreedBlocks, find_inode, new_block } from './balloc.ts';
import {
  BLOCK,
  type DirEntry,
  type DiskFs,
  type DiskInode,
  dirty_metadata,
  LINK_MAX,
  NAME_MAX,
  new_entry,
  Transaction,
} from './disk_fs.ts';
import { alloc_inode, iget, iput, mark_inode_dirty, utf8_length } from './inode.ts';
import { d_delete, d_drop_negatives, d_free, d_instantiate, d_kill, d_revive } from './shrink.ts';

const S_ISGID = 0o2000;
const PERMISSIONS = 0o7777;
/** Names shorter than this lie in the dentry (dcache.h: DNAME_INLINE_LEN_MIN). */
const DNAME_INLINE_LEN = 32;
/** Symlink targets shorter than this lie in the inode, longer ones in a block. */
const FAST_SYMLINK_MAX = 60;
const PATH_MAX = 4096;

/** Bytes of a directory block that a name takes (ext2.h: EXT2_DIR_REC_LEN). */
function dir_rec_len(name_bytes: number): number {
  return 8 + Math.ceil(name_bytes / 4) * 4;
}

/** The dentry of a name, and room for the name if it is long. False without memory. */
function d_alloc(m: Machine, entry: DirEntry, name_bytes: number): boolean {
  const cache = m.slab.find('dentry');
  entry.dentry = kmem_cache_alloc(m, cache, GFP_KERNEL);
  if (entry.dentry === 0) return false;
  if (name_bytes < DNAME_INLINE_LEN) return true;
  entry.name_object = kmalloc(m, name_bytes + 1, GFP_KERNEL);
  if (entry.name_object !== 0) return true;
  d_free(m, entry);
  return false;
}

function name_error(name_bytes: number): number {
  if (name_bytes === 0) return -ENOENT;
  return name_bytes > NAME_MAX ? -ENAMETOOLONG : 0;
}

/** The inode that a name stands for, in core. -ENOENT, -ENAMETOOLONG, -ENOMEM (ext2_lookup). */
export function lookup(m: Machine, dir: DiskInode, name: string): DiskInode | number {
  const name_bytes = utf8_length(name);
  if (name_bytes > NAME_MAX) return -ENAMETOOLONG;
  const entry = dir.directory!.entries.get(name);
  if (entry === undefined) return -ENOENT;
  const inode = dir.fs.inodes.get(entry.ino)!;
  const err = iget(m, inode);
  if (err !== 0) return err;
  if (entry.dentry === 0) {
    if (!d_alloc(m, entry, name_bytes)) return -ENOMEM;
    d_instantiate(entry, inode);
  }
  return inode;
}

/**
 * A block of the directory with room for a name: its number in the directory. A new block is taken
 * when none has. -ENOSPC, -ENOMEM, -EIO with nothing changed; an empty new block does no harm.
 */
function find_slot(m: Machine, dir: DiskInode, name_bytes: number): number {
  const { blocks, room } = dir.directory!;
  const need = dir_rec_len(name_bytes);
  for (let slot = 0; slot < room.length; slot++) if (room[slot]! >= need) return slot;
  const last = blocks[blocks.length - 1];
  const { fs } = dir;
  const goal = last === undefined ? fs.group_of_inode(dir.ino).first : last + 1;
  const block = new_block(m, fs, goal);
  if (block < 0) return block;
  const err = dirty_metadata(m, fs, block, true);
  if (err !== 0) {
    const freed = new FreedBlocks(m, fs);
    freed.free_metadata(block);
    freed.finish();
    return err;
  }
  blocks.push(block);
  // The first block begins with . and ..
  room.push(blocks.length === 1 ? BLOCK - 24 : BLOCK);
  dir.nr_blocks++;
  mark_inode_dirty(m, dir);
  return blocks.length - 1;
}

function touch_dir(m: Machine, dir: DiskInode): void {
  dir.mtime = dir.ctime = m.clock.real_ms();
  mark_inode_dirty(m, dir);
}

function put_entry(dir: DiskInode, name: string, entry: DirEntry, inode: DiskInode): void {
  d_instantiate(entry, inode);
  dir.directory!.entries.set(name, entry);
  dir.directory!.room[entry.slot]! -= dir_rec_len(utf8_length(name));
}

/** Takes a name out of a directory. Needs no memory. */
function remove_entry(m: Machine, dir: DiskInode, name: string, entry: DirEntry): void {
  dir.directory!.entries.delete(name);
  dir.directory!.room[entry.slot]! += dir_rec_len(utf8_length(name));
  d_delete(entry, name);
  dirty_metadata(m, dir.fs, dir.directory!.blocks[entry.slot]!);
  touch_dir(m, dir);
}

/**
 * A new name for an inode in a directory, with all that it needs taken; `change` has its block. An
 * -errno otherwise, and then `change` has been aborted.
 */
function prepare_entry(
  m: Machine,
  dir: DiskInode,
  name: string,
  ino: number,
  mode: number,
  change: Transaction,
): DirEntry | number {
  const name_bytes = utf8_length(name);
  const slot = find_slot(m, dir, name_bytes);
  let err = slot < 0 ? slot : change.add(m, dir.fs, dir.directory!.blocks[slot]!);
  if (err === 0) {
    const entry = new_entry(dir, ino, mode & S_IFMT, slot);
    if (d_revive(entry, name) || d_alloc(m, entry, name_bytes)) return entry;
    err = -ENOMEM;
  }
  change.abort(m);
  return err;
}

/** Whether a directory takes new names, and this one: 0 or -errno. */
function may_create(dir: DiskInode, name: string): number {
  const err = name_error(utf8_length(name));
  if (err !== 0) return err;
  // Removed, but somebody is still in it.
  if (dir.nlink === 0) return -ENOENT;
  return dir.directory!.entries.has(name) ? -EEXIST : 0;
}

/**
 * Creates an inode of any type with a name in `dir`. Returns it, or -EEXIST, -ENAMETOOLONG,
 * -EMLINK, -ENOSPC, -ENOMEM, -EIO with nothing changed (ext2_create, ext2_mknod, ext2_mkdir).
 */
export function create_inode(
  m: Machine,
  dir: DiskInode,
  name: string,
  mode: number,
  rdev: number,
  caller: Caller,
): DiskInode | number {
  const err = may_create(dir, name);
  if (err !== 0) return err;
  const type = mode & S_IFMT;
  const is_dir = type === S_IFDIR;
  if (is_dir && dir.nlink >= LINK_MAX) return -EMLINK;
  const { fs } = dir;
  const change = new Transaction();
  const ino = find_inode(m, fs, dir.ino, is_dir, change);
  if (ino < 0) {
    change.abort(m);
    return ino;
  }
  const entry = prepare_entry(m, dir, name, ino, mode, change);
  if (typeof entry === 'number') return entry;
  // A directory is given its first block at once: it holds . and ..
  const has_data = type === S_IFREG || type === S_IFLNK;
  const inode = alloc_inode(m, fs, ino, mode, dir.ino, has_data);
  const slot = inode !== null && is_dir ? find_slot(m, inode, 0) : 0;
  if (inode === null || slot < 0) {
    change.abort(m);
    d_free(m, entry);
    if (inode !== null) kmem_cache_free(m, m.slab.find('ext2_inode_cache'), inode.object);
    return inode === null ? -ENOMEM : slot;
  }
  change.commit(m);
  claim_inode(fs, ino, is_dir);
  inode.uid = caller.uid;
  inode.gid = caller.gid;
  if ((dir.mode & S_ISGID) !== 0) {
    inode.gid = dir.gid;
    if (is_dir) inode.mode |= S_ISGID;
  }
  inode.rdev = rdev;
  fs.inodes.set(ino, inode);
  put_entry(dir, name, entry, inode);
  if (is_dir) {
    inode.nlink = 2;
    dir.nlink++;
  }
  touch_dir(m, dir);
  mark_inode_dirty(m, inode);
  return inode;
}

/** A symlink. Long targets are file data (ext2_symlink, fs/namei.c: page_symlink). */
export function symlink(
  m: Machine,
  dir: DiskInode,
  name: string,
  target: string,
  caller: Caller,
): DiskInode | number {
  const bytes = utf8_length(target);
  if (bytes === 0) return -ENOENT;
  if (bytes >= PATH_MAX) return -ENAMETOOLONG;
  const inode = create_inode(m, dir, name, S_IFLNK | 0o777, 0, caller);
  if (typeof inode === 'number') return inode;
  if (bytes < FAST_SYMLINK_MAX) {
    inode.fast_symlink = target;
    return inode;
  }
  const data = utf8_encode(target, bytes);
  const written = generic_file_buffered_write(m, inode.mapping!, data, 0);
  if (written === bytes) return inode;
  settle(unlink(m, dir, name));
  return written < 0 ? written : -ENOMEM;
}

/** UTF-8 of a string whose length in bytes is known. */
function utf8_encode(text: string, bytes: number): Uint8Array {
  const out = new Uint8Array(bytes);
  let at = 0;
  for (const character of text) {
    let c = character.codePointAt(0)!;
    if (c >= 0xd800 && c < 0xe000) c = 0xfffd;
    if (c < 0x80) {
      out[at++] = c;
      continue;
    }
    const more = c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
    out[at++] = ((0xf00 >> more) & 0xff) | (c >> (6 * more));
    for (let i = more - 1; i >= 0; i--) out[at++] = 0x80 | ((c >> (6 * i)) & 0x3f);
  }
  return out;
}

/** The string of well-formed UTF-8. */
export function utf8_decode(bytes: Uint8Array): string {
  let text = '';
  for (let i = 0; i < bytes.length; ) {
    const lead = bytes[i++]!;
    if (lead < 0x80) {
      text += String.fromCharCode(lead);
      continue;
    }
    const more = lead < 0xe0 ? 1 : lead < 0xf0 ? 2 : 3;
    let c = lead & (0x3f >> more);
    for (let k = 0; k < more; k++) c = (c << 6) | (bytes[i++]! & 0x3f);
    text += String.fromCodePoint(c);
  }
  return text;
}

/** A further name for an inode (ext2_link). */
export function link(m: Machine, dir: DiskInode, name: string, inode: DiskInode): number {
  const err = may_create(dir, name);
  if (err !== 0) return err;
  if (inode.is_dir()) return -EPERM;
  if (inode.nlink === 0) return -ENOENT;
  if (inode.nlink >= LINK_MAX) return -EMLINK;
  const change = new Transaction();
  const entry = prepare_entry(m, dir, name, inode.ino, inode.mode, change);
  if (typeof entry === 'number') return entry;
  change.commit(m);
  put_entry(dir, name, entry, inode);
  touch_dir(m, dir);
  inode.nlink++;
  inode.ctime = m.clock.real_ms();
  mark_inode_dirty(m, inode);
  return 0;
}

/** One name less for an inode that is no directory. 0, or a job that frees a large file. */
function drop_link(m: Machine, inode: DiskInode): number | Job {
  inode.nlink--;
  inode.ctime = m.clock.real_ms();
  mark_inode_dirty(m, inode);
  return iput(m, inode);
}

/**
 * The entry of a name that is to be removed, brought into core first: the dentry stays when the name has
 * gone (fs/namei.c: do_unlinkat, lookup_hash). -ENOENT, -ENAMETOOLONG. So a name may be looked at by
 * reclaim twice: golden t1 ends with 6400 to 6528 objects looked at, which are, to within a batch of 128, 4096
 * names, 256 to 384 of them once more that were pruned before they were removed, and 2048 inodes.
 * Without memory for the dentry the name can be removed all the same; Linux says ENOMEM.
 */
function lookup_hash(m: Machine, dir: DiskInode, name: string): DirEntry | number {
  const entry = dir.directory!.entries.get(name);
  if (entry === undefined) return utf8_length(name) > NAME_MAX ? -ENAMETOOLONG : -ENOENT;
  if (entry.dentry === 0) lookup(m, dir, name);
  return entry;
}

/** Removes a name. -ENOENT, -EISDIR; a job frees the rest of a large file (ext2_unlink). */
export function unlink(m: Machine, dir: DiskInode, name: string): number | Job {
  const entry = lookup_hash(m, dir, name);
  if (typeof entry === 'number') return entry;
  const inode = dir.fs.inodes.get(entry.ino)!;
  if (inode.is_dir()) return -EISDIR;
  remove_entry(m, dir, name, entry);
  return drop_link(m, inode);
}

/** An empty directory that has lost its name; `dir` was its parent. */
function drop_directory(m: Machine, dir: DiskInode, inode: DiskInode): void {
  dir.nlink--;
  d_drop_negatives(m, inode);
  inode.nlink = 0;
  inode.ctime = m.clock.real_ms();
  iput(m, inode);
}

/** Removes an empty directory. -ENOENT, -ENOTDIR, -ENOTEMPTY (ext2_rmdir). */
export function rmdir(m: Machine, dir: DiskInode, name: string): number {
  const entry = lookup_hash(m, dir, name);
  if (typeof entry === 'number') return entry;
  const inode = dir.fs.inodes.get(entry.ino)!;
  if (!inode.is_dir()) return -ENOTDIR;
  if (inode.directory!.entries.size > 0) return -ENOTEMPTY;
  remove_entry(m, dir, name, entry);
  drop_directory(m, dir, inode);
  return 0;
}

/** True when `dir` is `ancestor` or lies below it. */
function is_below(fs: DiskFs, dir: DiskInode, ancestor: DiskInode): boolean {
  for (let at = dir; ; at = fs.inodes.get(at.directory!.parent)!) {
    if (at === ancestor) return true;
    if (at.directory!.parent === at.ino) return false;
  }
}

/**
 * Moves a name. An inode that had the new name loses it; directories only give way when they are
 * empty. -ENOENT, -EINVAL (into itself), -EISDIR, -ENOTDIR, -ENOTEMPTY, -EMLINK, -ENAMETOOLONG, and
 * what a new name needs; a job frees the rest of a large file that gave way (fs/namei.c:
 * vfs_rename; ext2_rename).
 */
export function rename(
  m: Machine,
  old_dir: DiskInode,
  old_name: string,
  new_dir: DiskInode,
  new_name: string,
): number | Job {
  const { fs } = old_dir;
  let err = name_error(utf8_length(new_name));
  if (err === 0 && utf8_length(old_name) > NAME_MAX) err = -ENAMETOOLONG;
  if (err !== 0) return err;
  const old_entry = old_dir.directory!.entries.get(old_name);
  if (old_entry === undefined || new_dir.nlink === 0) return -ENOENT;
  const inode = fs.inodes.get(old_entry.ino)!;
  if (inode.is_dir() && is_below(fs, new_dir, inode)) return -EINVAL;
  const target = new_dir.directory!.entries.get(new_name);
  const victim = target === undefined ? null : fs.inodes.get(target.ino)!;
  // Two names of one inode: nothing happens, both stay.
  if (victim === inode) return 0;
  if (victim !== null) {
    // The target is the source's own ancestor: it is not empty, whatever else it is.
    if (victim.is_dir() && is_below(fs, old_dir, victim)) return -ENOTEMPTY;
    if (inode.is_dir() && !victim.is_dir()) return -ENOTDIR;
    if (!inode.is_dir() && victim.is_dir()) return -EISDIR;
    if (victim.is_dir() && victim.directory!.entries.size > 0) return -ENOTEMPTY;
  }
  const climbs = inode.is_dir() && old_dir !== new_dir;
  if (climbs && victim === null && new_dir.nlink >= LINK_MAX) return -EMLINK;
  let result: number | Job = 0;

  if (target !== undefined) {
    // The name is there: it is made to stand for another inode, in place.
    const change = new Transaction();
    err = change.add(m, fs, new_dir.directory!.blocks[target.slot]!);
    if (err !== 0) {
      change.abort(m);
      return err;
    }
    change.commit(m);
    // Linux drops the victim's dentry and moves the other one over; here it is made afresh.
    const entry = new_entry(new_dir, old_entry.ino, old_entry.mode, target.slot);
    d_kill(m, target);
    new_dir.directory!.entries.set(new_name, entry);
    if (victim!.is_dir()) drop_directory(m, new_dir, victim!);
    else result = drop_link(m, victim!);
  } else {
    const change = new Transaction();
    const entry = prepare_entry(m, new_dir, new_name, inode.ino, inode.mode, change);
    if (typeof entry === 'number') return entry;
    change.commit(m);
    put_entry(new_dir, new_name, entry, inode);
  }
  touch_dir(m, new_dir);
  remove_entry(m, old_dir, old_name, old_entry);
  if (climbs) {
    inode.directory!.parent = new_dir.ino;
    old_dir.nlink--;
    new_dir.nlink++;
    // Its .. changes as well.
    dirty_metadata(m, fs, inode.directory!.blocks[0]!);
  }
  inode.ctime = m.clock.real_ms();
  mark_inode_dirty(m, inode);
  return result;
}

/** chmod's bits, leaving the type alone. */
export function with_permissions(mode: number, permissions: number): number {
  return (mode & S_IFMT) | (permissions & PERMISSIONS);
}
