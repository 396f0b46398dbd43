/**
 * What page frames hold: the bytes of file data, and the 32-bit content tags of simulated pages.
 *
 * Frames lie in sections of 16 MiB, each a SharedArrayBuffer of its own that is made when its
 * first byte is written: a machine of 256 GiB without file data costs a few empty tables. No
 * array comes near 4 GiB, Node 20's limit. A byte per frame says whether it was written since it
 * was last known to hold zeroes; frames never written read as zeroes and take no host memory.
 * `discardable` finds written frames that are free now, in batches for one native call each.
 * Linux: the direct mapping of memory, mm/highmem.h (clear_highpage, copy_highpage). Differs: a
 * freed frame's bytes may turn to zeroes before it is used again, which no reader can tell,
 * since who gets a frame fills it or zeroes it first.
 */
import { BUG_ON } from '../lib/bug.ts';
import type { Job } from '../lib/kthread.ts';
import type { Memmap, pfn_t } from './page.ts';

const SECTION_BYTES = 1 << 24;
/** Frames per section of content tags: 256 KiB of tags. */
const TAG_SECTION_SHIFT = 16;
/** The host's page: what it takes back. */
const HOST_PAGE = 4096;

/**
 * Where in a fresh buffer the first address divisible by 4096 lies; 0 is right wherever frames
 * are never given back. A property of the host, not of a machine, and therefore not on Machine.
 */
let section_alignment: (buffer: SharedArrayBuffer) => number = () => 0;

/** Sets how sections made from now on are aligned; `fn` returns 0..4095. */
export function set_section_alignment(fn: (buffer: SharedArrayBuffer) => number): void {
  section_alignment = fn;
}

/** One section: the frames' bytes and which frames were written. */
interface Section {
  readonly buffer: SharedArrayBuffer;
  /** The frames, from the first aligned address on. */
  readonly bytes: Uint8Array;
  /** 1 for each frame that may hold other bytes than zeroes. */
  readonly touched: Uint8Array;
  nr_touched: number;
}

/**
 * Takes host pages back. `pages[0..count)` are numbers of 4096-byte pages, counted from the first
 * aligned address in `buffer`. Returns how many of them now read as zeroes.
 */
export type DiscardVisitor = (
  buffer: SharedArrayBuffer,
  pages: Int32Array,
  count: number,
) => number;

export class Contents {
  readonly nr_pages: number;
  readonly page_size: number;
  /** Frames per section, a power of two, and its logarithm. */
  private readonly section_pages: number;
  private readonly section_shift: number;
  private readonly sections: (Section | null)[] = [];
  private readonly tags: (Uint32Array | null)[] = [];

  /** `nr_pages` as in the memmap; `page_size` in bytes. */
  constructor(nr_pages: number, page_size: number) {
    this.nr_pages = nr_pages;
    this.page_size = page_size;
    this.section_pages = SECTION_BYTES / page_size;
    this.section_shift = Math.log2(this.section_pages);
  }

  /** Bytes of host memory that sections take now, as if every frame in them were backed. */
  section_bytes(): number {
    let bytes = 0;
    for (const section of this.sections) if (section) bytes += SECTION_BYTES;
    return bytes;
  }

  /** Frames that may hold other bytes than zeroes. */
  nr_touched(): number {
    let nr = 0;
    for (const section of this.sections) if (section) nr += section.nr_touched;
    return nr;
  }

  /** True when the frame may hold other bytes than zeroes. */
  is_touched(pfn: pfn_t): boolean {
    const section = this.sections[pfn >>> this.section_shift];
    return section != null && section.touched[pfn & (this.section_pages - 1)] !== 0;
  }

  private make_section(nr: number): Section {
    BUG_ON(nr * this.section_pages >= this.nr_pages, 'contents: no such frame');
    // One host page more than needed, so that the frames can start at an aligned address.
    const buffer = new SharedArrayBuffer(SECTION_BYTES + HOST_PAGE);
    const offset = section_alignment(buffer);
    const section: Section = {
      buffer,
      bytes: new Uint8Array(buffer, offset, SECTION_BYTES),
      touched: new Uint8Array(this.section_pages),
      nr_touched: 0,
    };
    while (this.sections.length <= nr) this.sections.push(null);
    this.sections[nr] = section;
    return section;
  }

  /** The section of a frame that is about to be written. */
  private touch(pfn: pfn_t): Section {
    const nr = pfn >>> this.section_shift;
    const section = this.sections[nr] ?? this.make_section(nr);
    const at = pfn & (this.section_pages - 1);
    if (section.touched[at] === 0) {
      section.touched[at] = 1;
      section.nr_touched++;
    }
    return section;
  }

  /** Copies `len` bytes from offset `off` of the frame to buf[buf_off]. off + len <= page size. */
  read_page(pfn: pfn_t, off: number, buf: Uint8Array, buf_off: number, len: number): void {
    const section = this.sections[pfn >>> this.section_shift];
    const at = pfn & (this.section_pages - 1);
    if (section == null || section.touched[at] === 0) {
      buf.fill(0, buf_off, buf_off + len);
      return;
    }
    const from = at * this.page_size + off;
    buf.set(section.bytes.subarray(from, from + len), buf_off);
  }

  /** Copies `len` bytes from buf[buf_off] to offset `off` of the frame. */
  write_page(pfn: pfn_t, off: number, buf: Uint8Array, buf_off: number, len: number): void {
    const section = this.touch(pfn);
    const source = buf_off === 0 && len === buf.length ? buf : buf.subarray(buf_off, buf_off + len);
    section.bytes.set(source, (pfn & (this.section_pages - 1)) * this.page_size + off);
  }

  /** Zeroes the whole frame, its tag too (clear_highpage). Free for one that was never written. */
  zero_page(pfn: pfn_t): void {
    this.set_tag(pfn, 0);
    this.zero_range(pfn, 0, this.page_size);
  }

  /** Zeroes `len` bytes from offset `off` of the frame. */
  zero_range(pfn: pfn_t, off: number, len: number): void {
    const section = this.sections[pfn >>> this.section_shift];
    const at = pfn & (this.section_pages - 1);
    if (section == null || section.touched[at] === 0) return;
    const from = at * this.page_size + off;
    section.bytes.fill(0, from, from + len);
  }

  /** Copies bytes and tag of one frame to another (copy_highpage). */
  copy_page(from: pfn_t, to: pfn_t): void {
    const tags = this.tags[from >>> TAG_SECTION_SHIFT];
    this.set_tag(to, tags == null ? 0 : tags[from & ((1 << TAG_SECTION_SHIFT) - 1)]!);
    const size = this.page_size;
    const source = this.sections[from >>> this.section_shift];
    const at = from & (this.section_pages - 1);
    if (source == null || source.touched[at] === 0) {
      this.zero_range(to, 0, size);
      return;
    }
    const target = this.touch(to);
    const start = at * size;
    if (target === source) {
      target.bytes.copyWithin((to & (this.section_pages - 1)) * size, start, start + size);
    } else {
      target.bytes.set(
        source.bytes.subarray(start, start + size),
        (to & (this.section_pages - 1)) * size,
      );
    }
  }

  /** The content tag: stands for the bytes of an anonymous page. 0 until set. */
  get_tag(pfn: pfn_t): number {
    const tags = this.tags[pfn >>> TAG_SECTION_SHIFT];
    return tags == null ? 0 : tags[pfn & ((1 << TAG_SECTION_SHIFT) - 1)]!;
  }

  /** `tag` is taken modulo 2^32. */
  set_tag(pfn: pfn_t, tag: number): void {
    const nr = pfn >>> TAG_SECTION_SHIFT;
    let tags = this.tags[nr];
    if (tags == null) {
      if (tag === 0) return;
      BUG_ON(pfn >= this.nr_pages, 'contents: no such frame');
      tags = new Uint32Array(new SharedArrayBuffer(4 << TAG_SECTION_SHIFT));
      while (this.tags.length <= nr) this.tags.push(null);
      this.tags[nr] = tags;
    }
    tags[pfn & ((1 << TAG_SECTION_SHIFT) - 1)] = tag;
  }

  /**
   * Hands every written frame that is free now (no reference) to `visit`, a section at a time,
   * and counts it as never written when the visitor made it zeroes. A section without written
   * frames is dropped whole. Pauses after each section; ends in the number of frames given back.
   */
  *discardable(p: Memmap, visit: DiscardVisitor): Job {
    const host_pages = this.page_size / HOST_PAGE;
    const batch = new Int32Array(this.section_pages * host_pages);
    let given = 0;
    for (let nr = 0; nr < this.sections.length; nr++) {
      const section = this.sections[nr];
      if (section == null || section.nr_touched === 0) continue;
      yield;
      const first = nr * this.section_pages;
      const frames = Math.min(this.section_pages, this.nr_pages - first);
      let count = 0;
      for (let i = 0; i < frames; i++) {
        if (section.touched[i] === 0 || p._count[first + i] !== 0) continue;
        for (let k = 0; k < host_pages; k++) batch[count++] = i * host_pages + k;
      }
      if (count === 0) continue;
      const free = count / host_pages;
      // A section in which no frame is in use goes back as a whole.
      const whole = free === section.nr_touched;
      if (!whole && visit(section.buffer, batch, count) !== count) continue;
      given += free;
      if (whole) {
        this.sections[nr] = null;
        continue;
      }
      for (let i = 0; i < count; i += host_pages) section.touched[batch[i]! / host_pages] = 0;
      section.nr_touched -= free;
    }
    return given;
  }
}

/** Contents.discardable for a machine: gives back what is free now. */
export function discardable(
  m: { readonly contents: Contents; readonly memmap: Memmap },
  visit: DiscardVisitor,
): Job {
  return m.contents.discardable(m.memmap, visit);
}
