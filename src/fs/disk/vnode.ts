/**
 * The disk as src/fs/vfs.ts wants it: nodes and open files.
 *
 * A node exists once for each inode that somebody has looked up. Access times follow relatime: a
 * read sets atime when it is not later than mtime and ctime, or a day old. Permissions are stored
 * and not checked: the kernel above the mount does that. Nothing is known of extended attributes
 * or POSIX locks.
 */
import {
  EFBIG,
  EINVAL,
  EISDIR,
  ELOOP,
  ENOENT,
  ENOMEM,
  ENOTDIR,
  ENXIO,
  EPERM,
  EXDEV,
} from '../../lib/errno.ts';
import { is_job, type Job, run_job, settle } from '../../lib/kthread.ts';
import type { AddressSpace } from '../../mm/address_space.ts';
import { generic_file_buffered_write } from '../../mm/buffer.ts';
import { FileRaState, generic_file_read } from '../../mm/filemap.ts';
import { GFP_KERNEL } from '../../mm/gfp.ts';
import type { Machine } from '../../mm/mmzone.ts';
import { kmem_cache_alloc, kmem_cache_free } from '../../mm/slub.ts';
import {
  type Attr,
  type Caller,
  type Dirent,
  O_ACCMODE,
  O_APPEND,
  O_RDONLY,
  O_TRUNC,
  type OpenFile,
  S_IFBLK,
  S_IFCHR,
  S_IFDIR,
  S_IFIFO,
  S_IFMT,
  S_IFREG,
  S_IFSOCK,
  type SetAttr,
  type StatFs,
  Vnode,
} from '../vfs.ts';
import {
  BLOCK,
  type DiskFs,
  type DiskInode,
  disk_of,
  MAX_FILE_SIZE,
  NAME_MAX,
  ROOT_INO,
} from './disk_fs.ts';
import {
  finish_cut,
  fsync_inode,
  iget,
  inode_size,
  iput,
  mark_inode_dirty,
  set_size,
} from './inode.ts';
import {
  create_inode,
  link,
  lookup,
  rename,
  rmdir,
  symlink,
  unlink,
  utf8_decode,
  with_permissions,
} from './namei.ts';

const DAY_MS = 86_400_000;
/** A file with more pages than this is written by a job that pauses. */
const FSYNC_AT_ONCE = 256;

/** The nodes of a mounted disk by inode number: not part of the machine's state. */
class NodeTable {
  readonly m: Machine;
  readonly fs: DiskFs;
  private readonly nodes: Map<number, DiskVnode> = new Map();

  constructor(m: Machine, fs: DiskFs) {
    this.m = m;
    this.fs = fs;
  }

  of(inode: DiskInode): DiskVnode {
    let node = this.nodes.get(inode.ino);
    // A number that was used again belongs to another file.
    if (node === undefined || node.inode !== inode) {
      node = new DiskVnode(this, inode);
      this.nodes.set(inode.ino, node);
    }
    return node;
  }

  forget(node: DiskVnode): void {
    if (this.nodes.get(node.inode.ino) === node) this.nodes.delete(node.inode.ino);
  }
}

/** fs/inode.c: touch_atime, with relatime. */
function touch_atime(m: Machine, inode: DiskInode): void {
  const now = m.clock.real_ms();
  if (inode.atime > inode.mtime && inode.atime > inode.ctime && now - inode.atime < DAY_MS) return;
  inode.atime = now;
  mark_inode_dirty(m, inode);
}

/** An open file of the disk. Simulated processes map `mapping`. */
export class DiskFile implements OpenFile {
  readonly mapping: AddressSpace;
  private readonly m: Machine;
  private readonly inode: DiskInode;
  private readonly flags: number;
  private readonly ra: FileRaState = new FileRaState();
  /** Slab object (filp); 0 once released. */
  private object: number;

  constructor(m: Machine, inode: DiskInode, flags: number, object: number) {
    this.m = m;
    this.inode = inode;
    this.mapping = inode.mapping!;
    this.flags = flags;
    this.object = object;
    inode.opens++;
    inode.fs.inode_unused.delete(inode.ino);
  }

  read(buf: Uint8Array, pos: number): number {
    const count = generic_file_read(this.m, this.mapping, this.ra, buf, pos);
    if (count > 0) touch_atime(this.m, this.inode);
    return count;
  }

  write(buf: Uint8Array, pos: number): number {
    const { inode, mapping, m } = this;
    if (buf.length === 0) return 0;
    finish_cut(m, inode);
    const at = (this.flags & O_APPEND) !== 0 ? mapping.i_size : pos;
    if (at >= MAX_FILE_SIZE) return -EFBIG;
    const data = at + buf.length > MAX_FILE_SIZE ? buf.subarray(0, MAX_FILE_SIZE - at) : buf;
    const count = generic_file_buffered_write(m, mapping, data, at);
    if (count > 0) {
      inode.mtime = inode.ctime = m.clock.real_ms();
      mark_inode_dirty(m, inode);
    }
    return count;
  }

  release(): void {
    settle(this.close());
  }

  close(): number | Job {
    if (this.object === 0) return 0;
    kmem_cache_free(this.m, this.m.slab.find('filp'), this.object);
    this.object = 0;
    this.inode.opens--;
    return iput(this.m, this.inode);
  }

  fsync(_datasync: boolean): number | Job {
    const job = fsync_inode(this.m, this.inode);
    return this.mapping.nrpages > FSYNC_AT_ONCE ? job : run_job(job);
  }
}

export class DiskVnode extends Vnode {
  readonly inode: DiskInode;
  private readonly table: NodeTable;

  constructor(table: NodeTable, inode: DiskInode) {
    super();
    this.table = table;
    this.inode = inode;
  }

  getattr(): Attr {
    const { inode } = this;
    return {
      ino: inode.ino,
      mode: inode.mode,
      nlink: inode.nlink,
      uid: inode.uid,
      gid: inode.gid,
      rdev: inode.rdev,
      size: inode_size(inode),
      blksize: BLOCK,
      blocks: inode.nr_blocks * (BLOCK / 512),
      atime: inode.atime,
      mtime: inode.mtime,
      ctime: inode.ctime,
    };
  }

  override setattr(attr: SetAttr, _caller: Caller): number | Job {
    const { inode, table } = this;
    const { m } = table;
    if (inode.dead) return -ENOENT;
    let result: number | Job = 0;
    if (attr.size !== undefined) {
      if (inode.is_dir()) return -EISDIR;
      if (!inode.is_reg() || !Number.isInteger(attr.size) || attr.size < 0) return -EINVAL;
      result = set_size(m, inode, attr.size);
      if (!is_job(result) && result !== 0) return result;
    }
    if (attr.mode !== undefined) inode.mode = with_permissions(inode.mode, attr.mode);
    if (attr.uid !== undefined) inode.uid = attr.uid;
    if (attr.gid !== undefined) inode.gid = attr.gid;
    if (attr.atime !== undefined) inode.atime = attr.atime;
    if (attr.mtime !== undefined) inode.mtime = attr.mtime;
    inode.ctime = m.clock.real_ms();
    mark_inode_dirty(m, inode);
    return result;
  }

  override open(flags: number, _caller: Caller): OpenFile | number {
    const { inode, table } = this;
    const { m } = table;
    if (inode.dead) return -ENOENT;
    if (inode.is_dir()) return -EISDIR;
    // Devices, pipes and sockets are opened by the kernel above; links are followed by it.
    if (!inode.is_reg()) return inode.mapping === null ? -ENXIO : -ELOOP;
    const err = iget(m, inode);
    if (err !== 0) return err;
    const object = kmem_cache_alloc(m, m.slab.find('filp'), GFP_KERNEL);
    if (object === 0) return -ENOMEM;
    const file = new DiskFile(m, inode, flags, object);
    if ((flags & O_TRUNC) === 0 || (flags & O_ACCMODE) === O_RDONLY) return file;
    const cut = settle(set_size(m, inode, 0));
    if (cut === 0) return file;
    file.release();
    return cut;
  }

  override empty(): number | Job {
    const { inode, table } = this;
    return inode.dead || !inode.is_reg() ? 0 : set_size(table.m, inode, 0);
  }

  override readlink(): string | number {
    const { inode, table } = this;
    if (inode.fast_symlink !== null) return inode.fast_symlink;
    if (inode.is_reg() || inode.mapping === null) return -EINVAL;
    const data = new Uint8Array(inode.mapping.i_size);
    const count = generic_file_read(table.m, inode.mapping, new FileRaState(), data, 0);
    if (count < 0) return count;
    touch_atime(table.m, inode);
    return utf8_decode(data);
  }

  private node(result: DiskInode | number): Vnode | number {
    return typeof result === 'number' ? result : this.table.of(result);
  }

  override lookup(name: string): Vnode | number {
    if (!this.inode.is_dir()) return -ENOTDIR;
    return this.node(lookup(this.table.m, this.inode, name));
  }

  override readdir(): Dirent[] | number {
    const { directory } = this.inode;
    if (directory === null) return -ENOTDIR;
    const names: Dirent[] = [];
    for (const [name, entry] of directory.entries) {
      names.push({ name, ino: entry.ino, mode: entry.mode });
    }
    touch_atime(this.table.m, this.inode);
    return names;
  }

  override create(name: string, mode: number, caller: Caller): Vnode | number {
    if (!this.inode.is_dir()) return -ENOTDIR;
    const file_mode = with_permissions(S_IFREG, mode);
    return this.node(create_inode(this.table.m, this.inode, name, file_mode, 0, caller));
  }

  override mkdir(name: string, mode: number, caller: Caller): Vnode | number {
    if (!this.inode.is_dir()) return -ENOTDIR;
    const dir_mode = with_permissions(S_IFDIR, mode);
    return this.node(create_inode(this.table.m, this.inode, name, dir_mode, 0, caller));
  }

  override mknod(name: string, mode: number, rdev: number, caller: Caller): Vnode | number {
    if (!this.inode.is_dir()) return -ENOTDIR;
    const type = (mode & S_IFMT) === 0 ? S_IFREG : mode & S_IFMT;
    if (type === S_IFDIR) return -EPERM;
    if (![S_IFREG, S_IFCHR, S_IFBLK, S_IFIFO, S_IFSOCK].includes(type)) return -EINVAL;
    const is_device = type === S_IFCHR || type === S_IFBLK;
    const node_mode = with_permissions(type, mode);
    const number = is_device ? rdev : 0;
    return this.node(create_inode(this.table.m, this.inode, name, node_mode, number, caller));
  }

  override symlink(name: string, target: string, caller: Caller): Vnode | number {
    if (!this.inode.is_dir()) return -ENOTDIR;
    return this.node(symlink(this.table.m, this.inode, name, target, caller));
  }

  override link(name: string, target: Vnode): number {
    if (!this.inode.is_dir()) return -ENOTDIR;
    if (!(target instanceof DiskVnode) || target.table !== this.table) return -EXDEV;
    return link(this.table.m, this.inode, name, target.inode);
  }

  override unlink(name: string): number | Job {
    return this.inode.is_dir() ? unlink(this.table.m, this.inode, name) : -ENOTDIR;
  }

  override rmdir(name: string): number {
    return this.inode.is_dir() ? rmdir(this.table.m, this.inode, name) : -ENOTDIR;
  }

  override rename(name: string, new_parent: Vnode, new_name: string): number | Job {
    if (!(new_parent instanceof DiskVnode) || new_parent.table !== this.table) return -EXDEV;
    if (!this.inode.is_dir() || !new_parent.inode.is_dir()) return -ENOTDIR;
    return rename(this.table.m, this.inode, name, new_parent.inode, new_name);
  }

  override statfs(): StatFs {
    const { fs } = this.table;
    return {
      bsize: BLOCK,
      blocks: fs.data_blocks(),
      bfree: fs.free_blocks,
      bavail: fs.free_blocks,
      files: fs.total_inodes(),
      ffree: fs.free_inodes,
      namelen: NAME_MAX,
    };
  }

  override forget(): void {
    if (this.inode.opens === 0 && this.inode.ino !== ROOT_INO) this.table.forget(this);
  }
}

/** The root directory of the machine's disk. Precondition: disk_mount succeeded. */
export function disk_root(m: Machine): Vnode {
  const fs = disk_of(m);
  if (fs === null) throw new RangeError('this machine has no disk');
  return new NodeTable(m, fs).of(fs.inodes.get(ROOT_INO)!);
}
