/**
 * The one door to native/addon.cc, and to the libfuse that fuse-native needs at run time.
 *
 * Without the addon (no compiler at install time) everything but a mount still works: memory is
 * not given back to the host, holes are not punched, and `loadFuse` falls back on a libfuse.so.2
 * that the system's loader finds by itself.
 * The libfuse that npm ships (fuse-shared-library, 2.9.9) comes first, the system's second: so
 * every installation runs the same library, and a mount as root needs no Debian package.
 */
import { existsSync, readdirSync, readlinkSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import createDebug from 'debug';

const debug = createDebug('pageblock:native');
const require = createRequire(import.meta.url);

interface Addon {
  preload(path: string): void;
  setCloexec(fd: number): number;
  umount(path: string, flags: number): Promise<number>;
  punchHole(fd: number, offset: number, length: number): number;
  alignOffset(view: Uint8Array): number;
  discard(view: Uint8Array, offsets: Uint32Array | Int32Array, count: number): number;
  exec?(argv: string[]): number;
  watchThreads?(begin: boolean): boolean;
  endedThreads?(size: number): number[];
  addressOf?(view: Uint8Array): number;
}

export const MNT_FORCE = 1;
export const MNT_DETACH = 2;

/** The directory of package.json: one level up from mount/, two from dist/mount/. */
export function packageRoot(): string {
  let dir = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(dir, 'package.json'))) {
    const parent = dirname(dir);
    if (parent === dir) throw new Error('package.json not found above ' + import.meta.url);
    dir = parent;
  }
  return dir;
}

let addon: Addon | null | undefined;

function load(): Addon | null {
  if (addon !== undefined) return addon;
  addon = null;
  // A switch for tests: proves that nothing but the mount depends on the addon.
  if (process.env['PAGEBLOCK_NO_ADDON'] === '1') return null;
  try {
    addon = require('node-gyp-build')(packageRoot()) as Addon;
  } catch (error) {
    debug('addon not loaded: %s', (error as Error).message);
  }
  return addon;
}

export function hasAddon(): boolean {
  return load() !== null;
}

/** Keeps a descriptor out of child processes. Returns 0 or -errno. */
export function setCloexec(fd: number): number {
  return load()?.setCloexec(fd) ?? 0;
}

/**
 * Sets close-on-exec on every /dev/fuse of this process: libfuse 2 opens it without, and a child
 * that inherits it keeps the connection alive after the server's death, so that clients hang.
 */
export function closeFuseOnExec(): number {
  let count = 0;
  for (const name of readdirSync('/proc/self/fd')) {
    try {
      if (readlinkSync('/proc/self/fd/' + name) !== '/dev/fuse') continue;
    } catch {
      continue; // the descriptor of the listing itself
    }
    if (setCloexec(Number(name)) === 0) count++;
  }
  return count;
}

/** umount2(2) off the main thread. Resolves to 0 or -errno, -ENOSYS (38) without the addon. */
export function umount(path: string, flags: number): Promise<number> {
  return load()?.umount(path, flags) ?? Promise.resolve(-38);
}

/** Gives a range of a host file back. 0 or -errno, -EOPNOTSUPP (95) without the addon. */
export function punchHole(fd: number, offset: number, length: number): number {
  return load()?.punchHole(fd, offset, length) ?? -95;
}

/** How many bytes after the buffer's start the first address divisible by 4096 lies. */
export function alignOffset(buffer: SharedArrayBuffer | ArrayBuffer): number {
  return load()?.alignOffset(new Uint8Array(buffer)) ?? 0;
}

/**
 * Gives pages back to the host; they read as zeros afterwards. Page n lies alignOffset(buffer) +
 * n * 4096 bytes after the buffer's start. Returns the number of pages given back.
 */
export function discard(
  buffer: SharedArrayBuffer | ArrayBuffer,
  offsets: Uint32Array | Int32Array,
  count: number,
): number {
  return load()?.discard(new Uint8Array(buffer), offsets, count) ?? 0;
}

/**
 * Becomes another program; does not return when that succeeds. -errno, -ENOSYS (38) without the
 * addon or with one that was built before this function.
 */
export function exec(argv: string[]): number {
  return load()?.exec?.(argv) ?? -38;
}

/**
 * What fuse-native keeps for each thread of libfuse, given back when the thread has ended. Without
 * the addon it is kept for ever.
 */
export class ThreadBuffers {
  readonly #buffers = new Map<number, Buffer>();
  #count = 0;

  /** A zeroed buffer that no garbage collection takes. */
  make(size: number): Buffer {
    for (const address of load()?.endedThreads?.(size) ?? []) this.#buffers.delete(address);
    const buffer = Buffer.alloc(size);
    this.#buffers.set(load()?.addressOf?.(buffer) ?? -this.#count, buffer);
    if (++this.#count % 100 === 0) debug('%d threads, %d kept', this.#count, this.#buffers.size);
    return buffer;
  }
}

/** The constructor that fuse-native exports. Throws with one clear line when it cannot load. */
export function loadFuse(): unknown {
  let why = '';
  try {
    const library = (require('fuse-shared-library') as { lib: string }).lib;
    const native = load();
    if (native === null) why = 'the native addon is not built: run npm rebuild; ';
    else native.preload(library);
  } catch (error) {
    why = (error as Error).message + '; ';
    debug('bundled libfuse: %s', why);
  }
  try {
    load()?.watchThreads?.(true);
    const fuse = require('fuse-native') as unknown;
    if (load()?.watchThreads?.(false) === false) debug('threads of libfuse are not watched');
    return fuse;
  } catch (error) {
    const message = (error as Error).message.split('\n')[0] ?? '';
    throw new Error(`cannot load FUSE (${why}${message}): apt-get install libfuse2, or npm ci`);
  }
}
