/**
 * The columns of all buffer heads, by the handle of their slab object.
 *
 * A buffer stands for one block of a cached page: where it lies on the device, and its state. The
 * buffers of a page form a ring; the page's private column holds the first. The blocks of metadata
 * that a CPU looked up last stay on its short list, with a reference each: their pages can neither
 * move nor go, whatever reclaim and compaction try.
 * Linux: include/linux/buffer_head.h, fs/buffer.c (bh_lrus). Behaviour is in buffer.ts and
 * page_writeback.ts.
 */

// b_state bits.
export const BH_Uptodate = 1;
export const BH_Dirty = 2;
export const BH_Lock = 4;
export const BH_Mapped = 8;
export const BH_Async_Write = 16;
export const BH_New = 32;

/** The block size of every file system here. */
export const BLOCK_SIZE = 4096;

export class BufferHeads {
  b_state: Uint8Array = new Uint8Array(64);
  /** References of users; a page's own ring does not count. */
  b_count: Int32Array = new Int32Array(64);
  b_page: Int32Array = new Int32Array(64);
  /** The next buffer of the same page; the last one points to the first. */
  b_this_page: Int32Array = new Int32Array(64);
  /** Block on the device, in units of BLOCK_SIZE; -1 while not mapped. */
  b_blocknr: Float64Array = new Float64Array(64);
  /** [cpu]: the buffers that it looked up last, youngest first; 0 ends the list (bh_lrus). */
  readonly bh_lrus: readonly Int32Array[];

  constructor(nr_cpus: number, bh_lru_size: number) {
    this.bh_lrus = Array.from({ length: nr_cpus }, () => new Int32Array(bh_lru_size));
  }

  /** Puts a buffer first on a CPU's list; the last one falls off (buffer.c: bh_lru_install). */
  bh_lru_install(cpu: number, bh: number): void {
    const bhs = this.bh_lrus[cpu]!;
    if (bhs[0] === bh) return;
    let at = bhs.indexOf(bh);
    if (at < 0) {
      at = bhs.length - 1;
      if (bhs[at] !== 0) this.b_count[bhs[at]!]!--;
      this.b_count[bh]!++;
    }
    bhs.copyWithin(1, 0, at);
    bhs[0] = bh;
  }

  /** Empties a CPU's list (buffer.c: invalidate_bh_lru). */
  invalidate_bh_lru(cpu: number): void {
    const bhs = this.bh_lrus[cpu]!;
    for (let i = 0; i < bhs.length && bhs[i] !== 0; i++) this.b_count[bhs[i]!]!--;
    bhs.fill(0);
  }

  /** Makes room for a handle and resets its row. */
  init(bh: number): void {
    if (bh >= this.b_state.length) {
      const size = Math.max(this.b_state.length * 2, bh + 1);
      const state = new Uint8Array(size);
      state.set(this.b_state);
      this.b_state = state;
      const count = new Int32Array(size);
      count.set(this.b_count);
      this.b_count = count;
      const page = new Int32Array(size);
      page.set(this.b_page);
      this.b_page = page;
      const ring = new Int32Array(size);
      ring.set(this.b_this_page);
      this.b_this_page = ring;
      const block = new Float64Array(size);
      block.set(this.b_blocknr);
      this.b_blocknr = block;
    }
    this.b_state[bh] = 0;
    this.b_count[bh] = 0;
    this.b_page[bh] = -1;
    this.b_this_page[bh] = bh;
    this.b_blocknr[bh] = -1;
  }
}
