/**
 * Buffer heads: the blocks of a cached page, and what file systems do with them.
 *
 * Pages that were written, and all pages of a block device, have buffers: one slab object a block,
 * in a ring that hangs on the page's private column, PG_private set, one reference for all. They
 * know where on the device the block is, and are locked while it is being written. Pages that were
 * only read have none. Dropping clean, unused buffers makes a page free to move or go.
 * Linux: fs/buffer.c, fs/mpage.c, fs/block_dev.c. Differs: one block size of 4 KiB; a missing
 * object makes the operation fail with -ENOMEM, where Linux retries until it has one.
 */
import { BUG_ON } from '../lib/bug.ts';
import { EIO, ENOMEM } from '../lib/errno.ts';
import {
  type AddressSpace,
  type AddressSpaceOperations,
  MIGRATE_FALLBACK,
} from './address_space.ts';
import {
  BH_Async_Write,
  BH_Dirty,
  BH_Lock,
  BH_Mapped,
  BH_New,
  BH_Uptodate,
  BLOCK_SIZE,
} from './buffer_head.ts';
import { end_read, grab_cache_page_write_begin } from './filemap.ts';
import { __GFP_FS, __GFP_MOVABLE, GFP_NOFS, GFP_USER } from './gfp.ts';
import { mark_page_accessed, put_page } from './lru.ts';
import type { Machine } from './mmzone.ts';
import {
  ClearPageFlag,
  PageDirty,
  PageLocked,
  PagePrivate,
  PageUptodate,
  PageWriteback,
  type pfn_t,
  SetPageFlag,
  unlock_page,
} from './page.ts';
import { PG_error, PG_locked, PG_mappedtodisk, PG_private, PG_uptodate } from './page_flags.ts';
import {
  __set_page_dirty_nobuffers,
  balance_dirty_pages_ratelimited,
  cancel_dirty_page,
  end_page_writeback,
  page_mapping,
  set_page_writeback,
  submit_page_write,
  submit_read,
} from './page_writeback.ts';
import { radix_tree_lookup } from './radix_tree.ts';
import { kmem_cache_alloc, kmem_cache_free } from './slub.ts';

/** Mask of a block device's pages (block_dev.c: bdget, buffer.c: grow_dev_page). */
export const GFP_BDEV = (GFP_USER & ~__GFP_FS) | __GFP_MOVABLE;

/** Busy: under I/O, dirty, or in somebody's hands (buffer.c: buffer_busy). */
function buffer_busy(m: Machine, bh: number): boolean {
  const b = m.buffer_heads;
  return b.b_count[bh] !== 0 || (b.b_state[bh]! & (BH_Dirty | BH_Lock)) !== 0;
}

function free_buffer_ring(m: Machine, head: number): void {
  const b = m.buffer_heads;
  let bh = head;
  do {
    const next = b.b_this_page[bh]!;
    kmem_cache_free(m, m.slab.buffer_head, bh);
    bh = next;
  } while (bh !== head);
}

/**
 * Gives a page its buffers; they are as uptodate and dirty as the page is. 0 or -ENOMEM
 * (buffer.c: create_empty_buffers).
 */
export function create_empty_buffers(m: Machine, pfn: pfn_t): number {
  const p = m.memmap;
  const b = m.buffer_heads;
  const nr = (1 << m.shape.page_shift) / BLOCK_SIZE;
  let state = PageUptodate(p, pfn) ? BH_Uptodate : 0;
  if (PageDirty(p, pfn)) state |= BH_Dirty;
  let head = 0;
  let tail = 0;
  for (let i = 0; i < nr; i++) {
    const bh = kmem_cache_alloc(m, m.slab.buffer_head, GFP_NOFS);
    if (bh === 0) {
      if (head !== 0) free_buffer_ring(m, head);
      return -ENOMEM;
    }
    b.init(bh);
    b.b_state[bh] = state;
    b.b_page[bh] = pfn;
    if (head === 0) head = bh;
    else b.b_this_page[tail] = bh;
    b.b_this_page[bh] = head;
    tail = bh;
  }
  SetPageFlag(p, pfn, PG_private);
  p.private_[pfn] = head;
  p._count[pfn]!++;
  return 0;
}

/**
 * Drops a page's buffers unless one is busy. The page must be locked and not under write-back. A
 * page whose buffers were all written is clean afterwards (buffer.c: try_to_free_buffers).
 */
export function try_to_free_buffers(m: Machine, pfn: pfn_t): boolean {
  const p = m.memmap;
  BUG_ON(!PageLocked(p, pfn), 'try_to_free_buffers: the page is not locked');
  if (PageWriteback(p, pfn) || !PagePrivate(p, pfn)) return false;
  const b = m.buffer_heads;
  const head = p.private_[pfn]!;
  let bh = head;
  do {
    if (buffer_busy(m, bh)) return false;
    bh = b.b_this_page[bh]!;
  } while (bh !== head);
  free_buffer_ring(m, head);
  ClearPageFlag(p, pfn, PG_private);
  p.private_[pfn] = 0;
  // Buffers that were written one by one leave the page's own bit behind.
  if (page_mapping(m, pfn) !== null) cancel_dirty_page(m, pfn);
  BUG_ON(p._count[pfn]! < 2, 'try_to_free_buffers: the page would vanish');
  p._count[pfn]!--;
  return true;
}

/** Makes the page free of private data, if it can be; true then (filemap.c: try_to_release_page). */
export function try_to_release_page(m: Machine, pfn: pfn_t, _gfp: number): boolean {
  BUG_ON(!PageLocked(m.memmap, pfn), 'try_to_release_page: the page is not locked');
  if (PageWriteback(m.memmap, pfn)) return false;
  return try_to_free_buffers(m, pfn);
}

/**
 * Moves a page's buffers to its new frame: the ring, PG_private and the reference that goes with
 * them. No buffer may be locked (migrate.c: buffer_migrate_page).
 */
export function buffer_page_move(m: Machine, old: pfn_t, new_: pfn_t): void {
  const p = m.memmap;
  const b = m.buffer_heads;
  BUG_ON(!PagePrivate(p, old), 'buffer_page_move: the page has no buffers');
  const head = p.private_[old]!;
  let bh = head;
  do {
    BUG_ON((b.b_state[bh]! & BH_Lock) !== 0, 'buffer_page_move: a buffer is under I/O');
    b.b_page[bh] = new_;
    bh = b.b_this_page[bh]!;
  } while (bh !== head);
  ClearPageFlag(p, old, PG_private);
  p.private_[new_] = head;
  p.private_[old] = 0;
  p._count[old]!--;
  p._count[new_]!++;
  SetPageFlag(p, new_, PG_private);
}

/** Marks a page dirty, and all its buffers (buffer.c: __set_page_dirty_buffers). */
export function __set_page_dirty_buffers(m: Machine, _mapping: AddressSpace, pfn: pfn_t): boolean {
  const p = m.memmap;
  if (PagePrivate(p, pfn)) {
    const b = m.buffer_heads;
    const head = p.private_[pfn]!;
    let bh = head;
    do {
      b.b_state[bh]! |= BH_Dirty;
      bh = b.b_this_page[bh]!;
    } while (bh !== head);
  }
  return __set_page_dirty_nobuffers(m, pfn);
}

/** Marks one buffer dirty, and its page with it (buffer.c: mark_buffer_dirty). */
export function mark_buffer_dirty(m: Machine, bh: number): void {
  const b = m.buffer_heads;
  if ((b.b_state[bh]! & BH_Dirty) !== 0) return;
  b.b_state[bh]! |= BH_Dirty;
  __set_page_dirty_nobuffers(m, b.b_page[bh]!);
}

/** Forgets a buffer's data and place: its block was freed (buffer.c: discard_buffer). */
function discard_buffer(m: Machine, bh: number): void {
  const b = m.buffer_heads;
  b.b_state[bh]! &= ~(BH_Dirty | BH_Mapped | BH_New);
  b.b_blocknr[bh] = -1;
}

/**
 * The part of a locked page from `offset` on is cut off: its buffers forget their blocks; all of
 * them are dropped when nothing is left (buffer.c: block_invalidatepage).
 */
export function block_invalidatepage(m: Machine, pfn: pfn_t, offset: number): void {
  const p = m.memmap;
  if (!PagePrivate(p, pfn)) return;
  const b = m.buffer_heads;
  const head = p.private_[pfn]!;
  let bh = head;
  let at = 0;
  do {
    if (at >= offset) discard_buffer(m, bh);
    at += BLOCK_SIZE;
    bh = b.b_this_page[bh]!;
  } while (bh !== head);
  if (offset === 0) try_to_release_page(m, pfn, 0);
}

// Reading and writing pages of files that lie on blocks.

/** Offset in bytes of a block on its device. */
function block_offset(block: number): number {
  return block * BLOCK_SIZE;
}

/** Reads one block of a page, or zeroes it for a hole. 0 or -errno. */
function read_block(
  m: Machine,
  mapping: AddressSpace,
  pfn: pfn_t,
  at: number,
  block: number,
): number {
  if (block < 0) {
    m.contents.zero_range(pfn, at, BLOCK_SIZE);
    return 0;
  }
  const q = m.block_devices[mapping.bdev]!;
  const err = submit_read(m, q, block_offset(block), BLOCK_SIZE);
  if (err < 0) return -EIO;
  m.contents.write_page(pfn, at, q.bounce, 0, BLOCK_SIZE);
  return 0;
}

/**
 * Fills a locked page from its blocks, holes with zeroes, and unlocks it. Blocks that its buffers
 * hold already are not read again. 0 or -EIO (mpage.c: do_mpage_readpage, block_read_full_page).
 */
export function mpage_readpage(m: Machine, mapping: AddressSpace, pfn: pfn_t): number {
  const p = m.memmap;
  const b = m.buffer_heads;
  const nr = (1 << m.shape.page_shift) / BLOCK_SIZE;
  const first = p.index[pfn]! * nr;
  let bh = PagePrivate(p, pfn) ? p.private_[pfn]! : 0;
  let mapped = 0;
  let err = 0;
  for (let i = 0; i < nr && err === 0; i++) {
    const block = mapping.a_ops.get_block!(m, mapping, first + i, false);
    if (block >= 0) mapped++;
    if (bh === 0) {
      err = read_block(m, mapping, pfn, i * BLOCK_SIZE, block);
    } else {
      if ((b.b_state[bh]! & BH_Uptodate) === 0) {
        err = read_block(m, mapping, pfn, i * BLOCK_SIZE, block);
        if (err === 0) b.b_state[bh]! |= BH_Uptodate;
      }
      bh = b.b_this_page[bh]!;
    }
  }
  if (mapped === nr) SetPageFlag(p, pfn, PG_mappedtodisk);
  return end_read(m, pfn, err);
}

/**
 * Gets a locked page ready for a write of bytes from..to: buffers, a block for each block that is
 * touched, and the old data of blocks that are touched in part. 0 or -errno
 * (buffer.c: __block_prepare_write).
 */
function block_prepare_write(
  m: Machine,
  mapping: AddressSpace,
  pfn: pfn_t,
  from: number,
  to: number,
): number {
  const p = m.memmap;
  const b = m.buffer_heads;
  if (!PagePrivate(p, pfn)) {
    const err = create_empty_buffers(m, pfn);
    if (err !== 0) return err;
  }
  const nr = (1 << m.shape.page_shift) / BLOCK_SIZE;
  const first = p.index[pfn]! * nr;
  let bh = p.private_[pfn]!;
  for (let i = 0; i < nr; i++, bh = b.b_this_page[bh]!) {
    const start = i * BLOCK_SIZE;
    const end = start + BLOCK_SIZE;
    if (end <= from || start >= to) {
      if (PageUptodate(p, pfn)) b.b_state[bh]! |= BH_Uptodate;
      continue;
    }
    if ((b.b_state[bh]! & BH_Mapped) === 0) {
      let block = mapping.a_ops.get_block!(m, mapping, first + i, false);
      if (block < 0) {
        block = mapping.a_ops.get_block!(m, mapping, first + i, true);
        if (block < 0) return block;
        b.b_state[bh]! |= BH_New;
      }
      b.b_blocknr[bh] = block;
      b.b_state[bh]! |= BH_Mapped;
    }
    if (PageUptodate(p, pfn)) {
      b.b_state[bh]! |= BH_Uptodate;
      continue;
    }
    if ((b.b_state[bh]! & BH_Uptodate) !== 0 || (start >= from && end <= to)) continue;
    // A block that is overwritten in part keeps the rest of what it held.
    const err = read_block(
      m,
      mapping,
      pfn,
      start,
      (b.b_state[bh]! & BH_New) !== 0 ? -1 : b.b_blocknr[bh]!,
    );
    if (err !== 0) return err;
    b.b_state[bh]! |= BH_Uptodate;
  }
  return 0;
}

/**
 * A write failed after blocks were taken for it: they hold somebody's old data, and become zeroes
 * before anyone can read them (buffer.c: page_zero_new_buffers).
 */
function page_zero_new_buffers(m: Machine, pfn: pfn_t): void {
  const b = m.buffer_heads;
  const head = m.memmap.private_[pfn]!;
  let bh = head;
  let at = 0;
  do {
    if ((b.b_state[bh]! & BH_New) !== 0) {
      if ((b.b_state[bh]! & BH_Uptodate) === 0) m.contents.zero_range(pfn, at, BLOCK_SIZE);
      b.b_state[bh] = (b.b_state[bh]! | BH_Uptodate) & ~BH_New;
      mark_buffer_dirty(m, bh);
    }
    at += BLOCK_SIZE;
    bh = b.b_this_page[bh]!;
  } while (bh !== head);
}

/** After the bytes from..to were copied in: buffers and page uptodate and dirty (__block_commit_write). */
function block_commit_write(m: Machine, pfn: pfn_t, from: number, to: number): void {
  const p = m.memmap;
  const b = m.buffer_heads;
  const head = p.private_[pfn]!;
  let bh = head;
  let start = 0;
  let partial = false;
  do {
    const end = start + BLOCK_SIZE;
    if (end <= from || start >= to) {
      if ((b.b_state[bh]! & BH_Uptodate) === 0) partial = true;
    } else {
      b.b_state[bh] = (b.b_state[bh]! | BH_Uptodate) & ~BH_New;
      mark_buffer_dirty(m, bh);
    }
    start = end;
    bh = b.b_this_page[bh]!;
  } while (bh !== head);
  if (!partial) SetPageFlag(p, pfn, PG_uptodate);
}

/**
 * Writes `len` bytes of buf from `buf_off` into one page of a file at `offset` in the page; the
 * range does not cross the page. 0 or -errno with nothing written (buffer.c: block_write_begin,
 * block_write_end; filemap.c: generic_perform_write).
 */
export function block_write(
  m: Machine,
  mapping: AddressSpace,
  index: number,
  offset: number,
  buf: Uint8Array,
  buf_off: number,
  len: number,
): number {
  const p = m.memmap;
  const pfn = grab_cache_page_write_begin(m, mapping, index);
  if (pfn < 0) return pfn;
  const err = block_prepare_write(m, mapping, pfn, offset, offset + len);
  if (err !== 0) {
    if (PagePrivate(p, pfn)) page_zero_new_buffers(m, pfn);
    unlock_page(p, pfn);
    put_page(m, pfn);
    return err;
  }
  m.contents.write_page(pfn, offset, buf, buf_off, len);
  mark_page_accessed(m, pfn);
  block_commit_write(m, pfn, offset, offset + len);
  unlock_page(p, pfn);
  put_page(m, pfn);
  return 0;
}

/**
 * Writes buf into a file at `pos`, page by page. Returns the bytes written, or -errno when not one
 * was; what was written before an error stays (filemap.c: generic_file_buffered_write).
 */
export function generic_file_buffered_write(
  m: Machine,
  mapping: AddressSpace,
  buf: Uint8Array,
  pos: number,
): number {
  const page_size = 1 << m.shape.page_shift;
  let done = 0;
  while (done < buf.length) {
    const at = pos + done;
    const index = Math.floor(at / page_size);
    const offset = at - index * page_size;
    const len = Math.min(page_size - offset, buf.length - done);
    const err = block_write(m, mapping, index, offset, buf, done, len);
    if (err !== 0) return done > 0 ? done : err;
    done += len;
    if (pos + done > mapping.i_size) mapping.i_size = pos + done;
    balance_dirty_pages_ratelimited(m);
  }
  return done;
}

/**
 * Zeroes the rest of the block that the cut at byte `size` goes through, on its way to the device
 * as well: the file may grow again. 0, -ENOMEM or -EIO with nothing changed
 * (buffer.c: block_truncate_page).
 */
export function block_truncate_page(m: Machine, mapping: AddressSpace, size: number): number {
  const p = m.memmap;
  const b = m.buffer_heads;
  const offset = size % BLOCK_SIZE;
  if (offset === 0 || size >= mapping.i_size) return 0;
  const page_size = 1 << m.shape.page_shift;
  const block = Math.floor(size / BLOCK_SIZE);
  const index = Math.floor(size / page_size);
  const in_page = size % page_size;
  const on_device = mapping.a_ops.get_block!(m, mapping, block, false) >= 0;
  // A hole that is in no page either is zero already.
  if (!on_device && radix_tree_lookup(m, mapping.page_tree, index) === 0) return 0;
  const pfn = grab_cache_page_write_begin(m, mapping, index);
  if (pfn < 0) return pfn;
  let err = 0;
  if (!PagePrivate(p, pfn)) err = create_empty_buffers(m, pfn);
  if (err === 0 && !PageUptodate(p, pfn)) {
    err = mpage_readpage(m, mapping, pfn);
    if (err === 0) SetPageFlag(p, pfn, PG_locked);
    else {
      put_page(m, pfn);
      return err;
    }
  }
  if (err === 0) {
    m.contents.zero_range(pfn, in_page, BLOCK_SIZE - offset);
    let bh = p.private_[pfn]!;
    for (let at = BLOCK_SIZE; at <= in_page; at += BLOCK_SIZE) bh = b.b_this_page[bh]!;
    if (on_device) mark_buffer_dirty(m, bh);
  }
  unlock_page(p, pfn);
  put_page(m, pfn);
  return err;
}

/**
 * Starts writing a locked page whose dirty bit is clear; it is under write-back and unlocked on
 * return. What lies behind the end of the file is zeroed first. 0 or -EIO (buffer.c: block_write_full_page).
 */
export function block_write_full_page(m: Machine, mapping: AddressSpace, pfn: pfn_t): number {
  const p = m.memmap;
  const b = m.buffer_heads;
  const page_size = 1 << m.shape.page_shift;
  const start = p.index[pfn]! * page_size;
  const valid = Math.max(0, Math.min(page_size, mapping.i_size - start));
  m.contents.zero_range(pfn, valid, page_size - valid);
  if (!PagePrivate(p, pfn)) {
    const err = create_empty_buffers(m, pfn);
    if (err !== 0) {
      // Not written: it stays dirty, for a time when memory is there again.
      __set_page_dirty_nobuffers(m, pfn);
      unlock_page(p, pfn);
      return err;
    }
    // Dirty without buffers means written through a mapping: all of it.
    let bh = p.private_[pfn]!;
    do {
      b.b_state[bh]! |= BH_Dirty;
      bh = b.b_this_page[bh]!;
    } while (bh !== p.private_[pfn]);
  }
  const head = p.private_[pfn]!;
  const nr = page_size / BLOCK_SIZE;
  const first = p.index[pfn]! * nr;
  let to_write = 0;
  let err = 0;
  let bh = head;
  for (let i = 0; i < nr; i++, bh = b.b_this_page[bh]!) {
    if ((b.b_state[bh]! & BH_Dirty) === 0) continue;
    if (i * BLOCK_SIZE >= valid && (b.b_state[bh]! & BH_Mapped) === 0) {
      // Behind the end, and without a place on the device: it was dirtied through a mapping.
      // One with a place, left by a write that failed, is written: it must be zero when the file
      // grows over it.
      b.b_state[bh]! &= ~BH_Dirty;
      continue;
    }
    if ((b.b_state[bh]! & BH_Mapped) === 0) {
      const block = mapping.a_ops.get_block!(m, mapping, first + i, true);
      if (block < 0) {
        err = block;
        continue;
      }
      b.b_blocknr[bh] = block;
      b.b_state[bh]! |= BH_Mapped;
    }
    b.b_state[bh] = (b.b_state[bh]! & ~BH_Dirty) | BH_Lock | BH_Async_Write;
    to_write++;
  }
  if (err !== 0) SetPageFlag(p, pfn, PG_error);
  if (to_write === 0) {
    // Nothing was dirty after all. The page goes through write-back for its tags' sake.
    set_page_writeback(m, pfn);
    unlock_page(p, pfn);
    end_page_writeback(m, pfn);
    return err;
  }
  ClearPageFlag(p, pfn, PG_error);
  set_page_writeback(m, pfn);
  unlock_page(p, pfn);
  const q = m.block_devices[mapping.bdev]!;
  let written = 0;
  bh = head;
  for (let i = 0; i < nr; i++, bh = b.b_this_page[bh]!) {
    if ((b.b_state[bh]! & BH_Async_Write) === 0) continue;
    written++;
    const offset = block_offset(b.b_blocknr[bh]!);
    submit_page_write(m, q, pfn, i * BLOCK_SIZE, BLOCK_SIZE, offset, written === to_write);
    if (written === to_write) break;
  }
  return err;
}

// Block devices: metadata.

function bdev_get_block(_m: Machine, _mapping: AddressSpace, block: number): number {
  return block;
}

/** A block device's own pages: no migration method (fs/block_dev.c: def_blk_aops). */
export const def_blk_aops: AddressSpaceOperations = {
  name: 'bdev',
  migratepage: MIGRATE_FALLBACK,
  account_dirty: true,
  readpage: mpage_readpage,
  writepage: block_write_full_page,
  set_page_dirty: __set_page_dirty_buffers,
  get_block: bdev_get_block,
};

/** The mapping of a block device's pages (fs/block_dev.c: bdget). `dev` from add_block_device. */
export function bdget(m: Machine, dev: number): AddressSpace {
  const mapping = m.mappings.create(def_blk_aops, GFP_BDEV, null, dev);
  mapping.i_size = m.block_devices[dev]!.device.size;
  return mapping;
}

/** The buffer of a block if this CPU looked it up a short while ago, else 0 (buffer.c: lookup_bh_lru). */
function lookup_bh_lru(m: Machine, bdev: AddressSpace, block: number): number {
  const b = m.buffer_heads;
  const bhs = b.bh_lrus[m.this_cpu]!;
  for (let i = 0; i < bhs.length && bhs[i] !== 0; i++) {
    const bh = bhs[i]!;
    if (b.b_blocknr[bh] === block && page_mapping(m, b.b_page[bh]!) === bdev) return bh;
  }
  return 0;
}

/**
 * The buffer of a block of a device, with a reference for the caller, its data read when `read` and
 * it was not cached; it is the youngest of this CPU's list then. -ENOMEM or -EIO (buffer.c:
 * __find_get_block, __getblk, __bread).
 */
export function __bread(m: Machine, bdev: AddressSpace, block: number, read: boolean): number {
  const p = m.memmap;
  const b = m.buffer_heads;
  const near = lookup_bh_lru(m, bdev, block);
  if (near !== 0 && (b.b_state[near]! & BH_Uptodate) !== 0) {
    b.bh_lru_install(m.this_cpu, near);
    b.b_count[near]!++;
    // touch_buffer
    mark_page_accessed(m, b.b_page[near]!);
    return near;
  }
  const nr = (1 << m.shape.page_shift) / BLOCK_SIZE;
  const index = Math.floor(block / nr);
  const pfn = grab_cache_page_write_begin(m, bdev, index, true);
  if (pfn < 0) return pfn;
  let err = 0;
  let found = 0;
  if (!PagePrivate(p, pfn)) err = create_empty_buffers(m, pfn);
  if (err === 0) {
    let bh = p.private_[pfn]!;
    let uptodate = true;
    for (let i = 0; i < nr; i++, bh = b.b_this_page[bh]!) {
      b.b_blocknr[bh] = index * nr + i;
      b.b_state[bh]! |= BH_Mapped;
      if (index * nr + i === block) {
        found = bh;
        if ((b.b_state[bh]! & BH_Uptodate) === 0) {
          // Without reading: the caller fills the whole block, which is zero until then.
          err = read_block(m, bdev, pfn, i * BLOCK_SIZE, read ? block : -1);
          if (err === 0) b.b_state[bh]! |= BH_Uptodate;
        }
      }
      if ((b.b_state[bh]! & BH_Uptodate) === 0) uptodate = false;
    }
    if (err === 0 && uptodate) SetPageFlag(p, pfn, PG_uptodate);
  }
  if (err === 0) {
    b.b_count[found]!++;
    b.bh_lru_install(m.this_cpu, found);
    mark_page_accessed(m, pfn);
  }
  unlock_page(p, pfn);
  put_page(m, pfn);
  return err === 0 ? found : err;
}

/** Drops a reference to a buffer (buffer_head.h: brelse). */
export function brelse(m: Machine, bh: number): void {
  BUG_ON(m.buffer_heads.b_count[bh]! <= 0, 'brelse: the buffer has no reference');
  m.buffer_heads.b_count[bh]!--;
}

/**
 * A block of metadata was freed: what its page in the device's cache holds must not be written any
 * more, for the block may become part of a file (buffer.c: bforget, unmap_underlying_metadata).
 */
export function forget_block(m: Machine, bdev: AddressSpace, block: number): void {
  const b = m.buffer_heads;
  const nr = (1 << m.shape.page_shift) / BLOCK_SIZE;
  const pfn = radix_tree_lookup(m, bdev.page_tree, Math.floor(block / nr));
  if (pfn === 0 || !PagePrivate(m.memmap, pfn)) return;
  let bh = m.memmap.private_[pfn]!;
  for (let i = block % nr; i > 0; i--) bh = b.b_this_page[bh]!;
  b.b_state[bh]! &= ~BH_Dirty;
}
