/**
 * The page cache: pages by mapping and index, and reading files through it.
 *
 * A cached page has one reference from its mapping's tree, its id in the mapping column and its
 * index in the index column. Readers find pages or bring them in, ahead of need when they read in
 * sequence. Pages are locked within one call only: calls do not overlap, and a job that pauses
 * holds no page locked.
 * Linux: mm/filemap.c, mm/readahead.c, include/linux/pagemap.h. Differs: a read is done when the
 * call returns, so nobody sleeps on a page; the read-ahead window is 128 KiB, congestion is not
 * modelled.
 */
import { BUG_ON } from '../lib/bug.ts';
import { EEXIST, EIO, ENOMEM } from '../lib/errno.ts';
import type { AddressSpace } from './address_space.ts';
import { __GFP_COLD, __GFP_FS, __GFP_HIGHMEM, GFP_KERNEL } from './gfp.ts';
import { lru_cache_add_anon, lru_cache_add_file, mark_page_accessed, put_page } from './lru.ts';
import { type Machine, page_zone } from './mmzone.ts';
import {
  PageSwapBacked,
  PageUptodate,
  page_mapped,
  type pfn_t,
  SetPageFlag,
  TestClearPageFlag,
  trylock_page,
  unlock_page,
} from './page.ts';
import { PG_dirty, PG_error, PG_locked, PG_reclaim, PG_uptodate } from './page_flags.ts';
import { page_index, page_mapping } from './page_writeback.ts';
import {
  radix_tree_delete,
  radix_tree_insert,
  radix_tree_lookup,
  radix_tree_next_hole,
  radix_tree_preload,
  radix_tree_prev_hole,
  radix_tree_replace,
} from './radix_tree.ts';
import { mod_zone_page_state, NR_FILE_DIRTY, NR_FILE_PAGES, NR_SHMEM } from './vmstat.ts';

export {
  AddressSpace,
  type AddressSpaceOperations,
  BUFFER_MIGRATE_PAGE,
  Mappings,
  MIGRATE_FALLBACK,
  MIGRATE_PAGE,
} from './address_space.ts';
export {
  __set_page_dirty_nobuffers,
  AOP_WRITEPAGE_ACTIVATE,
  cancel_dirty_page,
  clear_page_dirty_for_io,
  end_page_writeback,
  page_index,
  page_mapping,
  set_page_dirty,
  set_page_writeback,
  wait_on_page_writeback,
} from './page_writeback.ts';

/** The read-ahead window's largest size in bytes (mm.h: VM_MAX_READAHEAD). */
const MAX_READAHEAD_BYTES = 128 * 1024;

// Adding, removing, finding.

/**
 * Puts a fresh page into a mapping: locked, with a reference of the tree's own. 0, -EEXIST when the
 * place is taken, -ENOMEM without memory for the tree; nothing has changed then. The page is on no
 * LRU list yet (filemap.c: add_to_page_cache).
 */
export function add_to_page_cache(
  m: Machine,
  pfn: pfn_t,
  mapping: AddressSpace,
  index: number,
  gfp: number,
): number {
  const p = m.memmap;
  const err = radix_tree_preload(m, gfp & ~__GFP_HIGHMEM);
  if (err !== 0) return err;
  const rc = radix_tree_insert(m, mapping.page_tree, index, pfn);
  if (rc !== 0) return rc;
  SetPageFlag(p, pfn, PG_locked);
  p._count[pfn]!++;
  p.mapping[pfn] = mapping.id << 2;
  p.index[pfn] = index;
  mapping.nrpages++;
  const zone = page_zone(m, pfn);
  mod_zone_page_state(zone, NR_FILE_PAGES, 1);
  if (PageSwapBacked(p, pfn)) mod_zone_page_state(zone, NR_SHMEM, 1);
  return 0;
}

/** add_to_page_cache, then onto the inactive list (filemap.c). */
export function add_to_page_cache_lru(
  m: Machine,
  pfn: pfn_t,
  mapping: AddressSpace,
  index: number,
  gfp: number,
): number {
  const rc = add_to_page_cache(m, pfn, mapping, index, gfp);
  if (rc !== 0) return rc;
  if (PageSwapBacked(m.memmap, pfn)) lru_cache_add_anon(m, pfn);
  else lru_cache_add_file(m, pfn);
  return 0;
}

/**
 * Takes a locked page out of its mapping; the tree's reference becomes the caller's
 * (filemap.c: __remove_from_page_cache).
 */
export function __remove_from_page_cache(m: Machine, pfn: pfn_t): void {
  const p = m.memmap;
  const mapping = page_mapping(m, pfn);
  BUG_ON(mapping === null, 'remove_from_page_cache: the page is in no mapping');
  BUG_ON(page_mapped(p, pfn), 'remove_from_page_cache: the page is mapped');
  const removed = radix_tree_delete(m, mapping!.page_tree, page_index(m, pfn));
  BUG_ON(removed !== pfn, 'remove_from_page_cache: the tree holds another page');
  p.mapping[pfn] = 0;
  mapping!.nrpages--;
  const zone = page_zone(m, pfn);
  mod_zone_page_state(zone, NR_FILE_PAGES, -1);
  if (PageSwapBacked(p, pfn)) mod_zone_page_state(zone, NR_SHMEM, -1);
  // Some file systems leave a dirty page behind; its data is gone, and so is the count.
  if (TestClearPageFlag(p, pfn, PG_dirty) && mapping!.a_ops.account_dirty) {
    mod_zone_page_state(zone, NR_FILE_DIRTY, -1);
  }
}

/**
 * Puts another frame into a page's slot of the tree. Nothing else changes: references, counters and
 * the frames' columns are the caller's (migrate.c: migrate_page_move_mapping).
 */
export function replace_page(
  m: Machine,
  mapping: AddressSpace,
  index: number,
  old: pfn_t,
  new_: pfn_t,
): void {
  BUG_ON(
    radix_tree_lookup(m, mapping.page_tree, index) !== old,
    'replace_page: the slot holds another page',
  );
  radix_tree_replace(m, mapping.page_tree, index, new_);
}

/** The cached page at an index with a reference for the caller, or -1 (filemap.c). */
export function find_get_page(m: Machine, mapping: AddressSpace, index: number): pfn_t | -1 {
  const pfn = radix_tree_lookup(m, mapping.page_tree, index);
  if (pfn === 0) return -1;
  m.memmap._count[pfn]!++;
  return pfn;
}

/**
 * find_get_page, and locks the page. Precondition: no other call holds it locked; calls do not
 * overlap, and jobs hold no locks while they pause.
 */
export function find_lock_page(m: Machine, mapping: AddressSpace, index: number): pfn_t | -1 {
  const pfn = find_get_page(m, mapping, index);
  if (pfn >= 0) {
    BUG_ON(!trylock_page(m.memmap, pfn), 'find_lock_page: the page is locked for ever');
  }
  return pfn;
}

/** A page for the mapping, by its mask less `notmask`; -1 without memory. */
export function page_cache_alloc(m: Machine, mapping: AddressSpace, notmask = 0): pfn_t | -1 {
  return m.kernel.alloc_pages(m, mapping.gfp_mask & ~notmask, 0);
}

/** A page for data that nobody waits for: from the cold end of the per-CPU list. */
export function page_cache_alloc_cold(m: Machine, mapping: AddressSpace): pfn_t | -1 {
  return m.kernel.alloc_pages(m, mapping.gfp_mask | __GFP_COLD, 0);
}

/**
 * The page at an index, locked and with a reference, made when it is not there. -ENOMEM without
 * memory (filemap.c: grab_cache_page_write_begin). `nofs`: the caller holds file system locks.
 */
export function grab_cache_page_write_begin(
  m: Machine,
  mapping: AddressSpace,
  index: number,
  nofs = false,
): pfn_t {
  const found = find_lock_page(m, mapping, index);
  if (found >= 0) return found;
  const notmask = nofs ? __GFP_FS : 0;
  const pfn = page_cache_alloc(m, mapping, notmask);
  if (pfn < 0) return -ENOMEM;
  const rc = add_to_page_cache_lru(m, pfn, mapping, index, GFP_KERNEL & ~notmask);
  if (rc !== 0) {
    // A fresh page that nobody else has seen.
    put_page(m, pfn);
    return rc === -EEXIST ? find_lock_page(m, mapping, index) : rc;
  }
  return pfn;
}

// Reading.

/** Where a reader of an open file is, and what is read ahead for it (fs.h: struct file_ra_state). */
export class FileRaState {
  /** First index and size of the window, and how much of its end is left when it is moved on. */
  start = 0;
  size = 0;
  async_size = 0;
  /** Page of the last read and, within that page, where the next one would go on; in bytes. */
  prev_pos = -1;
}

function roundup_pow_of_two(n: number): number {
  let x = 1;
  while (x < n) x *= 2;
  return x;
}

function get_init_ra_size(size: number, max: number): number {
  const newsize = roundup_pow_of_two(size);
  if (newsize <= max / 32) return newsize * 4;
  if (newsize <= max / 4) return newsize * 2;
  return max;
}

function get_next_ra_size(ra: FileRaState, max: number): number {
  return Math.min(ra.size < max / 16 ? ra.size * 4 : ra.size * 2, max);
}

const ra_pool = new Int32Array(MAX_READAHEAD_BYTES / 512);
const ra_index = new Float64Array(MAX_READAHEAD_BYTES / 512);

/**
 * Reads `nr` pages from `index` on that are not cached and lie within the file; all frames are
 * taken first, then read in order. The page `lookahead` before the end is marked: who reads it
 * moves the window on (readahead.c: __do_page_cache_readahead).
 */
export function __do_page_cache_readahead(
  m: Machine,
  mapping: AddressSpace,
  index: number,
  nr: number,
  lookahead: number,
): void {
  const p = m.memmap;
  if (mapping.i_size === 0) return;
  const end_index = Math.floor((mapping.i_size - 1) / (1 << m.shape.page_shift));
  let taken = 0;
  for (let i = 0; i < nr && taken < ra_pool.length; i++) {
    if (index + i > end_index) break;
    if (radix_tree_lookup(m, mapping.page_tree, index + i) !== 0) continue;
    const pfn = page_cache_alloc_cold(m, mapping);
    if (pfn < 0) break;
    if (i === nr - lookahead) SetPageFlag(p, pfn, PG_reclaim);
    ra_pool[taken] = pfn;
    ra_index[taken++] = index + i;
  }
  for (let i = 0; i < taken; i++) {
    const pfn = ra_pool[i]!;
    // Without memory for the tree the page goes back unread; whoever needs it comes again.
    if (add_to_page_cache_lru(m, pfn, mapping, ra_index[i]!, GFP_KERNEL) === 0) {
      readpage(m, mapping, pfn);
    }
    put_page(m, pfn);
  }
}

/** Pages before `index` that are cached without a gap, at most `max` (count_history_pages). */
function count_history_pages(
  m: Machine,
  mapping: AddressSpace,
  index: number,
  max: number,
): number {
  if (index === 0) return 0;
  return index - 1 - radix_tree_prev_hole(m, mapping.page_tree, index - 1, max);
}

function is_next_page(index: number, prev_index: number): boolean {
  return index === prev_index || index === prev_index + 1;
}

/** readahead.c: ondemand_readahead. */
function ondemand_readahead(
  m: Machine,
  mapping: AddressSpace,
  ra: FileRaState,
  hit_readahead_marker: boolean,
  index: number,
  req_size: number,
): void {
  const page_size = 1 << m.shape.page_shift;
  const max = MAX_READAHEAD_BYTES / page_size;
  const initial = (): void => {
    ra.start = index;
    ra.size = get_init_ra_size(req_size, max);
    ra.async_size = ra.size > req_size ? ra.size - req_size : ra.size;
  };
  if (index === 0) {
    initial();
  } else if (index === ra.start + ra.size - ra.async_size || index === ra.start + ra.size) {
    // Where a sequential reader was expected: the window moves on and grows.
    ra.start += ra.size;
    ra.size = get_next_ra_size(ra, max);
    ra.async_size = ra.size;
  } else if (hit_readahead_marker) {
    // Another reader's window, or two readers of one file.
    const start = radix_tree_next_hole(m, mapping.page_tree, index + 1, max);
    if (start - index > max) return;
    ra.start = start;
    ra.size = start - index + req_size;
    ra.size = get_next_ra_size(ra, max);
    ra.async_size = ra.size;
  } else if (req_size > max) {
    initial();
  } else if (is_next_page(index, Math.floor(ra.prev_pos / page_size))) {
    initial();
  } else {
    // try_context_readahead: what is cached before tells of a sequential reader.
    const history = count_history_pages(m, mapping, index, max);
    if (history === 0) {
      __do_page_cache_readahead(m, mapping, index, req_size, 0);
      return;
    }
    ra.start = index;
    ra.size = get_init_ra_size((history >= index ? history * 2 : history) + req_size, max);
    ra.async_size = ra.size;
  }
  // Hit the start of its own window: read the next one as well, in one go.
  if (index === ra.start && ra.size === ra.async_size) {
    ra.async_size = get_next_ra_size(ra, max);
    ra.size += ra.async_size;
  }
  __do_page_cache_readahead(m, mapping, ra.start, ra.size, ra.async_size);
}

/** The page was not cached: reads it and what will be wanted next (readahead.c). */
export function page_cache_sync_readahead(
  m: Machine,
  mapping: AddressSpace,
  ra: FileRaState,
  index: number,
  req_size: number,
): void {
  ondemand_readahead(m, mapping, ra, false, index, req_size);
}

/** The reader has come to the marked page: reads on (readahead.c). */
export function page_cache_async_readahead(
  m: Machine,
  mapping: AddressSpace,
  ra: FileRaState,
  pfn: pfn_t,
  index: number,
  req_size: number,
): void {
  // PG_readahead is PG_reclaim: under write-back it means the other thing.
  if (!TestClearPageFlag(m.memmap, pfn, PG_reclaim)) return;
  ondemand_readahead(m, mapping, ra, true, index, req_size);
}

/**
 * Copies at most `len` bytes of a file from `pos` to buf[0]. Returns the count, 0 at the end, or
 * -errno when not a single byte could be had (filemap.c: do_generic_file_read).
 */
export function generic_file_read(
  m: Machine,
  mapping: AddressSpace,
  ra: FileRaState,
  buf: Uint8Array,
  pos: number,
): number {
  const p = m.memmap;
  const { page_shift } = m.shape;
  const page_size = 1 << page_shift;
  const size = mapping.i_size;
  if (pos >= size || buf.length === 0) return 0;
  const len = Math.min(buf.length, size - pos);
  const last_index = Math.ceil((pos + len) / page_size);
  let done = 0;
  while (done < len) {
    const at = pos + done;
    const index = Math.floor(at / page_size);
    const off = at - index * page_size;
    let pfn = find_get_page(m, mapping, index);
    if (pfn < 0) {
      page_cache_sync_readahead(m, mapping, ra, index, last_index - index);
      pfn = find_get_page(m, mapping, index);
      if (pfn < 0) {
        const err = read_missing_page(m, mapping, index);
        if (err < 0) return done > 0 ? done : err;
        pfn = err;
      }
    }
    if ((p.flags[pfn]! & PG_reclaim) !== 0) {
      page_cache_async_readahead(m, mapping, ra, pfn, index, last_index - index);
    }
    if (!PageUptodate(p, pfn)) {
      const err = read_stale_page(m, mapping, pfn);
      if (err !== 0) {
        put_page(m, pfn);
        return done > 0 ? done : err;
      }
    }
    // Reads that follow each other within one page count as one use.
    if (ra.prev_pos !== index * page_size + off) mark_page_accessed(m, pfn);
    const nr = Math.min(page_size - off, len - done);
    m.contents.read_page(pfn, off, buf, done, nr);
    done += nr;
    ra.prev_pos = index * page_size + ((off + nr) % page_size);
    put_page(m, pfn);
  }
  return done;
}

/** Fills a locked page; one of memory alone begins with zeroes (fs/libfs.c: simple_readpage). */
function readpage(m: Machine, mapping: AddressSpace, pfn: pfn_t): number {
  if (mapping.a_ops.readpage !== undefined) return mapping.a_ops.readpage(m, mapping, pfn);
  m.contents.zero_page(pfn);
  return end_read(m, pfn, 0);
}

/** filemap.c: no_cached_page. A page read without read-ahead, with a reference, or -errno. */
function read_missing_page(m: Machine, mapping: AddressSpace, index: number): pfn_t {
  const pfn = page_cache_alloc_cold(m, mapping);
  if (pfn < 0) return -ENOMEM;
  const rc = add_to_page_cache_lru(m, pfn, mapping, index, GFP_KERNEL);
  if (rc !== 0) {
    put_page(m, pfn);
    return rc;
  }
  const err = readpage(m, mapping, pfn);
  if (err !== 0) {
    put_page(m, pfn);
    return err;
  }
  return pfn;
}

/** A cached page that an earlier read failed to fill: tries again. 0 or -errno. */
function read_stale_page(m: Machine, mapping: AddressSpace, pfn: pfn_t): number {
  if (!trylock_page(m.memmap, pfn)) return -EIO;
  if (PageUptodate(m.memmap, pfn)) {
    unlock_page(m.memmap, pfn);
    return 0;
  }
  m.memmap.flags[pfn]! &= ~PG_error;
  return readpage(m, mapping, pfn);
}

/** Marks a locked page as read and unlocks it; what readpage ends with. */
export function end_read(m: Machine, pfn: pfn_t, err: number): number {
  const p = m.memmap;
  if (err === 0) SetPageFlag(p, pfn, PG_uptodate);
  else SetPageFlag(p, pfn, PG_error);
  unlock_page(p, pfn);
  return err;
}
