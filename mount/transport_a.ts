/**
 * Transport A: fuse-native 2.2.6 over libfuse 2.9, the default.
 *
 * libfuse speaks in paths, so each request walks the tree by name (a few Map lookups beside a
 * round trip of 200 us). Around what fuse-native gets wrong:
 * - options are built here: its own list lacks direct_io, and DEBUG=*:* would switch on a dump;
 * - an open file that is unlinked comes as a rename to .fuse_hidden*: the name goes at once, the
 *   node stays reachable under the hidden path for libfuse alone until the last close;
 * - every operation is wrapped: an exception is EIO, and each request is answered once;
 * - it never says who asks: the caller is the user who mounted, with pid 0;
 * - utimens hands over the access time twice; touch -a and touch -m alone never arrive.
 */
import createDebug from 'debug';
import {
  type Attr,
  type Caller,
  O_RDWR,
  S_IFMT,
  S_IFREG,
  type SetAttr,
  type Vnode,
} from '../src/fs/vfs.ts';
import { EIO, ENOTEMPTY, ERANGE } from '../src/lib/errno.ts';
import { reportDefect } from './jobs.ts';
import { mountAt } from './mountinfo.ts';
import { closeFuseOnExec, loadFuse, MNT_DETACH, ThreadBuffers, umount } from './native.ts';
import type { Operations, Reply } from './ops.ts';
import { Failure, type Transport } from './transport.ts';
import { explainMountFailure, runFusermount } from './unmount.ts';

const debug = createDebug('pageblock:fuse');

const EILSEQ = 84;
const HIDDEN = /^\.fuse_hidden[0-9a-f]{16,}$/;
const NO_ID = 0xffffffff;

export interface FuseNativeOptions {
  readonly mountPoint: string;
  readonly caller: Caller;
  readonly allowOther: boolean;
}

type Callback = (error: number, ...values: unknown[]) => void;
type Signal = (result: number, ...values: unknown[]) => void;
type Handlers = Record<string, (...args: never[]) => void>;

/** What is used of the class that fuse-native exports. */
interface Fuse {
  mount(done: (error: Error | null) => void): void;
}
type FuseClass = new (mountPoint: string, handlers: Handlers, options: object) => Fuse;

export class FuseNativeTransport implements Transport {
  readonly name = 'fuse-native';
  readonly #ops: Operations;
  readonly #options: FuseNativeOptions;
  /** Nodes without a name that libfuse still calls by its hidden path. */
  readonly #hidden = new Map<string, Vnode>();
  #mounted = false;

  constructor(ops: Operations, options: FuseNativeOptions) {
    this.#ops = ops;
    this.#options = options;
  }

  async mount(): Promise<void> {
    const { mountPoint, allowOther } = this.#options;
    let Base: FuseClass;
    try {
      Base = loadFuse() as FuseClass;
    } catch (error) {
      throw new Failure((error as Error).message);
    }
    const fuse = this.#construct(Base);
    const error = await new Promise<Error | null>((resolve) => fuse.mount(resolve));
    if (error) {
      debug('mount: %o', error);
      throw new Failure(explainMountFailure(mountPoint, allowOther, error));
    }
    closeFuseOnExec();
    this.#mounted = true;
    // The callback comes before the answer to INIT has left: let that go first.
    await new Promise((resolve) => setImmediate(resolve));
  }

  async unmount(): Promise<void> {
    const { mountPoint } = this.#options;
    if (!this.#mounted || mountAt(mountPoint) === undefined) return;
    this.#mounted = false;
    const result = await umount(mountPoint, MNT_DETACH);
    if (result === 0) return;
    const failed = await runFusermount(mountPoint);
    if (failed !== null && mountAt(mountPoint) !== undefined) throw new Failure(failed);
  }

  #construct(Base: FuseClass): Fuse {
    const ops = this.#ops;
    const walk = (path: string) => this.#walk(path);
    const allowOther = this.#options.allowOther;
    const threads = new ThreadBuffers();

    // The methods with an underscore are fuse-native's own; the version is pinned.
    class PageblockFuse extends Base {
      _fuseOptions(): string {
        const options = [
          'direct_io',
          'atomic_o_trunc',
          'big_writes',
          'max_write=131072',
          'use_ino',
          'default_permissions',
          'fsname=pageblock',
          'subtype=pageblock',
        ];
        if (allowOther) options.push('allow_other');
        return '-o' + options.join(',');
      }

      // fuse-native's own keeps what it makes for a thread for ever, and threads come and go.
      _malloc(size: number): Buffer {
        return threads.make(size);
      }

      // fuse-native's own makes st_nlink 1 of 0, and a Date of each time.
      _op_getattr(signal: Signal, path: string): void {
        ops.jobs.noteRequest();
        const node = walk(path);
        const attr = typeof node === 'number' ? node : ops.getattr(node);
        if (typeof attr === 'number') signal(attr, new Uint32Array(18));
        else signal(0, statArray(attr));
      }

      // fuse-native's own writes past the caller's buffer when the value is longer.
      _op_getxattr(signal: Signal, path: string, name: string, buf: Buffer): void {
        ops.jobs.noteRequest();
        const node = walk(path);
        const value = typeof node === 'number' ? node : ops.getxattr(node, name);
        signal(fill(buf, value), buf.buffer);
      }

      _op_listxattr(signal: Signal, path: string, buf: Buffer): void {
        ops.jobs.noteRequest();
        const node = walk(path);
        const names = typeof node === 'number' ? node : ops.listxattr(node);
        const value =
          typeof names === 'number'
            ? names
            : Buffer.from(names.map((name) => name + '\0').join(''));
        signal(fill(buf, value), buf.buffer);
      }
    }

    const handlers: Handlers = {};
    for (const [name, handler] of Object.entries(this.#handlers())) {
      handlers[name] = (...args: never[]) => {
        ops.jobs.noteRequest();
        const callback = args[args.length - 1] as Callback;
        let answered = false;
        const once: Callback = (...answer) => {
          if (answered) return reportDefect(name, new Error('a request was answered twice'));
          answered = true;
          callback(...answer);
        };
        args[args.length - 1] = once as never;
        try {
          (handler as (...args: never[]) => void)(...args);
        } catch (error) {
          reportDefect(name, error);
          if (!answered) once(-EIO);
        }
      };
    }
    // The stale point has been taken away before (server.ts), hence no `force`; and the
    // directory exists. `timeout: false`: an answer may take as long as a compaction does.
    return new PageblockFuse(this.#options.mountPoint, handlers, { timeout: false });
  }

  #handlers(): Handlers {
    const ops = this.#ops;
    const caller = this.#options.caller;

    return {
      // Only tells fuse-native that these exist; see PageblockFuse.
      getattr: () => {},
      getxattr: () => {},
      listxattr: () => {},

      statfs: (path: string, cb: Callback) => {
        const node = this.#walk(path);
        const stat = typeof node === 'number' ? node : ops.statfs(node);
        if (typeof stat === 'number') return cb(stat);
        cb(0, { ...stat, frsize: stat.bsize, favail: stat.ffree, namemax: stat.namelen });
      },

      readdir: (path: string, cb: Callback) => {
        const node = this.#walk(path);
        if (typeof node === 'number') return cb(node);
        const entries = ops.readdir(node);
        if (typeof entries === 'number') return cb(entries);
        const self = ops.getattr(node);
        const ino = typeof self === 'number' ? 0 : self.ino;
        // libfuse adds no dots, and sysctl(8) drops the first two entries unseen.
        const names = ['.', '..'];
        const stats = [dirEntry(ino, 0o040000), dirEntry(ino, 0o040000)];
        for (const entry of entries) {
          names.push(entry.name);
          stats.push(dirEntry(entry.ino, entry.mode & S_IFMT));
        }
        cb(0, names, stats);
      },

      readlink: (path: string, cb: Callback) => {
        const node = this.#walk(path);
        const target = typeof node === 'number' ? node : ops.readlink(node);
        if (typeof target === 'number') cb(target);
        else cb(0, target);
      },

      open: (path: string, flags: number, cb: Callback) => {
        const node = this.#walk(path);
        if (typeof node === 'number') return cb(node);
        ops.open(node, flags, caller, (handle) => {
          if (handle < 0) cb(handle);
          else cb(0, handle);
        });
      },

      create: (path: string, mode: number, cb: Callback) => {
        const at = this.#parent(path, true);
        if (typeof at === 'number') return cb(at);
        const handle = ops.create(at.dir, at.name, mode, O_RDWR, caller);
        if (handle < 0) cb(handle);
        else cb(0, handle);
      },

      // The first argument of these two answers is the count, not an error.
      read: (_: string, handle: number, buf: Buffer, len: number, pos: number, cb: Callback) => {
        ops.readLater(handle, len === buf.length ? buf : buf.subarray(0, len), pos, cb);
      },
      write: (_: string, handle: number, buf: Buffer, len: number, pos: number, cb: Callback) => {
        // The buffer is the waiting libfuse thread's: valid until the answer.
        ops.write(handle, len === buf.length ? buf : buf.subarray(0, len), pos, cb);
      },
      fsync: (_: string, datasync: number, handle: number, cb: Callback) => {
        ops.fsync(handle, datasync !== 0, cb);
      },
      release: (_: string, handle: number, cb: Callback) => {
        ops.release(handle, cb);
      },

      truncate: (path: string, size: number, cb: Callback) => this.#setattr(path, { size }, cb),
      ftruncate: (path: string, handle: number, size: number, cb: Callback) => {
        const node = ops.node(handle);
        if (node === undefined) this.#setattr(path, { size }, cb);
        else ops.setattr(node, { size }, caller, cb);
      },
      chmod: (path: string, mode: number, cb: Callback) =>
        this.#setattr(path, { mode: mode & 0o7777 }, cb),
      chown: (path: string, uid: number, gid: number, cb: Callback) => {
        const attr: SetAttr = {};
        if (uid !== NO_ID) attr.uid = uid;
        if (gid !== NO_ID) attr.gid = gid;
        this.#setattr(path, attr, cb);
      },
      utimens: (path: string, atime: number, mtime: number, cb: Callback) =>
        this.#setattr(path, { atime, mtime }, cb),

      mknod: (path: string, mode: number, rdev: number, cb: Callback) => {
        const at = this.#parent(path, true);
        if (typeof at === 'number') return cb(at);
        if ((mode & S_IFMT) !== S_IFREG && (mode & S_IFMT) !== 0) {
          return cb(status(ops.mknod(at.dir, at.name, mode, rdev, caller)));
        }
        const handle = ops.create(at.dir, at.name, mode, O_RDWR, caller);
        if (handle > 0) ops.release(handle, cb);
        else cb(handle);
      },
      mkdir: (path: string, mode: number, cb: Callback) => {
        const at = this.#parent(path, true);
        cb(typeof at === 'number' ? at : status(ops.mkdir(at.dir, at.name, mode, caller)));
      },
      symlink: (target: string, path: string, cb: Callback) => {
        const at = this.#parent(path, true);
        cb(typeof at === 'number' ? at : status(ops.symlink(at.dir, at.name, target, caller)));
      },
      link: (path: string, newPath: string, cb: Callback) => {
        const node = this.#walk(path);
        const at = this.#parent(newPath, true);
        if (typeof node === 'number') return cb(node);
        cb(typeof at === 'number' ? at : ops.link(at.dir, at.name, node));
      },
      unlink: (path: string, cb: Callback) => this.#unlink(path, cb),
      rmdir: (path: string, cb: Callback) => cb(this.#rmdir(path)),
      rename: (path: string, newPath: string, cb: Callback) => this.#rename(path, newPath, cb),

      setxattr: (path: string, name: string, value: Buffer, ...rest: unknown[]) => {
        const cb = rest[rest.length - 1] as Callback;
        const node = this.#walk(path);
        cb(typeof node === 'number' ? node : ops.setxattr(node, name, Uint8Array.from(value)));
      },
      removexattr: (path: string, name: string, cb: Callback) => {
        const node = this.#walk(path);
        cb(typeof node === 'number' ? node : ops.removexattr(node, name));
      },
    } as Handlers;
  }

  #walk(path: string): Vnode | number {
    let node = this.#ops.root;
    if (path === '/') return node;
    if (this.#hidden.size > 0) {
      const orphan = this.#hidden.get(path);
      if (orphan !== undefined) return orphan;
    }
    for (const name of path.split('/')) {
      if (name === '') continue;
      const child = this.#ops.lookup(node, name);
      if (typeof child === 'number') return child;
      node = child;
    }
    return node;
  }

  #parent(path: string, isNew: boolean): { dir: Vnode; name: string } | number {
    const slash = path.lastIndexOf('/');
    const name = path.slice(slash + 1);
    // fuse-native decodes names as UTF-8; two that are not would become the same name.
    if (isNew && name.includes('\ufffd')) return -EILSEQ;
    const dir = this.#walk(slash <= 0 ? '/' : path.slice(0, slash));
    return typeof dir === 'number' ? dir : { dir, name };
  }

  #setattr(path: string, attr: SetAttr, reply: Reply): void {
    const node = this.#walk(path);
    if (typeof node === 'number') reply(node);
    else this.#ops.setattr(node, attr, this.#options.caller, reply);
  }

  #unlink(path: string, reply: Reply): void {
    const orphan = this.#hidden.get(path);
    const at = this.#parent(path, false);
    if (orphan !== undefined) {
      this.#hidden.delete(path);
      this.#ops.forget(orphan);
      reply(0);
    } else if (typeof at === 'number') {
      reply(at);
    } else {
      const node = this.#ops.lookup(at.dir, at.name);
      this.#ops.unlink(at.dir, at.name, (result) => {
        if (result === 0 && typeof node !== 'number') this.#ops.forget(node);
        reply(result);
      });
    }
  }

  #rmdir(path: string): number {
    // libfuse finds an open file through the name of its directory, so that must stay.
    for (const hidden of this.#hidden.keys()) {
      if (hidden.startsWith(path + '/')) return -ENOTEMPTY;
    }
    const at = this.#parent(path, false);
    if (typeof at === 'number') return at;
    const node = this.#ops.lookup(at.dir, at.name);
    const result = this.#ops.rmdir(at.dir, at.name);
    if (result === 0 && typeof node !== 'number') this.#ops.forget(node);
    return result;
  }

  #rename(path: string, newPath: string, reply: Reply): void {
    const from = this.#parent(path, false);
    const to = this.#parent(newPath, true);
    if (typeof from === 'number') reply(from);
    else if (typeof to === 'number') reply(to);
    else {
      const node = this.#ops.lookup(from.dir, from.name);
      if (typeof node === 'number') reply(node);
      else if (from.dir === to.dir && HIDDEN.test(to.name) && this.#ops.isOpen(node)) {
        this.#ops.unlink(from.dir, from.name, (result) => {
          if (result === 0) this.#hidden.set(newPath, node);
          reply(result);
        });
      } else {
        const victim = this.#ops.lookup(to.dir, to.name);
        this.#ops.rename(from.dir, from.name, to.dir, to.name, (result) => {
          if (result === 0) {
            if (typeof victim !== 'number' && victim !== node) this.#ops.forget(victim);
            this.#moveHidden(path, newPath);
          }
          reply(result);
        });
      }
    }
  }

  /** A directory was renamed: libfuse now calls the hidden files in it by their new paths. */
  #moveHidden(path: string, newPath: string): void {
    for (const [hidden, node] of [...this.#hidden]) {
      if (!hidden.startsWith(path + '/')) continue;
      this.#hidden.delete(hidden);
      this.#hidden.set(newPath + hidden.slice(path.length), node);
    }
  }
}

/** 0, or the errno, of an operation that returns what it made. */
function status(result: Vnode | number): number {
  return typeof result === 'number' ? result : 0;
}

function dirEntry(ino: number, mode: number): object {
  return { ino, mode, atime: 0, mtime: 0, ctime: 0 };
}

/** The rules of getxattr(2): an empty buffer asks for the size. */
function fill(buf: Uint8Array, value: Uint8Array | number): number {
  if (typeof value === 'number') return value;
  if (buf.length === 0) return value.length;
  if (value.length > buf.length) return -ERANGE;
  buf.set(value);
  return value.length;
}

/** The layout that fuse-native's populate_stat reads: 32-bit words, low word first. */
function statArray(attr: Attr): Uint32Array {
  const words = new Uint32Array(18);
  words[0] = attr.mode;
  words[1] = attr.uid;
  words[2] = attr.gid;
  setWide(words, 3, attr.size);
  words[6] = attr.nlink;
  words[7] = attr.ino;
  words[8] = attr.rdev;
  words[9] = attr.blksize;
  setWide(words, 10, attr.blocks);
  setWide(words, 12, attr.atime);
  setWide(words, 14, attr.mtime);
  setWide(words, 16, attr.ctime);
  return words;
}

function setWide(words: Uint32Array, index: number, value: number): void {
  words[index] = value % 2 ** 32;
  words[index + 1] = Math.floor(value / 2 ** 32);
}
