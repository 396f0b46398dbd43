/**
 * Dirty pages: counting them, limiting them, and writing them to their devices.
 *
 * A dirty page carries PG_dirty, the DIRTY tag of its slot and one count in NR_FILE_DIRTY; its
 * mapping is on the list of dirty mappings since the first of its pages got dirty. The flusher
 * writes what is older than dirty_expire_centisecs, and anything while the background limit is
 * exceeded; a writer that exceeds the dirty limit writes out itself. Write-back of a page begins
 * with its bytes going to the device (block_device.ts) and ends when the virtual clock says so;
 * whoever must wait for it ends it, with all that was submitted before.
 * Linux: mm/page-writeback.c, fs/fs-writeback.c, parts of mm/filemap.c. Differs: per-device
 * proportions of the dirty limit are left out (there is one disk), and a wait costs no time.
 */
import { BUG_ON } from '../lib/bug.ts';
import { EIO, ENOSPC } from '../lib/errno.ts';
import type { Job } from '../lib/kthread.ts';
import { type AddressSpace, AS_EIO, AS_ENOSPC } from './address_space.ts';
import { type BlockDevice, BlockQueue, MAX_BIO_BYTES } from './block_device.ts';
import { BH_Async_Write, BH_Lock } from './buffer_head.ts';
import { release_pages, rotate_reclaimable_page } from './lru.ts';
import { type Machine, page_zone } from './mmzone.ts';
import {
  ClearPageFlag,
  compound_head,
  PageDirty,
  PageLocked,
  PagePrivate,
  PageSwapCache,
  PageWriteback,
  type pfn_t,
  SetPageFlag,
  TestClearPageFlag,
  TestSetPageFlag,
  trylock_page,
  unlock_page,
} from './page.ts';
import { PG_dirty, PG_error, PG_reclaim, PG_writeback } from './page_flags.ts';
import {
  PAGECACHE_TAG_DIRTY,
  PAGECACHE_TAG_WRITEBACK,
  radix_tree_gang_lookup,
  radix_tree_tag_clear,
  radix_tree_tag_set,
  radix_tree_tagged,
} from './radix_tree.ts';
import {
  count_vm_events,
  global_page_state,
  mod_zone_page_state,
  NR_ACTIVE_ANON,
  NR_ACTIVE_FILE,
  NR_FILE_DIRTY,
  NR_FREE_PAGES,
  NR_INACTIVE_ANON,
  NR_INACTIVE_FILE,
  NR_UNSTABLE_NFS,
  NR_WRITEBACK,
  PGPGIN,
  PGPGOUT,
} from './vmstat.ts';

export type { BlockDevice } from './block_device.ts';

/** writepage's answer when the page should stay active; it is still locked then (fs.h). */
export const AOP_WRITEPAGE_ACTIVATE = 0x80000;

/** Pages that the flusher writes between two pauses: about half a millisecond's work. */
const WRITEBACK_STEP = 128;
/** What PGPGIN and PGPGOUT count: sectors. Kernels print KiB. */
const SECTOR = 512;
/** Pages looked up together: a pagevec's worth. */
const PAGEVEC = 14;

/** Registers a device; the number goes into AddressSpace.bdev. For `tags_at` see BlockQueue. */
export function add_block_device(m: Machine, device: BlockDevice, tags_at = -1): number {
  m.block_devices.push(new BlockQueue(device, tags_at));
  return m.block_devices.length - 1;
}

/** The address space that a page is in; null for anonymous pages that are not in swap (mm.h). */
export function page_mapping(m: Machine, pfn: pfn_t): AddressSpace | null {
  const p = m.memmap;
  if (PageSwapCache(p, pfn)) return m.swapper_space;
  const mapping = p.mapping[pfn]!;
  if (mapping === 0 || (mapping & 3) !== 0) return null;
  return m.mappings.get(mapping >>> 2);
}

/** A page's place in its mapping: the swap entry, or the page offset (mm.h). */
export function page_index(m: Machine, pfn: pfn_t): number {
  return PageSwapCache(m.memmap, pfn) ? m.memmap.private_[pfn]! : m.memmap.index[pfn]!;
}

// Dirtying.

/** Puts a mapping on the list of dirty ones, unless it is there (fs-writeback.c). */
export function __mark_inode_dirty(m: Machine, mapping: AddressSpace): void {
  if (mapping.dirtied_when >= 0) return;
  mapping.dirtied_when = m.clock.now_ms;
  m.writeback.b_dirty.set(mapping.id, mapping);
}

/** Counts and tags a page whose PG_dirty was just set (page-writeback.c: __set_page_dirty). */
function account_page_dirtied(m: Machine, mapping: AddressSpace, pfn: pfn_t): void {
  if (mapping.a_ops.account_dirty) {
    mod_zone_page_state(page_zone(m, pfn), NR_FILE_DIRTY, 1);
    __mark_inode_dirty(m, mapping);
  }
  radix_tree_tag_set(m, mapping.page_tree, page_index(m, pfn), PAGECACHE_TAG_DIRTY);
}

/** Marks the page dirty and leaves its buffers alone. True when it was clean. */
export function __set_page_dirty_nobuffers(m: Machine, pfn: pfn_t): boolean {
  if (TestSetPageFlag(m.memmap, pfn, PG_dirty)) return false;
  const mapping = page_mapping(m, pfn);
  if (mapping !== null) account_page_dirtied(m, mapping, pfn);
  return true;
}

/** Marks a page dirty, the way its mapping wants it. True when it was clean. */
export function set_page_dirty(m: Machine, pfn: pfn_t): boolean {
  const page = compound_head(m.memmap, pfn);
  const mapping = page_mapping(m, page);
  if (mapping?.a_ops.set_page_dirty !== undefined) {
    return mapping.a_ops.set_page_dirty(m, mapping, page);
  }
  return __set_page_dirty_nobuffers(m, page);
}

/**
 * Clears PG_dirty of a locked page that is about to be written; the tag stays until write-back
 * begins. False when it was clean.
 */
export function clear_page_dirty_for_io(m: Machine, pfn: pfn_t): boolean {
  BUG_ON(!PageLocked(m.memmap, pfn), 'clear_page_dirty_for_io: the page is not locked');
  if (!TestClearPageFlag(m.memmap, pfn, PG_dirty)) return false;
  const mapping = page_mapping(m, pfn);
  if (mapping?.a_ops.account_dirty) mod_zone_page_state(page_zone(m, pfn), NR_FILE_DIRTY, -1);
  return true;
}

/** Forgets that a page is dirty because its data is of no use any more (truncate.c). */
export function cancel_dirty_page(m: Machine, pfn: pfn_t): void {
  if (!TestClearPageFlag(m.memmap, pfn, PG_dirty)) return;
  const mapping = page_mapping(m, pfn);
  if (mapping?.a_ops.account_dirty) mod_zone_page_state(page_zone(m, pfn), NR_FILE_DIRTY, -1);
}

// Write-back of one page.

/** Begins write-back of a page (page-writeback.c: test_set_page_writeback). */
export function set_page_writeback(m: Machine, pfn: pfn_t): void {
  const p = m.memmap;
  BUG_ON(TestSetPageFlag(p, pfn, PG_writeback), 'set_page_writeback: under write-back already');
  mod_zone_page_state(page_zone(m, pfn), NR_WRITEBACK, 1);
  const mapping = page_mapping(m, pfn);
  if (mapping === null) return;
  const index = page_index(m, pfn);
  radix_tree_tag_set(m, mapping.page_tree, index, PAGECACHE_TAG_WRITEBACK);
  if (!PageDirty(p, pfn)) {
    radix_tree_tag_clear(m, mapping.page_tree, index, PAGECACHE_TAG_DIRTY);
  }
}

/** Ends write-back of a page (filemap.c: end_page_writeback). */
export function end_page_writeback(m: Machine, pfn: pfn_t): void {
  const p = m.memmap;
  const rotate = TestClearPageFlag(p, pfn, PG_reclaim);
  BUG_ON(!TestClearPageFlag(p, pfn, PG_writeback), 'end_page_writeback: not under write-back');
  mod_zone_page_state(page_zone(m, pfn), NR_WRITEBACK, -1);
  const mapping = page_mapping(m, pfn);
  if (mapping !== null) {
    radix_tree_tag_clear(m, mapping.page_tree, page_index(m, pfn), PAGECACHE_TAG_WRITEBACK);
  }
  // Linux rotates first, while the page is still under write-back and therefore cannot go away.
  if (rotate) rotate_reclaimable_page(m, pfn);
}

/** buffer.c: end_buffer_async_write, for all buffers of a page. */
function end_async_write(m: Machine, pfn: pfn_t): void {
  if (PagePrivate(m.memmap, pfn)) {
    const b = m.buffer_heads;
    const head = m.memmap.private_[pfn]!;
    let bh = head;
    do {
      if ((b.b_state[bh]! & BH_Async_Write) !== 0) b.b_state[bh]! &= ~(BH_Async_Write | BH_Lock);
      bh = b.b_this_page[bh]!;
    } while (bh !== head);
  }
  end_page_writeback(m, pfn);
}

/** Ends the oldest write of a queue. Precondition: there is one. */
function end_oldest(m: Machine, q: BlockQueue): void {
  end_async_write(m, q.pop());
  if (q.count === 0 && q.busy_until > m.clock.now_ms) q.busy_until = m.clock.now_ms;
}

/**
 * Hands what was collected to the device, and starts the time that the disk takes for it.
 * `building` is a page of which a part is in it and the last part is not, or -1.
 */
export function submit_bio(m: Machine, q: BlockQueue, building = -1): void {
  const nr = q.bio_pages;
  const bytes = q.bio_bytes;
  if (bytes === 0) return;
  q.bio_pages = 0;
  q.bio_bytes = 0;
  let err = q.device.write(q.bounce.subarray(0, bytes), q.bio_offset);
  if (q.tags_at >= 0 && err === 0) {
    const at = q.tags_at + (q.bio_offset / (1 << m.shape.page_shift)) * 4;
    err = q.device.write(new Uint8Array(q.bio_tags.buffer, 0, nr * 4), at);
  }
  q.writes++;
  q.written_bytes += bytes;
  count_vm_events(m, PGPGOUT, bytes / SECTOR);
  const start = Math.max(q.busy_until, m.clock.now_ms);
  q.busy_until = start + q.ms_per_request + bytes / q.bytes_per_ms;
  const done_at = q.busy_until;
  if (err < 0 && building >= 0) note_write_error(m, building);
  for (let i = 0; i < nr; i++) {
    const pfn = q.bio_pfns[i]!;
    if (err < 0) note_write_error(m, pfn);
    if (q.full()) end_oldest(m, q);
    q.push(pfn, done_at);
  }
}

/** A page could not be written: its file says so later; a page of swap stays (page_io.c). */
function note_write_error(m: Machine, pfn: pfn_t): void {
  SetPageFlag(m.memmap, pfn, PG_error);
  if (PageSwapCache(m.memmap, pfn)) {
    set_page_dirty(m, pfn);
    ClearPageFlag(m.memmap, pfn, PG_reclaim);
    return;
  }
  const mapping = page_mapping(m, pfn);
  if (mapping !== null) mapping.flags |= AS_EIO;
}

/**
 * Writes `len` bytes from offset `off` of a page to the device; neighbours in one bio. The page is
 * under write-back already. `last`: this is the page's last part, and ends it when it is done.
 */
export function submit_page_write(
  m: Machine,
  q: BlockQueue,
  pfn: pfn_t,
  off: number,
  len: number,
  device_offset: number,
  last: boolean,
): void {
  const contiguous = q.bio_bytes > 0 && q.bio_offset + q.bio_bytes === device_offset;
  if (!contiguous || q.bio_bytes + len > MAX_BIO_BYTES) submit_bio(m, q, pfn);
  if (q.bio_bytes === 0) q.bio_offset = device_offset;
  m.contents.read_page(pfn, off, q.bounce, q.bio_bytes, len);
  q.bio_bytes += len;
  if (!last) return;
  if (q.tags_at >= 0) q.bio_tags[q.bio_pages] = m.contents.get_tag(pfn);
  q.bio_pfns[q.bio_pages++] = pfn;
}

/** Reads from a device into the queue's bounce buffer. 0 or -errno. */
export function submit_read(m: Machine, q: BlockQueue, offset: number, bytes: number): number {
  // The bounce buffer may hold a write that is still being collected.
  submit_bio(m, q);
  const err = q.device.read(q.bounce.subarray(0, bytes), offset);
  q.reads++;
  q.read_bytes += bytes;
  count_vm_events(m, PGPGIN, bytes / SECTOR);
  return err;
}

/** Submits what is collected on any device (block: blk_unplug). */
export function blk_flush_plug(m: Machine): void {
  for (const q of m.block_devices) submit_bio(m, q);
}

/** Ends all writes that the disk has finished by now: to be called when the clock has moved. */
export function complete_writeback(m: Machine): void {
  for (const q of m.block_devices) complete_writes(m, q, m.clock.now_ms);
}

/** Ends the writes of a queue that are done by `when`, clock milliseconds. Returns their pages. */
export function complete_writes(m: Machine, q: BlockQueue, when: number): number {
  let ended = 0;
  for (; q.count > 0 && q.done_at[q.head]! <= when; ended++) end_oldest(m, q);
  return ended;
}

/**
 * Returns when the page is not under write-back: ends its write and those before it
 * (pagemap.h: wait_on_page_writeback).
 */
export function wait_on_page_writeback(m: Machine, pfn: pfn_t): void {
  if (!PageWriteback(m.memmap, pfn)) return;
  blk_flush_plug(m);
  const mapping = page_mapping(m, pfn);
  for (let dev = 0; dev < m.block_devices.length; dev++) {
    if (mapping !== null && mapping.bdev >= 0 && mapping.bdev !== dev) continue;
    const q = m.block_devices[dev]!;
    while (q.count > 0 && PageWriteback(m.memmap, pfn)) end_oldest(m, q);
  }
  BUG_ON(PageWriteback(m.memmap, pfn), 'wait_on_page_writeback: nobody is writing the page');
}

// Write-back of mappings.

const batch_pages = new Int32Array(PAGEVEC);
const batch_indexes = new Float64Array(PAGEVEC);

/**
 * Writes at most `max` dirty pages of a mapping with indexes from `start` to `end`, in order.
 * With `sync` pages under write-back are waited for and written again; without, they are passed
 * over. Returns the number of pages written; errors are noted on the mapping
 * (page-writeback.c: write_cache_pages).
 */
export function write_cache_pages(
  m: Machine,
  mapping: AddressSpace,
  start: number,
  end: number,
  max: number,
  sync: boolean,
): number {
  if (mapping.a_ops.writepage === undefined) return 0;
  BUG_ON(m.writeback.writing, 'write_cache_pages: called from itself');
  m.writeback.writing = true;
  const p = m.memmap;
  let written = 0;
  let index = start;
  while (written < max && index <= end) {
    const found = radix_tree_gang_lookup(
      m,
      mapping.page_tree,
      index,
      batch_pages,
      batch_indexes,
      Math.min(PAGEVEC, max - written),
      PAGECACHE_TAG_DIRTY,
    );
    if (found === 0) break;
    // Writing may need memory, and getting it may free pages: these are to stay.
    for (let i = 0; i < found; i++) p._count[batch_pages[i]!]!++;
    index = batch_indexes[found - 1]! + 1;
    for (let i = 0; i < found; i++) {
      const pfn = batch_pages[i]!;
      if (batch_indexes[i]! <= end && trylock_page(p, pfn)) {
        written += write_locked_page(m, mapping, pfn, batch_indexes[i]!, sync);
      }
    }
    release_pages(m, batch_pages, found, false);
  }
  m.writeback.writing = false;
  mapping.writeback_index = index;
  return written;
}

/** Writes one page of a mapping's batch and unlocks it. 1 when it was written, else 0. */
function write_locked_page(
  m: Machine,
  mapping: AddressSpace,
  pfn: pfn_t,
  index: number,
  sync: boolean,
): number {
  const p = m.memmap;
  // Truncated, or written by who needed its memory, since the batch was looked up.
  if (page_mapping(m, pfn) !== mapping) {
    unlock_page(p, pfn);
    return 0;
  }
  if (PageWriteback(p, pfn) && sync) wait_on_page_writeback(m, pfn);
  if (PageWriteback(p, pfn) || !clear_page_dirty_for_io(m, pfn)) {
    // Cleaned without being written: the tag is what is left of it.
    if (!PageDirty(p, pfn)) {
      radix_tree_tag_clear(m, mapping.page_tree, index, PAGECACHE_TAG_DIRTY);
    }
    unlock_page(p, pfn);
    return 0;
  }
  const rc = mapping.a_ops.writepage!(m, mapping, pfn);
  if (rc === 0) return 1;
  if (rc === AOP_WRITEPAGE_ACTIVATE) unlock_page(p, pfn);
  else mapping.flags |= rc === -EIO ? AS_EIO : AS_ENOSPC;
  return 0;
}

/** Takes the mapping off the dirty list when it is clean, else to the list's end. */
function requeue_dirty(m: Machine, mapping: AddressSpace): void {
  m.writeback.b_dirty.delete(mapping.id);
  if (radix_tree_tagged(mapping.page_tree, PAGECACHE_TAG_DIRTY)) {
    m.writeback.b_dirty.set(mapping.id, mapping);
  } else {
    mapping.dirtied_when = -1;
  }
}

/**
 * Writes a mapping's pages and its inode (fs-writeback.c: writeback_single_inode). Returns pages
 * written.
 */
export function writeback_single_inode(
  m: Machine,
  mapping: AddressSpace,
  max: number,
  sync: boolean,
): number {
  let start = sync ? 0 : mapping.writeback_index;
  let written = write_cache_pages(m, mapping, start, Number.MAX_SAFE_INTEGER, max, sync);
  if (start > 0 && written < max) {
    start = 0;
    written += write_cache_pages(m, mapping, 0, Number.MAX_SAFE_INTEGER, max - written, sync);
  }
  mapping.a_ops.write_inode?.(m, mapping);
  requeue_dirty(m, mapping);
  return written;
}

/** Drops a mapping from write-back's list: its owner destroys it. */
export function forget_dirty_mapping(m: Machine, mapping: AddressSpace): void {
  m.writeback.b_dirty.delete(mapping.id);
  mapping.dirtied_when = -1;
}

const waiting_page = new Int32Array(1);
const waiting_index = new Float64Array(1);

/** Waits for all write-back of a mapping (filemap.c: filemap_fdatawait). */
export function filemap_fdatawait(m: Machine, mapping: AddressSpace): void {
  blk_flush_plug(m);
  const { page_tree } = mapping;
  const tag = PAGECACHE_TAG_WRITEBACK;
  while (radix_tree_gang_lookup(m, page_tree, 0, waiting_page, waiting_index, 1, tag) > 0) {
    wait_on_page_writeback(m, waiting_page[0]!);
  }
}

/**
 * Writes all dirty pages of a mapping and waits for them. Ends in 0, or the error of this or an
 * earlier write, which is then forgotten (filemap.c: filemap_write_and_wait).
 */
export function* filemap_write_and_wait(m: Machine, mapping: AddressSpace): Job {
  let index = -1;
  for (let next = 0; next !== index; ) {
    index = next;
    write_cache_pages(m, mapping, index, Number.MAX_SAFE_INTEGER, WRITEBACK_STEP, true);
    next = mapping.writeback_index;
    yield;
  }
  mapping.writeback_index = 0;
  requeue_dirty(m, mapping);
  filemap_fdatawait(m, mapping);
  const { flags } = mapping;
  mapping.flags &= ~(AS_EIO | AS_ENOSPC);
  if ((flags & AS_EIO) !== 0) return -EIO;
  return (flags & AS_ENOSPC) !== 0 ? -ENOSPC : 0;
}

// Limits and the flusher.

/** Pages that may be dirty at most, before the ratios (determine_dirtyable_memory). */
function determine_dirtyable_memory(m: Machine): number {
  let x =
    global_page_state(m, NR_FREE_PAGES) +
    global_page_state(m, NR_ACTIVE_FILE) +
    global_page_state(m, NR_INACTIVE_FILE);
  if (m.nr_swap_pages > 0) {
    x += global_page_state(m, NR_ACTIVE_ANON) + global_page_state(m, NR_INACTIVE_ANON);
  }
  if (m.shape.ZONE_HIGHMEM >= 0 && (m.sysctl['highmem_is_dirtyable'] ?? 0) === 0) {
    let highmem = 0;
    for (const zone of m.populated_zones) {
      if (zone.zone_idx !== m.shape.ZONE_HIGHMEM) continue;
      highmem +=
        zone.vm_stat[NR_FREE_PAGES]! +
        zone.vm_stat[NR_ACTIVE_FILE]! +
        zone.vm_stat[NR_INACTIVE_FILE]!;
    }
    x -= Math.min(highmem, x);
  }
  return x + 1;
}

/** The flusher's limit, in pages (page-writeback.c: get_dirty_limits). */
export function background_thresh(m: Machine): number {
  const dirty = dirty_thresh(m);
  const bytes = m.sysctl['dirty_background_bytes'] ?? 0;
  const page_size = 1 << m.shape.page_shift;
  let background: number;
  if (bytes > 0) background = Math.ceil(bytes / page_size);
  else {
    const ratio = m.sysctl['dirty_background_ratio'] ?? 10;
    background = Math.floor((ratio * determine_dirtyable_memory(m)) / 100);
  }
  return background >= dirty ? Math.floor(dirty / 2) : background;
}

/** The writers' limit, in pages. The ratio is taken as 5 at least. */
export function dirty_thresh(m: Machine): number {
  const bytes = m.sysctl['dirty_bytes'] ?? 0;
  if (bytes > 0) return Math.ceil(bytes / (1 << m.shape.page_shift));
  const ratio = Math.max(5, m.sysctl['dirty_ratio'] ?? 20);
  return Math.floor((ratio * determine_dirtyable_memory(m)) / 100);
}

function nr_dirty(m: Machine): number {
  return global_page_state(m, NR_FILE_DIRTY) + global_page_state(m, NR_UNSTABLE_NFS);
}

/** Pages dirtied between two looks at the limits (set_ratelimit). */
function ratelimit_pages(m: Machine): number {
  const pages = Math.floor(m.totalram_pages / (m.shape.nr_cpus * 32));
  return Math.max(16, Math.min(pages, (4 << 20) / (1 << m.shape.page_shift)));
}

/**
 * To be called for each page that a writer dirtied. Now and then looks at the limits: above the
 * background limit the flusher is woken, above the dirty limit the caller writes pages out until
 * it holds again (balance_dirty_pages_ratelimited, balance_dirty_pages).
 */
export function balance_dirty_pages_ratelimited(m: Machine): void {
  const { writeback } = m;
  if (++writeback.ratelimit < ratelimit_pages(m)) return;
  const dirtied = writeback.ratelimit;
  writeback.ratelimit = 0;
  balance_dirty_pages(m, dirtied);
}

/** Half as much again as the caller dirtied: so a crowd of writers gets the amount down. */
function sync_writeback_pages(dirtied: number): number {
  return dirtied + Math.floor(dirtied / 2);
}

function exceeds_dirty_thresh(m: Machine, limit: number): boolean {
  return nr_dirty(m) + global_page_state(m, NR_WRITEBACK) > limit;
}

function balance_dirty_pages(m: Machine, dirtied: number): void {
  if (nr_dirty(m) > background_thresh(m)) m.writeback.background_requested = true;
  const limit = dirty_thresh(m);
  if (!exceeds_dirty_thresh(m, limit)) return;
  complete_writeback(m);
  const { b_dirty } = m.writeback;
  let left = sync_writeback_pages(dirtied);
  let mappings = b_dirty.size;
  // What is not clean afterwards goes to the end of the list.
  for (const mapping of b_dirty.values()) {
    if (mappings-- <= 0 || left <= 0 || !exceeds_dirty_thresh(m, limit)) break;
    left -= writeback_single_inode(m, mapping, left, false);
  }
  blk_flush_plug(m);
  // The writer would sleep here until the disk has done as much.
  for (const q of m.block_devices) {
    let n = sync_writeback_pages(dirtied);
    while (n-- > 0 && q.count > 0 && exceeds_dirty_thresh(m, limit)) end_oldest(m, q);
  }
}

/**
 * Writes until `stop` pages are dirty at most or `max` were written, oldest mappings first, and not
 * those that got dirty after `before`.
 */
function* wb_writeback(
  m: Machine,
  stop: number,
  before: number,
  max = Number.POSITIVE_INFINITY,
): Job {
  let written = 0;
  // A list of its own: write-back dirties metadata, which goes to the end of the real one.
  for (const mapping of [...m.writeback.b_dirty.values()]) {
    // What was destroyed or cleaned between two slices is not on the list any more.
    while (m.writeback.b_dirty.get(mapping.id) === mapping && mapping.dirtied_when <= before) {
      if (nr_dirty(m) <= stop || written >= max) return written;
      const nr = writeback_single_inode(m, mapping, WRITEBACK_STEP, false);
      blk_flush_plug(m);
      written += nr;
      yield;
      if (nr === 0) break;
    }
  }
  return written;
}

/** Whether the flusher would write something now. */
export function flusher_has_reason(m: Machine): boolean {
  const { background_requested, next_periodic, nr_requested } = m.writeback;
  if (background_requested || nr_requested > 0) return true;
  const interval = m.sysctl['dirty_writeback_centisecs'] ?? 500;
  return interval > 0 && m.clock.now_ms >= next_periodic;
}

/**
 * The flusher thread: ends finished writes, then writes old data when the period is over and any
 * data while the background limit is exceeded. Returns the pages written
 * (fs-writeback.c: wb_do_writeback).
 */
export function* flusher_tick(m: Machine): Job {
  complete_writeback(m);
  let written = 0;
  const now = m.clock.now_ms;
  const interval = (m.sysctl['dirty_writeback_centisecs'] ?? 500) * 10;
  if (interval > 0 && now >= m.writeback.next_periodic) {
    m.writeback.next_periodic = now + interval;
    const expire = (m.sysctl['dirty_expire_centisecs'] ?? 3000) * 10;
    written += yield* wb_writeback(m, -1, now - expire);
  }
  if (m.writeback.nr_requested > 0) {
    const max = m.writeback.nr_requested;
    m.writeback.nr_requested = 0;
    written += yield* wb_writeback(m, -1, now, max);
  }
  if (m.writeback.nr_requested > 0) {
    const stop = Math.max(0, nr_dirty(m) - m.writeback.nr_requested);
    m.writeback.nr_requested = 0;
    written += yield* wb_writeback(m, stop, now);
  }
  if (m.writeback.background_requested) {
    m.writeback.background_requested = false;
    written += yield* wb_writeback(m, background_thresh(m), now);
  }
  return written;
}

/** Writes everything that is dirty and waits for it (fs/sync.c: sys_sync). Returns pages written. */
export function* sync_filesystems(m: Machine): Job {
  let written = 0;
  // Writing inodes dirties metadata, pages under write-back are passed over: once more gets all.
  for (let round = 0; round < 2; round++) {
    written += yield* wb_writeback(m, -1, Number.MAX_SAFE_INTEGER);
    blk_flush_plug(m);
    for (const q of m.block_devices) complete_writes(m, q, Number.MAX_SAFE_INTEGER);
  }
  for (const q of m.block_devices) q.device.flush();
  return written;
}
