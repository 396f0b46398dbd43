/**
 * The emulated disk's platter: a sparse file of the host, read and written in whole calls. The file
 * system lies at its start; a swap area, where there is one, at its end.
 *
 * Without --disk it is a temporary file without a name: opened and unlinked at once, so that even
 * a killed server leaves nothing behind. It lies in TMPDIR or /var/tmp, not in the runtime
 * directory, which is in memory. Discarded ranges become holes where the host's file system can.
 * Errors of the host come back as negative errnos, as a driver would give them to the block layer.
 */
import {
  closeSync,
  fdatasyncSync,
  fstatSync,
  ftruncateSync,
  openSync,
  readSync,
  unlinkSync,
  writeSync,
} from 'node:fs';
import { constants } from 'node:os';
import { join } from 'node:path';
import type { BlockDevice } from '../src/index.ts';
import { EIO } from '../src/lib/errno.ts';
import { punchHole } from './native.ts';
import { Failure } from './transport.ts';

export const DEFAULT_DISK_SIZE = 16 * 2 ** 30;

export class HostDisk implements BlockDevice {
  readonly path: string | undefined;
  /** Bytes for the file system, without the swap area. */
  readonly size: number;
  /** The swap area behind them; undefined when no bytes were asked for it. */
  readonly swap: BlockDevice | undefined;
  readonly #fd: number;
  #canPunch = true;

  /**
   * Opens or makes `path`, or a temporary file; an existing non-empty file keeps its size. The last
   * `swapBytes` of it are the swap area, in addition to `size` where the file is made.
   */
  constructor(path?: string, size = DEFAULT_DISK_SIZE, swapBytes = 0) {
    this.path = path;
    const name = path ?? join(process.env['TMPDIR'] ?? '/var/tmp', `pageblock-${process.pid}.disk`);
    try {
      this.#fd = openSync(name, path === undefined ? 'wx+' : 'a+', 0o600);
      closeSync(this.#fd);
      // 'a+' made the file if need be; O_APPEND itself would ignore our offsets.
      this.#fd = openSync(name, 'r+');
      if (path === undefined) unlinkSync(name);
      const present = fstatSync(this.#fd).size;
      const all = present > 0 ? present - (present % 4096) : size + swapBytes;
      this.size = all - swapBytes;
      if (this.size < 0) throw new Failure(`${name} is too small for ${swapBytes} bytes of swap`);
      if (present === 0) ftruncateSync(this.#fd, all);
      if (swapBytes > 0) this.swap = new Part(this, this.size, swapBytes);
    } catch (error) {
      if (error instanceof Failure) throw error;
      const { code } = error as NodeJS.ErrnoException;
      throw new Failure(`cannot use ${name} as disk (${code}): choose another file with --disk`);
    }
  }

  /** 0 or -errno. What lies past the end reads as zeros. */
  read(buf: Uint8Array, offset: number): number {
    return attempt(() => {
      let done = 0;
      while (done < buf.length) {
        const count = readSync(this.#fd, buf, done, buf.length - done, offset + done);
        if (count === 0) break;
        done += count;
      }
      buf.fill(0, done);
    });
  }

  write(buf: Uint8Array, offset: number): number {
    return attempt(() => {
      let done = 0;
      while (done < buf.length) {
        done += writeSync(this.#fd, buf, done, buf.length - done, offset + done);
      }
    });
  }

  flush(): number {
    // Nobody can find a file without a name after a crash: syncing it would only cost time.
    return this.path === undefined ? 0 : attempt(() => fdatasyncSync(this.#fd));
  }

  discard(offset: number, length: number): void {
    if (this.#canPunch && punchHole(this.#fd, offset, length) < 0) this.#canPunch = false;
  }

  close(): void {
    closeSync(this.#fd);
  }
}

/** A part of the platter as a device of its own. */
class Part implements BlockDevice {
  readonly size: number;
  readonly #disk: HostDisk;
  readonly #start: number;

  constructor(disk: HostDisk, start: number, size: number) {
    this.#disk = disk;
    this.#start = start;
    this.size = size;
  }

  read(buf: Uint8Array, offset: number): number {
    return this.#disk.read(buf, this.#start + offset);
  }

  write(buf: Uint8Array, offset: number): number {
    return this.#disk.write(buf, this.#start + offset);
  }

  /** Swap need not survive its machine. */
  flush(): number {
    return 0;
  }

  discard(offset: number, length: number): void {
    this.#disk.discard(this.#start + offset, length);
  }
}

function attempt(operation: () => void): number {
  try {
    operation();
    return 0;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    return -(constants.errno[code as keyof typeof constants.errno] ?? EIO);
  }
}
