/**
 * The emulated disk's platter: a sparse file of the host, read and written in whole calls.
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
import { EIO } from '../src/lib/errno.ts';
import { punchHole } from './native.ts';
import { Failure } from './transport.ts';

export const DEFAULT_DISK_SIZE = 16 * 2 ** 30;

export class HostDisk {
  readonly path: string | undefined;
  readonly size: number;
  readonly #fd: number;
  #canPunch = true;

  /** Opens or makes `path`, or a temporary file; an existing non-empty file keeps its size. */
  constructor(path?: string, size = DEFAULT_DISK_SIZE) {
    this.path = path;
    const name = path ?? join(process.env['TMPDIR'] ?? '/var/tmp', `pageblock-${process.pid}.disk`);
    try {
      this.#fd = openSync(name, path === undefined ? 'wx+' : 'a+', 0o600);
      closeSync(this.#fd);
      // 'a+' made the file if need be; O_APPEND itself would ignore our offsets.
      this.#fd = openSync(name, 'r+');
      if (path === undefined) unlinkSync(name);
      const present = fstatSync(this.#fd).size;
      this.size = present > 0 ? present - (present % 4096) : size;
      if (present === 0) ftruncateSync(this.#fd, size);
    } catch (error) {
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

function attempt(operation: () => void): number {
  try {
    operation();
    return 0;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    return -(constants.errno[code as keyof typeof constants.errno] ?? EIO);
  }
}
