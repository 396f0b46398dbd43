/**
 * A program's view of a tree, the same for every transport: one method per system call, results
 * or negative errnos. MountClient makes real system calls on a mount point of another process;
 * InProcessTransport has the same methods.
 */
import { close, fstat, fsync, ftruncate, open, read, readdir, write } from 'node:fs';
import * as fs from 'node:fs/promises';
import { constants } from 'node:os';
import { join } from 'node:path';
import type { InProcessTransport } from '../../mount/transport_0.ts';
import { run } from './processes.ts';

/** The part of struct stat that tests compare. */
export interface Stat {
  readonly ino: number;
  readonly mode: number;
  readonly nlink: number;
  readonly size: number;
  readonly mtime: number;
}

type Awaitable<T> = T | Promise<T>;

export interface Client {
  open(path: string, flags: number, mode?: number): Awaitable<number>;
  read(fd: number, buf: Uint8Array, pos?: number): Awaitable<number>;
  write(fd: number, buf: Uint8Array, pos?: number): Awaitable<number>;
  fsync(fd: number): Awaitable<number>;
  close(fd: number): Awaitable<number>;
  fstat(fd: number): Awaitable<Stat | number>;
  ftruncate(fd: number, size: number): Awaitable<number>;
  stat(path: string): Awaitable<Stat | number>;
  lstat(path: string): Awaitable<Stat | number>;
  chmod(path: string, mode: number): Awaitable<number>;
  truncate(path: string, size: number): Awaitable<number>;
  utimes(path: string, ms: number): Awaitable<number>;
  readlink(path: string): Awaitable<string | number>;
  /** In the order of the answers, with the dots. */
  readdir(path: string): Awaitable<string[] | number>;
  mkdir(path: string, mode?: number): Awaitable<number>;
  symlink(target: string, path: string): Awaitable<number>;
  link(path: string, newPath: string): Awaitable<number>;
  unlink(path: string): Awaitable<number>;
  rmdir(path: string): Awaitable<number>;
  rename(path: string, newPath: string): Awaitable<number>;
  statfs(path: string): Awaitable<{ bsize: number; blocks: number; bfree: number } | number>;
}

export function inProcessClient(transport: InProcessTransport): Client {
  const own: Pick<Client, 'chmod' | 'truncate' | 'utimes'> = {
    chmod: (path, mode) => transport.setattr(path, { mode }),
    truncate: (path, size) => transport.setattr(path, { size }),
    utimes: (path, ms) => transport.setattr(path, { atime: ms, mtime: ms }),
  };
  return new Proxy(transport as unknown as Client, {
    get: (target, name) => {
      if (name in own) return own[name as keyof typeof own];
      const method = target[name as keyof Client] as (...args: unknown[]) => unknown;
      return method.bind(target);
    },
  });
}

function errnoOf(error: unknown): number {
  const code = (error as NodeJS.ErrnoException).code as keyof typeof constants.errno;
  const errno = constants.errno[code];
  if (errno === undefined) throw error;
  return -errno;
}

/** Turns a callback function of node:fs into a promise of a result or a negative errno. */
function call<T>(start: (done: (error: Error | null, value: T) => void) => void) {
  return new Promise<T | number>((resolve) =>
    start((error, value) => resolve(error === null ? value : errnoOf(error))),
  );
}

/** 0 or the negative errno of a promise. */
function status(promise: Promise<unknown>): Promise<number> {
  return promise.then(() => 0, errnoOf);
}

function statOf(stats: import('node:fs').Stats): Stat {
  const { ino, mode, nlink, size, mtimeMs } = stats;
  return { ino, mode, nlink, size, mtime: mtimeMs };
}

export function mountClient(mountPoint: string): Client {
  const at = (path: string) => join(mountPoint, path);
  return {
    open: (path, flags, mode = 0o644) => call<number>((done) => open(at(path), flags, mode, done)),
    read: (fd, buf, pos) => call<number>((done) => read(fd, buf, 0, buf.length, pos ?? null, done)),
    write: (fd, buf, pos) =>
      call<number>((done) => write(fd, buf, 0, buf.length, pos ?? null, done)),
    fsync: (fd) => call<void>((done) => fsync(fd, (e) => done(e))).then((r) => r ?? 0),
    close: (fd) => call<void>((done) => close(fd, (e) => done(e ?? null))).then((r) => r ?? 0),
    fstat: (fd) =>
      call<import('node:fs').Stats>((done) => fstat(fd, done)).then((r) =>
        typeof r === 'number' ? r : statOf(r),
      ),
    ftruncate: (fd, size) =>
      call<void>((done) => ftruncate(fd, size, (e) => done(e))).then((r) => r ?? 0),
    stat: (path) => fs.stat(at(path)).then(statOf, errnoOf),
    lstat: (path) => fs.lstat(at(path)).then(statOf, errnoOf),
    chmod: (path, mode) => status(fs.chmod(at(path), mode)),
    truncate: (path, size) => status(fs.truncate(at(path), size)),
    utimes: (path, ms) => status(fs.utimes(at(path), ms / 1000, ms / 1000)),
    readlink: (path) => fs.readlink(at(path)).catch(errnoOf),
    // Node drops the dots: `ls -f` prints what getdents returned, as it came.
    readdir: async (path) => {
      const error = await call((done) => readdir(at(path), done));
      if (typeof error === 'number') return error;
      return (await run('ls', ['-f', at(path)])).stdout.trimEnd().split('\n');
    },
    mkdir: (path, mode) => status(fs.mkdir(at(path), { mode: mode ?? 0o755 })),
    symlink: (target, path) => status(fs.symlink(target, at(path))),
    link: (path, newPath) => status(fs.link(at(path), at(newPath))),
    unlink: (path) => status(fs.unlink(at(path))),
    rmdir: (path) => status(fs.rmdir(at(path))),
    rename: (path, newPath) => status(fs.rename(at(path), at(newPath))),
    statfs: (path) => fs.statfs(at(path)).catch(errnoOf),
  };
}
