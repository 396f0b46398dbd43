/**
 * The file system as every transport sees it: requests by node, on Vnodes and OpenFiles.
 *
 * A transport finds out who asks for what and calls one method here. Results are values or
 * negative errnos; what may take long (write, fsync, open, setattr, unlink, rename) answers through
 * a callback, at once or, when the Vnode returns a Job, after the JobRunner has run it in slices. Open files live in a table under
 * small positive numbers. An exception in a Vnode becomes EIO, is reported once on standard
 * error and harms no other request. Linux has this layer in fs/fuse/ on the other side.
 */

import type { Attr, Caller, Dirent, OpenFile, SetAttr, StatFs, Vnode } from '../src/fs/vfs.ts';
import { O_ACCMODE, O_RDONLY, O_RDWR, O_TRUNC } from '../src/fs/vfs.ts';
import { EBADF, EINTR, EIO, ERESTARTSYS } from '../src/lib/errno.ts';
import { is_job, type Job } from '../src/lib/kthread.ts';
import { type JobRunner, reportDefect } from './jobs.ts';

export type Reply = (result: number) => void;

interface Handle {
  readonly node: Vnode;
  readonly file: OpenFile;
}

/** A read of a pipe in which there is nothing yet. */
interface WaitingRead {
  readonly handle: number;
  readonly buf: Uint8Array;
  readonly pos: number;
  readonly reply: Reply;
  readonly until: number;
}

/** How often a waiting read looks again, and how long it waits at most; milliseconds. */
export const PIPE_POLL = 20;
export const PIPE_WAIT = 250;

// fuse-native passes handles as signed 32-bit integers and takes 0 for "not set".
const MAX_HANDLE = 2 ** 31 - 1;

export class Operations {
  readonly #handles = new Map<number, Handle>();
  readonly #openCounts = new Map<Vnode, number>();
  readonly #waiting: WaitingRead[] = [];
  #pollTimer: NodeJS.Timeout | undefined;
  #nextHandle = 1;
  readonly root: Vnode;
  readonly jobs: JobRunner;

  constructor(root: Vnode, jobs: JobRunner) {
    this.root = root;
    this.jobs = jobs;
  }

  get openFiles(): number {
    return this.#handles.size;
  }

  isOpen(node: Vnode): boolean {
    return this.#openCounts.has(node);
  }

  lookup(dir: Vnode, name: string): Vnode | number {
    return attempt('lookup', () => dir.lookup(name));
  }

  getattr(node: Vnode): Attr | number {
    return attempt<Attr>('getattr', () => node.getattr());
  }

  setattr(node: Vnode, attr: SetAttr, caller: Caller, reply: Reply): void {
    this.#answer(
      attempt('setattr', () => node.setattr(attr, caller)),
      reply,
    );
  }

  readlink(node: Vnode): string | number {
    return attempt('readlink', () => node.readlink());
  }

  readdir(node: Vnode): Dirent[] | number {
    return attempt('readdir', () => node.readdir());
  }

  statfs(node: Vnode): StatFs | number {
    return attempt<StatFs>('statfs', () => node.statfs());
  }

  mkdir(dir: Vnode, name: string, mode: number, caller: Caller): Vnode | number {
    return attempt('mkdir', () => dir.mkdir(name, mode, caller));
  }

  mknod(dir: Vnode, name: string, mode: number, rdev: number, caller: Caller): Vnode | number {
    return attempt('mknod', () => dir.mknod(name, mode, rdev, caller));
  }

  symlink(dir: Vnode, name: string, target: string, caller: Caller): Vnode | number {
    return attempt('symlink', () => dir.symlink(name, target, caller));
  }

  link(dir: Vnode, name: string, target: Vnode): number {
    return attempt('link', () => dir.link(name, target));
  }

  unlink(dir: Vnode, name: string, reply: Reply): void {
    this.#answer(
      attempt('unlink', () => dir.unlink(name)),
      reply,
    );
  }

  rmdir(dir: Vnode, name: string): number {
    return attempt('rmdir', () => dir.rmdir(name));
  }

  rename(dir: Vnode, name: string, newDir: Vnode, newName: string, reply: Reply): void {
    this.#answer(
      attempt('rename', () => dir.rename(name, newDir, newName)),
      reply,
    );
  }

  forget(node: Vnode): void {
    attempt('forget', () => node.forget());
  }

  setxattr(node: Vnode, name: string, value: Uint8Array): number {
    return attempt('setxattr', () => node.setxattr(name, value));
  }

  getxattr(node: Vnode, name: string): Uint8Array | number {
    return attempt('getxattr', () => node.getxattr(name));
  }

  listxattr(node: Vnode): string[] | number {
    return attempt('listxattr', () => node.listxattr());
  }

  removexattr(node: Vnode, name: string): number {
    return attempt('removexattr', () => node.removexattr(name));
  }

  ioctl(node: Vnode, cmd: number): number {
    return attempt('ioctl', () => node.ioctl(cmd));
  }

  /** Answers with a handle or -errno. */
  open(node: Vnode, flags: number, caller: Caller, reply: Reply): void {
    if ((flags & O_TRUNC) === 0 || (flags & O_ACCMODE) === O_RDONLY) {
      reply(this.#open(node, flags, caller));
      return;
    }
    const emptied = attempt('open', () => node.empty());
    this.#answer(emptied, (result) => reply(result < 0 ? result : this.#open(node, flags, caller)));
  }

  #open(node: Vnode, flags: number, caller: Caller): number {
    const file = attempt('open', () => node.open(flags, caller));
    return typeof file === 'number' ? file : this.#addHandle(node, file);
  }

  /** Makes a regular file and opens it. Returns a handle or -errno. */
  create(dir: Vnode, name: string, mode: number, flags: number, caller: Caller): number {
    const node = attempt('create', () => dir.create(name, mode, caller));
    if (typeof node === 'number') return node;
    return this.#open(node, (flags & ~O_ACCMODE) | O_RDWR, caller);
  }

  /** The node behind a handle. */
  node(handle: number): Vnode | undefined {
    return this.#handles.get(handle)?.node;
  }

  /** One look: -ERESTARTSYS from a pipe that has nothing yet. */
  read(handle: number, buf: Uint8Array, pos: number): number {
    const entry = this.#handles.get(handle);
    if (entry === undefined) return -EBADF;
    return attempt('read', () => entry.file.read(buf, pos));
  }

  /**
   * A read that may wait for a pipe. It looks again every PIPE_POLL and gives up with -EINTR after
   * PIPE_WAIT, since a transport may not learn that the caller was killed: programs then read
   * again (cat, perl, python, the shell all do), and one that was killed is let go. A file that is
   * closed meanwhile ends it. `buf` must stay valid until `reply` is called.
   */
  readLater(handle: number, buf: Uint8Array, pos: number, reply: Reply): void {
    const ms = this.#handles.get(handle)?.file.delay?.('read') ?? 0;
    if (ms > 0) setTimeout(() => this.#readNow(handle, buf, pos, reply), ms);
    else this.#readNow(handle, buf, pos, reply);
  }

  #readNow(handle: number, buf: Uint8Array, pos: number, reply: Reply): void {
    const result = this.read(handle, buf, pos);
    if (result !== -ERESTARTSYS) {
      reply(result);
      return;
    }
    this.#waiting.push({ handle, buf, pos, reply, until: performance.now() + PIPE_WAIT });
    this.#pollTimer ??= setTimeout(this.#poll, PIPE_POLL);
  }

  #poll = (): void => {
    const now = performance.now();
    const waiting = this.#waiting.splice(0);
    for (const read of waiting) {
      const open = this.#handles.has(read.handle);
      const result = open ? this.read(read.handle, read.buf, read.pos) : 0;
      if (result !== -ERESTARTSYS) read.reply(result);
      else if (now >= read.until) read.reply(-EINTR);
      else this.#waiting.push(read);
    }
    this.#pollTimer = this.#waiting.length > 0 ? setTimeout(this.#poll, PIPE_POLL) : undefined;
  };

  /** `buf` must stay valid and unchanged until `reply` is called. */
  write(handle: number, buf: Uint8Array, pos: number, reply: Reply): void {
    const ms = this.#handles.get(handle)?.file.delay?.('write') ?? 0;
    if (ms > 0) setTimeout(() => this.#writeNow(handle, buf, pos, reply), ms);
    else this.#writeNow(handle, buf, pos, reply);
  }

  #writeNow(handle: number, buf: Uint8Array, pos: number, reply: Reply): void {
    const entry = this.#handles.get(handle);
    this.#answer(entry ? attempt('write', () => entry.file.write(buf, pos)) : -EBADF, reply);
  }

  fsync(handle: number, datasync: boolean, reply: Reply): void {
    const entry = this.#handles.get(handle);
    this.#answer(entry ? attempt('fsync', () => entry.file.fsync(datasync)) : -EBADF, reply);
  }

  /** Never fails. */
  release(handle: number, reply: Reply): void {
    const entry = this.#handles.get(handle);
    if (entry === undefined) {
      reply(0);
      return;
    }
    this.#handles.delete(handle);
    const count = (this.#openCounts.get(entry.node) ?? 1) - 1;
    if (count === 0) this.#openCounts.delete(entry.node);
    else this.#openCounts.set(entry.node, count);
    const { file } = entry;
    const closed = attempt('release', () => {
      if (file.close !== undefined) return file.close();
      file.release();
      return 0;
    });
    this.#answer(closed, () => reply(0));
  }

  #answer(result: number | Job, reply: Reply): void {
    if (is_job(result)) this.jobs.run(result, reply);
    else reply(result);
  }

  #addHandle(node: Vnode, file: OpenFile): number {
    while (this.#handles.has(this.#nextHandle)) this.#nextHandle = next(this.#nextHandle);
    const handle = this.#nextHandle;
    this.#nextHandle = next(handle);
    this.#handles.set(handle, { node, file });
    this.#openCounts.set(node, (this.#openCounts.get(node) ?? 0) + 1);
    return handle;
  }
}

function next(handle: number): number {
  return handle === MAX_HANDLE ? 1 : handle + 1;
}

function attempt<T>(what: string, operation: () => T | number): T | number {
  try {
    return operation();
  } catch (error) {
    reportDefect(what, error);
    return -EIO;
  }
}
