/**
 * Block devices: what lies under a file system, and the writes that are on their way to it.
 *
 * The device itself is whatever the library's user gives: a host file (mount/), memory (tests).
 * It gets the bytes when a write is submitted; the pages of the write stay under write-back until
 * the virtual clock reaches the time at which a disk of the stated speed would have them. So
 * memory management meets pages under write-back as on a real machine, and bytes are never lost
 * with a request. A bounded number of pages is on the way: one more, and the oldest is done first.
 * Linux: include/linux/blkdev.h, block/blk-core.c (struct request_queue). Differs: one stream of
 * requests without an elevator; a read waits for nothing and takes no time of the virtual clock.
 */

import { is_zero } from '../lib/bytes.ts';

/** Bytes by offset. Every call returns 0 or a negative errno, or nothing where it cannot fail. */
export interface BlockDevice {
  /** Bytes, a multiple of 4096. */
  readonly size: number;
  /** Fills the buffer. */
  read(buf: Uint8Array, offset: number): number;
  write(buf: Uint8Array, offset: number): number;
  /** Returns when everything written is safe. */
  flush(): number;
  /** The range's bytes are of no use any more; it may read as anything afterwards. */
  discard(offset: number, length: number): void;
}

const CHUNK_SHIFT = 20;
const CHUNK = 1 << CHUNK_SHIFT;

/**
 * A device in memory: chunks of 1 MiB, made when the first byte is written that is not 0. Discarded
 * chunks read as zeroes.
 */
export class MemoryBlockDevice implements BlockDevice {
  readonly size: number;
  private readonly chunks: Map<number, Uint8Array> = new Map();
  /** Make every write or read fail with this errno while it is not 0. For tests. */
  write_error = 0;
  read_error = 0;

  constructor(size: number) {
    this.size = size;
  }

  read(buf: Uint8Array, offset: number): number {
    if (this.read_error !== 0) return -this.read_error;
    for (let done = 0; done < buf.length; ) {
      const at = (offset + done) % CHUNK;
      const len = Math.min(CHUNK - at, buf.length - done);
      const chunk = this.chunks.get(Math.floor((offset + done) / CHUNK));
      if (chunk === undefined) buf.fill(0, done, done + len);
      else buf.set(chunk.subarray(at, at + len), done);
      done += len;
    }
    return 0;
  }

  write(buf: Uint8Array, offset: number): number {
    if (this.write_error !== 0) return -this.write_error;
    for (let done = 0; done < buf.length; ) {
      const at = (offset + done) % CHUNK;
      const len = Math.min(CHUNK - at, buf.length - done);
      const nr = Math.floor((offset + done) / CHUNK);
      let chunk = this.chunks.get(nr);
      if (chunk === undefined) {
        if (is_zero(buf, done, done + len)) {
          done += len;
          continue;
        }
        chunk = new Uint8Array(CHUNK);
        this.chunks.set(nr, chunk);
      }
      chunk.set(buf.subarray(done, done + len), at);
      done += len;
    }
    return 0;
  }

  flush(): number {
    return 0;
  }

  discard(offset: number, length: number): void {
    for (const [nr, chunk] of this.chunks) {
      const start = Math.max(offset, nr * CHUNK);
      const end = Math.min(offset + length, (nr + 1) * CHUNK);
      if (start >= end) continue;
      if (end - start === CHUNK) this.chunks.delete(nr);
      else chunk.fill(0, start - nr * CHUNK, end - nr * CHUNK);
    }
  }
}

/** Pages on their way to a device at once: 4 MiB (nr_requests of a queue is 128 requests). */
export const MAX_IN_FLIGHT = 1024;
/** The largest write that goes to a device in one call. */
export const MAX_BIO_BYTES = 128 * 1024;

/** A device of a machine, with the writes under way in the order of their submission. */
export class BlockQueue {
  device: BlockDevice;
  /** Speed of the emulated disk: bytes per millisecond, and the fixed cost of a request. */
  bytes_per_ms = 100_000;
  ms_per_request = 0.1;
  /** Ring of pages under write-back, and when each is done (clock milliseconds). */
  readonly pfns: Int32Array = new Int32Array(MAX_IN_FLIGHT);
  readonly done_at: Float64Array = new Float64Array(MAX_IN_FLIGHT);
  head = 0;
  count = 0;
  /** When the disk has finished all that was submitted. */
  busy_until = 0;
  /** Requests and bytes so far. */
  reads = 0;
  writes = 0;
  read_bytes = 0;
  written_bytes = 0;
  /**
   * Collects neighbouring pages of one write or read; its content means nothing between calls.
   */
  readonly bounce: Uint8Array = new Uint8Array(MAX_BIO_BYTES);
  /** The write that is being collected: its first byte on the device, its length, its pages. */
  bio_offset = 0;
  bio_bytes = 0;
  readonly bio_pfns: Int32Array = new Int32Array(MAX_BIO_BYTES / 512);
  bio_pages = 0;
  /**
   * Swap only: where the content tags of the slots lie, 4 bytes each behind the slots' bytes; and
   * those of the pages that are being collected. -1: pages have no tags here.
   */
  readonly tags_at: number;
  readonly bio_tags: Uint32Array = new Uint32Array(MAX_BIO_BYTES / 4096);

  constructor(device: BlockDevice, tags_at = -1) {
    this.device = device;
    this.tags_at = tags_at;
  }

  full(): boolean {
    return this.count === MAX_IN_FLIGHT;
  }

  push(pfn: number, done_at: number): void {
    const at = (this.head + this.count++) % MAX_IN_FLIGHT;
    this.pfns[at] = pfn;
    this.done_at[at] = done_at;
  }

  /** The oldest page under way. Precondition: there is one. */
  pop(): number {
    const pfn = this.pfns[this.head]!;
    this.head = (this.head + 1) % MAX_IN_FLIGHT;
    this.count--;
    return pfn;
  }
}
