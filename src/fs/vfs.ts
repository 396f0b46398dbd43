/**
 * What a mounted tree is made of, as a transport sees it: Vnodes, which are found by name, and
 * OpenFiles, which are read and written. kernfs (virtual files) and disk (the emulated disk
 * file system) implement both; mount/ turns FUSE requests into these calls and decides nothing.
 *
 * Conventions: every operation returns a result or a negative errno (lib/errno), or a Job that ends
 * in either. What a Job is to change for other callers to see (the name that goes, the new size) is
 * changed when it is returned; it must be run to its end (lib/kthread: settle, for who can wait).
 * Times are milliseconds since the epoch, with fractions. Offsets and sizes are exact up to 2^53.
 * Linux: include/linux/fs.h (struct inode_operations, struct file_operations).
 */
import { EINVAL, EISDIR, ENOTDIR, ENOTTY, EOPNOTSUPP, EPERM } from '../lib/errno.ts';
import type { Job } from '../lib/kthread.ts';

export const S_IFMT = 0o170000;
export const S_IFSOCK = 0o140000;
export const S_IFLNK = 0o120000;
export const S_IFREG = 0o100000;
export const S_IFBLK = 0o060000;
export const S_IFDIR = 0o040000;
export const S_IFCHR = 0o020000;
export const S_IFIFO = 0o010000;

export const O_ACCMODE = 0o3;
export const O_RDONLY = 0o0;
export const O_WRONLY = 0o1;
export const O_RDWR = 0o2;
export const O_CREAT = 0o100;
export const O_EXCL = 0o200;
export const O_TRUNC = 0o1000;
export const O_APPEND = 0o2000;
export const O_NONBLOCK = 0o4000;

/** What stat(2) tells of a node. `mode` includes the S_IFMT bits, `blocks` counts 512 bytes. */
export interface Attr {
  ino: number;
  mode: number;
  nlink: number;
  uid: number;
  gid: number;
  rdev: number;
  size: number;
  blksize: number;
  blocks: number;
  atime: number;
  mtime: number;
  ctime: number;
}

/** What chmod, chown, truncate and utimens change; absent fields stay as they are. */
export interface SetAttr {
  mode?: number;
  uid?: number;
  gid?: number;
  size?: number;
  atime?: number;
  mtime?: number;
}

/** What statfs(2) tells; counts are in units of bsize. */
export interface StatFs {
  bsize: number;
  blocks: number;
  bfree: number;
  bavail: number;
  files: number;
  ffree: number;
  namelen: number;
}

/** Who asks. pid is 0 where the transport does not know it; uid and gid are then the owner's. */
export interface Caller {
  uid: number;
  gid: number;
  pid: number;
}

/** One directory entry. `mode` needs the S_IFMT bits only. */
export interface Dirent {
  name: string;
  ino: number;
  mode: number;
}

/** An open file description. Buffers belong to the caller: copy what is kept. */
export interface OpenFile {
  /**
   * Copies at most buf.length bytes from `pos`; returns the count, 0 at the end, or -errno.
   * -ERESTARTSYS from a pipe: there is nothing yet, to be asked again after a while.
   */
  read(buf: Uint8Array, pos: number): number;
  /**
   * Takes `buf` at `pos`; returns the count, or -errno, or a Job that ends in either: then the
   * buffer stays valid and unchanged until the job has ended.
   */
  write(buf: Uint8Array, pos: number): number | Job;
  /** The last reference is gone. Never fails. */
  release(): void;
  /** The same by a job that pauses, where there may be much to do. */
  close?(): number | Job;
  fsync(datasync: boolean): number | Job;
  /** Milliseconds of wall time by which a test wants the next such call to take longer. */
  delay?(op: 'read' | 'write'): number;
}

/** A file, directory or link by itself, without a name. The defaults refuse everything. */
export abstract class Vnode {
  abstract getattr(): Attr;

  setattr(_attr: SetAttr, _caller: Caller): number | Job {
    return -EPERM;
  }

  // Files.
  /** `flags` are open(2)'s; O_TRUNC is carried out here. */
  open(_flags: number, _caller: Caller): OpenFile | number {
    return -EISDIR;
  }
  /** What open with O_TRUNC would do at once, by a job where it may take long; open need not. */
  empty(): number | Job {
    return 0;
  }
  readlink(): string | number {
    return -EINVAL;
  }

  // Directories. Names are UTF-8 decoded without '/' and never '.' or '..'.
  lookup(_name: string): Vnode | number {
    return -ENOTDIR;
  }
  /** All entries without '.' and '..', in their order. */
  readdir(): Dirent[] | number {
    return -ENOTDIR;
  }
  create(_name: string, _mode: number, _caller: Caller): Vnode | number {
    return -ENOTDIR;
  }
  mkdir(_name: string, _mode: number, _caller: Caller): Vnode | number {
    return -ENOTDIR;
  }
  mknod(_name: string, _mode: number, _rdev: number, _caller: Caller): Vnode | number {
    return -EPERM;
  }
  symlink(_name: string, _target: string, _caller: Caller): Vnode | number {
    return -ENOTDIR;
  }
  link(_name: string, _target: Vnode): number {
    return -EPERM;
  }
  unlink(_name: string): number | Job {
    return -ENOTDIR;
  }
  rmdir(_name: string): number {
    return -ENOTDIR;
  }
  /** Moves `name` of this directory to `new_name` in `new_parent`; both are in one mount. */
  rename(_name: string, _new_parent: Vnode, _new_name: string): number | Job {
    return -EPERM;
  }

  statfs(): StatFs {
    return { bsize: 4096, blocks: 0, bfree: 0, bavail: 0, files: 0, ffree: 0, namelen: 255 };
  }

  // Extended attributes: refused unless a file system has them.
  setxattr(_name: string, _value: Uint8Array): number {
    return -EOPNOTSUPP;
  }
  getxattr(_name: string): Uint8Array | number {
    return -EOPNOTSUPP;
  }
  listxattr(): string[] | number {
    return [];
  }
  removexattr(_name: string): number {
    return -EOPNOTSUPP;
  }
  ioctl(_cmd: number): number {
    return -ENOTTY;
  }

  /** Called when the transport holds no reference any more (nlookup reached 0). */
  forget(): void {}
}
