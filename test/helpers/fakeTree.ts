/**
 * A small tree without a machine, for tests of transports and of the server: virtual files that
 * behave as proc's do, files that misbehave on purpose, and a plain memory file system.
 *
 *   /proc/value      0644, an integer; anything else EINVAL; O_TRUNC ignored
 *   /proc/counter    0444, a number that grows with each snapshot
 *   /proc/big        0444, 1 MiB of text, one snapshot per open
 *   /proc/trigger    0200, refuses to be read, root too
 *   /proc/throws     each read and write is a defect: throws
 *   /proc/slowN      0644, a write of milliseconds takes that long, in slices
 *   /proc/writes     0444, one line per write request to /proc/sink: offset and length
 *   /proc/sink       0200, takes everything
 *   /disk            files, directories, links
 */

import {
  type Attr,
  type Caller,
  type Dirent,
  O_ACCMODE,
  O_RDONLY,
  O_RDWR,
  O_TRUNC,
  type OpenFile,
  S_IFDIR,
  S_IFLNK,
  S_IFMT,
  S_IFREG,
  type SetAttr,
  type StatFs,
  Vnode,
} from '../../src/fs/vfs.ts';
import {
  EACCES,
  EEXIST,
  EINVAL,
  EISDIR,
  ENOENT,
  ENOTDIR,
  ENOTEMPTY,
  EPERM,
} from '../../src/lib/errno.ts';
import type { Job } from '../../src/lib/kthread.ts';

export const SLOW_FILES = 64;
export const BIG_SIZE = 2 ** 20;

let nextIno = 1;

class Node extends Vnode {
  readonly attr: Attr;

  constructor(mode: number, size = 0) {
    super();
    const now = Date.now();
    this.attr = {
      ino: nextIno++,
      mode,
      nlink: (mode & S_IFMT) === S_IFDIR ? 2 : 1,
      uid: process.getuid?.() ?? 0,
      gid: process.getgid?.() ?? 0,
      rdev: 0,
      size,
      blksize: 4096,
      blocks: 0,
      atime: now,
      mtime: now,
      ctime: now,
    };
  }

  override getattr(): Attr {
    return { ...this.attr };
  }

  override setattr(attr: SetAttr): number {
    if (attr.mode !== undefined) this.attr.mode = (this.attr.mode & S_IFMT) | attr.mode;
    if (attr.uid !== undefined) this.attr.uid = attr.uid;
    if (attr.gid !== undefined) this.attr.gid = attr.gid;
    if (attr.atime !== undefined) this.attr.atime = attr.atime;
    if (attr.mtime !== undefined) this.attr.mtime = attr.mtime;
    return attr.size === undefined ? 0 : this.truncate(attr.size);
  }

  truncate(_size: number): number {
    return 0;
  }
}

interface Behaviour {
  show?: () => string;
  store?: (text: string, pos: number) => number | Job;
}

class VirtualFile extends Node {
  readonly behaviour: Behaviour;

  constructor(mode: number, behaviour: Behaviour) {
    super(S_IFREG | mode);
    this.behaviour = behaviour;
  }

  override open(flags: number, _caller: Caller): OpenFile | number {
    const access = flags & O_ACCMODE;
    if ((access === O_RDONLY || access === O_RDWR) && (this.attr.mode & 0o400) === 0) {
      return -EACCES;
    }
    if (access !== O_RDONLY && (this.attr.mode & 0o200) === 0) return -EACCES;
    const { show, store } = this.behaviour;
    let snapshot: Uint8Array | undefined;
    return {
      read: (buf, pos) => {
        if (snapshot === undefined || pos === 0) snapshot = Buffer.from(show?.() ?? '');
        const part = snapshot.subarray(pos, pos + buf.length);
        buf.set(part);
        return part.length;
      },
      write: (buf, pos) => store?.(Buffer.from(buf).toString(), pos) ?? -EINVAL,
      release: () => {},
      fsync: () => -EINVAL,
    };
  }
}

class MemoryFile extends Node {
  #data: Buffer = Buffer.alloc(0);

  constructor(mode: number) {
    super(S_IFREG | (mode & 0o7777));
  }

  override getattr(): Attr {
    return { ...this.attr, size: this.#data.length, blocks: Math.ceil(this.#data.length / 512) };
  }

  override truncate(size: number): number {
    const data = Buffer.alloc(size);
    this.#data.copy(data);
    this.#data = data;
    return 0;
  }

  override open(flags: number, _caller: Caller): OpenFile | number {
    if (flags & O_TRUNC) this.truncate(0);
    return {
      read: (buf, pos) => {
        const part = this.#data.subarray(pos, pos + buf.length);
        buf.set(part);
        return part.length;
      },
      write: (buf, pos) => {
        if (pos + buf.length > this.#data.length) this.truncate(pos + buf.length);
        this.#data.set(buf, pos);
        return buf.length;
      },
      release: () => {},
      fsync: () => 0,
    };
  }
}

class MemoryLink extends Node {
  readonly target: string;
  constructor(target: string) {
    super(S_IFLNK | 0o777, target.length);
    this.target = target;
  }
  override readlink(): string {
    return this.target;
  }
}

export class Directory extends Node {
  readonly entries = new Map<string, Node>();
  readonly #writable: boolean;

  constructor(writable: boolean) {
    super(S_IFDIR | 0o755, 4096);
    this.#writable = writable;
  }

  add(name: string, node: Node): Node {
    this.entries.set(name, node);
    return node;
  }

  override open(): number {
    return -EISDIR;
  }

  override lookup(name: string): Vnode | number {
    return this.entries.get(name) ?? -ENOENT;
  }

  override readdir(): Dirent[] {
    return [...this.entries].map(([name, { attr }]) => ({ name, ino: attr.ino, mode: attr.mode }));
  }

  #make<T extends Node>(name: string, make: () => T): T | number {
    if (!this.#writable) return -ENOENT;
    if (this.entries.has(name)) return -EEXIST;
    const node = make();
    this.entries.set(name, node);
    return node;
  }

  override create(name: string, mode: number): Vnode | number {
    return this.#make(name, () => new MemoryFile(mode));
  }

  override mkdir(name: string): Vnode | number {
    return this.#make(name, () => new Directory(true));
  }

  override symlink(name: string, target: string): Vnode | number {
    return this.#make(name, () => new MemoryLink(target));
  }

  override link(name: string, target: Vnode): number {
    if (!(target instanceof MemoryFile)) return -EPERM;
    const made = this.#make(name, () => target);
    if (typeof made === 'number') return made;
    target.attr.nlink++;
    return 0;
  }

  override unlink(name: string): number {
    if (!this.#writable) return -EPERM;
    const node = this.entries.get(name);
    if (node === undefined) return -ENOENT;
    if (node instanceof Directory) return -EISDIR;
    node.attr.nlink--;
    this.entries.delete(name);
    return 0;
  }

  override rmdir(name: string): number {
    if (!this.#writable) return -EPERM;
    const node = this.entries.get(name);
    if (node === undefined) return -ENOENT;
    if (!(node instanceof Directory)) return -ENOTDIR;
    if (node.entries.size > 0) return -ENOTEMPTY;
    this.entries.delete(name);
    return 0;
  }

  override rename(name: string, newParent: Vnode, newName: string): number {
    const node = this.entries.get(name);
    if (node === undefined) return -ENOENT;
    if (!this.#writable || !(newParent instanceof Directory)) return -EPERM;
    const victim = newParent.entries.get(newName);
    if (victim === node) return 0;
    if (victim !== undefined) victim.attr.nlink--;
    newParent.entries.set(newName, node);
    this.entries.delete(name);
    return 0;
  }

  override statfs(): StatFs {
    return {
      bsize: 4096,
      blocks: 1000,
      bfree: 500,
      bavail: 400,
      files: 100,
      ffree: 50,
      namelen: 255,
    };
  }
}

/** Takes `ms` of wall time in steps of 50 us, then returns `count`. */
function* busyFor(ms: number, count: number): Job {
  const end = performance.now() + ms;
  while (performance.now() < end) {
    const step = performance.now() + 0.05;
    while (performance.now() < step);
    yield;
  }
  return count;
}

export function fakeRoot(): Directory {
  const root = new Directory(false);
  const proc = root.add('proc', new Directory(false)) as Directory;
  root.add('disk', new Directory(true));

  let value = 5;
  proc.add(
    'value',
    new VirtualFile(0o644, {
      show: () => `${value}\n`,
      store: (text, pos) => {
        if (pos > 0 || text === '') return text.length;
        if (!/^-?\d+\n?$/.test(text)) return -EINVAL;
        value = Number(text);
        return text.length;
      },
    }),
  );
  let count = 0;
  proc.add('counter', new VirtualFile(0o444, { show: () => `${++count}`.padStart(9, '0') + '\n' }));
  proc.add('big', new VirtualFile(0o444, { show: () => bigText() }));
  proc.add('trigger', new VirtualFile(0o200, { store: (text) => text.length }));
  const fail = () => {
    throw new Error('thrown on purpose by a test');
  };
  proc.add('throws', new VirtualFile(0o644, { show: fail, store: fail }));
  for (let i = 0; i < SLOW_FILES; i++) {
    proc.add(
      `slow${i}`,
      new VirtualFile(0o644, {
        show: () => 'slow\n',
        store: (text) => busyFor(Number(text), text.length),
      }),
    );
  }
  const writes: string[] = [];
  proc.add('writes', new VirtualFile(0o444, { show: () => writes.join('') }));
  proc.add(
    'sink',
    new VirtualFile(0o200, {
      store: (text, pos) => {
        writes.push(`${pos} ${text.length}\n`);
        return text.length;
      },
    }),
  );
  return root;
}

export function bigText(): string {
  let text = '';
  for (let line = 0; text.length < BIG_SIZE; line++) {
    text += `line ${line}`.padEnd(63) + '\n';
  }
  return text.slice(0, BIG_SIZE);
}
