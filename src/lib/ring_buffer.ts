/**
 * The ring buffer of tracing: one for each CPU, pages of events, written over when full.
 *
 * Events are 32-bit words: a header with length and time since the event before, then the entry.
 * Events never cross a page. When the ring is full the oldest page goes with all its events
 * (overwrite mode). A reader owns a page outside of the ring: it reads that to its end and then
 * exchanges it for the oldest page of the ring, so that what it reads is never overwritten; when
 * it has caught up, the writer goes on in the reader's page.
 * Linux: kernel/trace/ring_buffer.c of 2.6.35. Differs: one writer at a time, so that there is no
 * lockless commit; the time of an event is absolute nanoseconds with a page's first event.
 */
import { BUG_ON } from './bug.ts';

/** Header bits: 5 of type or length in words, 27 of time since the event before. */
const TYPE_LEN_MASK = 0x1f;
const TYPE_LEN_BITS = 5;
const DELTA_LIMIT = 2 ** 27;
/** ring_buffer.h: enum ring_buffer_type. */
export const RINGBUF_TYPE_DATA_TYPE_LEN_MAX = 28;
export const RINGBUF_TYPE_PADDING = 29;
export const RINGBUF_TYPE_TIME_EXTEND = 30;

/** Bytes in front of the events of a page: time stamp, and a long that says how many follow. */
export function buffer_page_header(long_size: number): number {
  return 8 + long_size;
}

export class RingBufferPerCpu {
  /** Pages of the ring; the reader's page comes on top. */
  readonly nr_pages: number;
  /** Words of a page that hold events. */
  readonly page_words: number;
  readonly words: Int32Array;
  /** By page: words used, events, nanoseconds of the first event. */
  readonly page_used: Int32Array;
  readonly page_entries: Int32Array;
  readonly page_time: Float64Array;
  /** The pages of the ring in their order. */
  readonly order: Int32Array;
  /** Position in `order` of the oldest page, and of the page that is written; -1: the reader's. */
  head = 0;
  tail = 0;
  /** The reader's page, the words of it that are read, and the time up to there. */
  reader_page: number;
  read = 0;
  read_stamp = 0;
  write_stamp = 0;
  /** Events written, of those the ones overwritten, the ones read. */
  entries = 0;
  overrun = 0;
  entries_read = 0;
  /** `overrun` when the reader took its page; events lost just before that page. */
  last_overrun = 0;
  lost_events = 0;

  /** `page_bytes` without the page's header. */
  constructor(nr_pages: number, page_bytes: number) {
    BUG_ON(nr_pages < 2, 'ring_buffer: less than two pages');
    this.nr_pages = nr_pages;
    this.page_words = page_bytes >>> 2;
    const all = nr_pages + 1;
    this.words = new Int32Array(all * this.page_words);
    this.page_used = new Int32Array(all);
    this.page_entries = new Int32Array(all);
    this.page_time = new Float64Array(all);
    this.order = new Int32Array(nr_pages);
    for (let i = 0; i < nr_pages; i++) this.order[i] = i;
    this.reader_page = nr_pages;
  }
}

/** Where an iteration is, and the event that it found there. */
export class RingBufferIter {
  /** -1: the reader's page, else how many pages behind the oldest one. */
  page = -1;
  /** Words of the page passed. */
  at = 0;
  stamp = 0;
  /** The event found: index in `words`, words, nanoseconds. */
  data = 0;
  length = 0;
  time = 0;
}

/** Forgets all events (rb_reset_cpu). */
export function ring_buffer_reset(b: RingBufferPerCpu): void {
  b.page_used.fill(0);
  b.page_entries.fill(0);
  for (let i = 0; i < b.nr_pages; i++) b.order[i] = i;
  b.reader_page = b.nr_pages;
  b.head = 0;
  b.tail = 0;
  b.read = 0;
  b.entries = 0;
  b.overrun = 0;
  b.entries_read = 0;
  b.last_overrun = 0;
  b.lost_events = 0;
}

/** Events that can be read (ring_buffer_entries_cpu). */
export function ring_buffer_entries(b: RingBufferPerCpu): number {
  return b.entries - b.overrun - b.entries_read;
}

/** The writer goes to the next page; a full ring gives up its oldest (rb_move_tail). */
function move_tail(b: RingBufferPerCpu): number {
  const from_reader = b.tail < 0;
  const next = from_reader ? b.head : (b.tail + 1) % b.nr_pages;
  const page = b.order[next]!;
  if (!from_reader && next === b.head) {
    b.overrun += b.page_entries[page]!;
    b.head = (b.head + 1) % b.nr_pages;
  }
  b.tail = next;
  b.page_used[page] = 0;
  b.page_entries[page] = 0;
  return page;
}

/**
 * Writes an event of `length` words of `entry` at `now` nanoseconds. False when it is larger than
 * a page (ring_buffer_lock_reserve, ring_buffer_unlock_commit).
 */
export function ring_buffer_write(
  b: RingBufferPerCpu,
  now: number,
  entry: Int32Array,
  length: number,
): boolean {
  const large = length > RINGBUF_TYPE_DATA_TYPE_LEN_MAX;
  const need = length + (large ? 2 : 1);
  if (need > b.page_words) return false;
  let page = b.tail < 0 ? b.reader_page : b.order[b.tail]!;
  let used = b.page_used[page]!;
  let delta = now - b.write_stamp;
  const extend = used > 0 && delta >= DELTA_LIMIT ? 2 : 0;
  if (used > 0 && used + extend + need > b.page_words) {
    page = move_tail(b);
    used = 0;
  }
  let at = page * b.page_words + used;
  if (used === 0) {
    b.page_time[page] = now;
    delta = 0;
  } else if (extend > 0) {
    b.words[at] = RINGBUF_TYPE_TIME_EXTEND | ((delta % DELTA_LIMIT) << TYPE_LEN_BITS);
    b.words[at + 1] = Math.floor(delta / DELTA_LIMIT);
    at += extend;
    used += extend;
    delta = 0;
  }
  b.words[at++] = (large ? 0 : length) | (delta << TYPE_LEN_BITS);
  if (large) b.words[at++] = length;
  for (let i = 0; i < length; i++) b.words[at + i] = entry[i]!;
  b.page_used[page] = used + need;
  b.page_entries[page]!++;
  b.entries++;
  b.write_stamp = now;
  return true;
}

/** Finds the event at `at` words of a page, behind a time extension; false at the page's end. */
function event_on_page(b: RingBufferPerCpu, page: number, it: RingBufferIter): boolean {
  const base = page * b.page_words;
  while (it.at < b.page_used[page]!) {
    if (it.at === 0) it.stamp = b.page_time[page]!;
    const header = b.words[base + it.at]!;
    const type_len = header & TYPE_LEN_MASK;
    const delta = header >>> TYPE_LEN_BITS;
    if (type_len === RINGBUF_TYPE_TIME_EXTEND) {
      it.stamp += delta + b.words[base + it.at + 1]! * DELTA_LIMIT;
      it.at += 2;
      continue;
    }
    it.time = it.stamp + delta;
    it.length = type_len === 0 ? b.words[base + it.at + 1]! : type_len;
    it.data = base + it.at + (type_len === 0 ? 2 : 1);
    return true;
  }
  return false;
}

/** A position before the oldest event that was not read. */
export function ring_buffer_iter_start(b: RingBufferPerCpu): RingBufferIter {
  const it = new RingBufferIter();
  it.at = b.read;
  it.stamp = b.read_stamp;
  return it;
}

/** Finds the next event without reading it away; false at the end (ring_buffer_iter_peek). */
export function ring_buffer_iter_peek(b: RingBufferPerCpu, it: RingBufferIter): boolean {
  for (;;) {
    const page = it.page < 0 ? b.reader_page : b.order[(b.head + it.page) % b.nr_pages]!;
    if (event_on_page(b, page, it)) return true;
    const pages = b.tail < 0 ? 0 : ((b.tail - b.head + b.nr_pages) % b.nr_pages) + 1;
    if (it.page + 1 >= pages) return false;
    it.page++;
    it.at = 0;
  }
}

/** Goes behind the event that iter_peek found. */
export function ring_buffer_iter_advance(b: RingBufferPerCpu, it: RingBufferIter): void {
  const page = it.page < 0 ? b.reader_page : b.order[(b.head + it.page) % b.nr_pages]!;
  it.at = it.data + it.length - page * b.page_words;
  it.stamp = it.time;
}

/**
 * Finds the next event for the reader, who takes the oldest page of the ring when its own is read;
 * false when there is none (ring_buffer_peek, rb_get_reader_page). Events that were overwritten
 * since the last page are in b.lost_events until the event is consumed.
 */
export function ring_buffer_peek(b: RingBufferPerCpu, it: RingBufferIter): boolean {
  for (;;) {
    it.page = -1;
    it.at = b.read;
    it.stamp = b.read_stamp;
    if (event_on_page(b, b.reader_page, it)) return true;
    if (b.tail < 0) return false;
    const oldest = b.order[b.head]!;
    if (b.page_used[oldest] === 0) return false;
    // The page that was read takes the place of the oldest one, empty.
    b.page_used[b.reader_page] = 0;
    b.page_entries[b.reader_page] = 0;
    b.order[b.head] = b.reader_page;
    b.reader_page = oldest;
    if (b.tail === b.head) b.tail = -1;
    b.head = (b.head + 1) % b.nr_pages;
    b.read = 0;
    b.lost_events += b.overrun - b.last_overrun;
    b.last_overrun = b.overrun;
  }
}

/** Takes away the event that ring_buffer_peek found (ring_buffer_consume). */
export function ring_buffer_consume(b: RingBufferPerCpu, it: RingBufferIter): void {
  b.read = it.data + it.length - b.reader_page * b.page_words;
  b.read_stamp = it.time;
  b.entries_read++;
  b.lost_events = 0;
}
