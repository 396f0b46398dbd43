/**
 * Transport 0: calls in process, for tests that need no kernel and no /dev/fuse.
 *
 * It stands in for the caller's kernel: walks paths, keeps file positions, splits long writes as
 * FUSE does. What Linux checks before a request leaves (mode bits under default_permissions,
 * locks) is not modelled: the caller is the owner of everything. Every method is one system call;
 * results are values or negative errnos, never exceptions.
 */
import { posix } from 'node:path';
import {
  type Attr,
  type Caller,
  O_ACCMODE,
  O_APPEND,
  O_CREAT,
  O_EXCL,
  O_RDONLY,
  O_WRONLY,
  S_IFDIR,
  S_IFLNK,
  S_IFMT,
  type SetAttr,
  type StatFs,
  type Vnode,
} from '../src/fs/vfs.ts';
import { EBADF, EEXIST, EISDIR, ELOOP, ENOENT, ENOTDIR } from '../src/lib/errno.ts';
import type { Operations } from './ops.ts';
import type { Transport } from './transport.ts';

/** FUSE hands a write over in pieces of at most this size. */
const MAX_WRITE = 131072;
const MAX_LINKS = 40;

interface Descriptor {
  readonly handle: number;
  readonly flags: number;
  pos: number;
}

export class InProcessTransport implements Transport {
  readonly name = 'in-process';
  readonly #ops: Operations;
  readonly #caller: Caller;
  readonly #descriptors = new Map<number, Descriptor>();
  #next = 3;

  constructor(ops: Operations, caller: Caller = { uid: 0, gid: 0, pid: 0 }) {
    this.#ops = ops;
    this.#caller = caller;
  }

  async mount(): Promise<void> {}
  async unmount(): Promise<void> {
    for (const fd of [...this.#descriptors.keys()]) await this.close(fd);
  }

  async open(path: string, flags: number, mode = 0o644): Promise<number> {
    const node = this.#walk(path, true);
    let handle: number;
    if (node === -ENOENT && flags & O_CREAT) {
      const at = this.#parent(path);
      if (typeof at === 'number') return at;
      handle = this.#ops.create(at.dir, at.name, mode, flags, this.#caller);
    } else {
      if (typeof node === 'number') return node;
      if ((flags & (O_CREAT | O_EXCL)) === (O_CREAT | O_EXCL)) return -EEXIST;
      const attr = this.#ops.getattr(node);
      if (typeof attr === 'number') return attr;
      if ((attr.mode & S_IFMT) === S_IFDIR) return -EISDIR;
      handle = await new Promise((resolve) =>
        this.#ops.open(node, flags & ~(O_CREAT | O_EXCL), this.#caller, resolve),
      );
    }
    if (handle < 0) return handle;
    const fd = this.#next++;
    this.#descriptors.set(fd, { handle, flags, pos: 0 });
    return fd;
  }

  read(fd: number, buf: Uint8Array, pos?: number): number {
    const desc = this.#descriptors.get(fd);
    if (desc === undefined || (desc.flags & O_ACCMODE) === O_WRONLY) return -EBADF;
    const count = this.#ops.read(desc.handle, buf, pos ?? desc.pos);
    if (count > 0 && pos === undefined) desc.pos += count;
    return count;
  }

  /** As read, but waits for a pipe as a caller's kernel does. */
  readWaiting(fd: number, buf: Uint8Array): Promise<number> {
    const desc = this.#descriptors.get(fd);
    if (desc === undefined || (desc.flags & O_ACCMODE) === O_WRONLY) return Promise.resolve(-EBADF);
    return new Promise((resolve) => this.#ops.readLater(desc.handle, buf, desc.pos, resolve));
  }

  async write(fd: number, buf: Uint8Array, pos?: number): Promise<number> {
    const desc = this.#descriptors.get(fd);
    if (desc === undefined || (desc.flags & O_ACCMODE) === O_RDONLY) return -EBADF;
    let at = pos ?? desc.pos;
    if (desc.flags & O_APPEND) {
      const attr = this.fstat(fd);
      if (typeof attr === 'number') return attr;
      at = attr.size;
    }
    let done = 0;
    do {
      const part = buf.slice(done, done + MAX_WRITE);
      this.#ops.jobs.noteRequest();
      const count = await new Promise<number>((resolve) =>
        this.#ops.write(desc.handle, part, at + done, resolve),
      );
      if (count < 0) return done > 0 ? done : count;
      done += count;
      if (count < part.length) break;
    } while (done < buf.length);
    if (pos === undefined) desc.pos = at + done;
    return done;
  }

  fsync(fd: number): Promise<number> {
    const desc = this.#descriptors.get(fd);
    if (desc === undefined) return Promise.resolve(-EBADF);
    return new Promise((resolve) => this.#ops.fsync(desc.handle, false, resolve));
  }

  close(fd: number): Promise<number> {
    const desc = this.#descriptors.get(fd);
    if (desc === undefined) return Promise.resolve(-EBADF);
    this.#descriptors.delete(fd);
    return new Promise((resolve) => this.#ops.release(desc.handle, resolve));
  }

  fstat(fd: number): Attr | number {
    const desc = this.#descriptors.get(fd);
    const node = desc && this.#ops.node(desc.handle);
    return node === undefined ? -EBADF : this.#ops.getattr(node);
  }

  async ftruncate(fd: number, size: number): Promise<number> {
    const desc = this.#descriptors.get(fd);
    const node = desc && this.#ops.node(desc.handle);
    return node === undefined ? -EBADF : this.#setattr(node, { size });
  }

  stat(path: string): Attr | number {
    const node = this.#walk(path, true);
    return typeof node === 'number' ? node : this.#ops.getattr(node);
  }

  lstat(path: string): Attr | number {
    const node = this.#walk(path, false);
    return typeof node === 'number' ? node : this.#ops.getattr(node);
  }

  async setattr(path: string, attr: SetAttr): Promise<number> {
    const node = this.#walk(path, true);
    return typeof node === 'number' ? node : this.#setattr(node, attr);
  }

  #setattr(node: Vnode, attr: SetAttr): Promise<number> {
    return new Promise((resolve) => this.#ops.setattr(node, attr, this.#caller, resolve));
  }

  statfs(path: string): StatFs | number {
    const node = this.#walk(path, true);
    return typeof node === 'number' ? node : this.#ops.statfs(node);
  }

  readlink(path: string): string | number {
    const node = this.#walk(path, false);
    return typeof node === 'number' ? node : this.#ops.readlink(node);
  }

  readdir(path: string): string[] | number {
    const node = this.#walk(path, true);
    const entries = typeof node === 'number' ? node : this.#ops.readdir(node);
    return typeof entries === 'number'
      ? entries
      : ['.', '..', ...entries.map((entry) => entry.name)];
  }

  mkdir(path: string, mode = 0o755): number {
    const at = this.#parent(path);
    if (typeof at === 'number') return at;
    const made = this.#ops.mkdir(at.dir, at.name, mode, this.#caller);
    return typeof made === 'number' ? made : 0;
  }

  symlink(target: string, path: string): number {
    const at = this.#parent(path);
    if (typeof at === 'number') return at;
    const made = this.#ops.symlink(at.dir, at.name, target, this.#caller);
    return typeof made === 'number' ? made : 0;
  }

  link(path: string, newPath: string): number {
    const node = this.#walk(path, false);
    const at = this.#parent(newPath);
    if (typeof node === 'number') return node;
    return typeof at === 'number' ? at : this.#ops.link(at.dir, at.name, node);
  }

  async unlink(path: string): Promise<number> {
    const at = this.#parent(path);
    if (typeof at === 'number') return at;
    return new Promise((resolve) => this.#ops.unlink(at.dir, at.name, resolve));
  }

  rmdir(path: string): number {
    const at = this.#parent(path);
    return typeof at === 'number' ? at : this.#ops.rmdir(at.dir, at.name);
  }

  async rename(path: string, newPath: string): Promise<number> {
    const from = this.#parent(path);
    const to = this.#parent(newPath);
    if (typeof from === 'number') return from;
    if (typeof to === 'number') return to;
    return new Promise((resolve) =>
      this.#ops.rename(from.dir, from.name, to.dir, to.name, resolve),
    );
  }

  #walk(path: string, follow: boolean, links = 0): Vnode | number {
    this.#ops.jobs.noteRequest();
    const names = posix
      .normalize('/' + path)
      .split('/')
      .filter((name) => name !== '');
    let node: Vnode = this.#ops.root;
    for (const [index, name] of names.entries()) {
      const child = this.#ops.lookup(node, name);
      if (typeof child === 'number') return child;
      const attr = this.#ops.getattr(child);
      if (typeof attr === 'number') return attr;
      const last = index === names.length - 1;
      if ((attr.mode & S_IFMT) === S_IFLNK && (!last || follow)) {
        if (links === MAX_LINKS) return -ELOOP;
        const target = this.#ops.readlink(child);
        if (typeof target === 'number') return target;
        const base = target.startsWith('/') ? [] : names.slice(0, index);
        const rest = names.slice(index + 1);
        return this.#walk([...base, target, ...rest].join('/'), follow, links + 1);
      }
      if (!last && (attr.mode & S_IFMT) !== S_IFDIR) return -ENOTDIR;
      node = child;
    }
    return node;
  }

  #parent(path: string): { dir: Vnode; name: string } | number {
    const names = path.split('/').filter((name) => name !== '');
    const name = names.pop() ?? '';
    const dir = this.#walk(names.join('/'), true);
    return typeof dir === 'number' ? dir : { dir, name };
  }
}
