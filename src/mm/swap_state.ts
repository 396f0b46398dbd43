/**
 * Swap: areas with their slot maps, the swap cache, and what drops a page's swap space.
 *
 * A slot has a count of users (ptes) and a flag that the swap cache holds it. Entries are those of
 * page_table.ts: type << 28 | offset. What a page holds goes to the area's device and comes from
 * there: its bytes at the slot's place, its content tag into a table behind all slots; the machine
 * keeps nothing of it. Writes take a disk's time, and the pages are under write-back meanwhile;
 * reading is done at once. A page that cannot be read stays without contents: who touches it gets
 * SIGBUS. One that cannot be written stays in memory, dirty.
 * Linux: mm/swap_state.c, mm/swapfile.c, mm/page_io.c. Differs: counts go up to 16382 without
 * continuation pages; no discard; slots are looked for on the first area with room.
 */
import { BUG_ON } from '../lib/bug.ts';
import { is_zero } from '../lib/bytes.ts';
import { EEXIST, EINVAL, ENOENT, ENOMEM } from '../lib/errno.ts';
import { type BlockDevice, type BlockQueue, MemoryBlockDevice } from './block_device.ts';
import { find_get_page, set_page_writeback } from './filemap.ts';
import { __GFP_HIGH, __GFP_NOMEMALLOC, __GFP_NOWARN, GFP_KERNEL } from './gfp.ts';
import { lru_add_drain, lru_cache_add_anon, put_page, release_pages } from './lru.ts';
import { type Machine, PAGEVEC_SIZE, page_zone } from './mmzone.ts';
import {
  ClearPageFlag,
  PageKsm,
  PageLocked,
  PageSwapCache,
  PageUptodate,
  PageWriteback,
  page_mapcount,
  page_mapped,
  type pfn_t,
  SetPageFlag,
  trylock_page,
  unlock_page,
} from './page.ts';
import {
  PG_dirty,
  PG_error,
  PG_locked,
  PG_swapbacked,
  PG_swapcache,
  PG_uptodate,
} from './page_flags.ts';
import { MAX_SWAPFILES, swp_entry, swp_offset, swp_type } from './page_table.ts';
import { add_block_device, submit_page_write, submit_read } from './page_writeback.ts';
import { radix_tree_delete, radix_tree_insert, radix_tree_preload } from './radix_tree.ts';
import { count_vm_event, mod_zone_page_state, NR_FILE_PAGES, PSWPIN, PSWPOUT } from './vmstat.ts';

/** swap_map: the swap cache holds the slot. The rest of the word counts the ptes. */
export const SWAP_HAS_CACHE = 0x4000;
const SWAP_MAP_MAX = 0x3ffe;
/** The slot is not usable: the header of the area. */
const SWAP_MAP_BAD = 0x3fff;
/** Free slots are looked for in runs of this many. */
const SWAPFILE_CLUSTER = 256;

/** Bytes of a device that has room for `slots` pages of `page_size` bytes and their tags. */
export function swap_device_bytes(slots: number, page_size: number): number {
  return slots * page_size + Math.ceil((slots * 4) / 4096) * 4096;
}

/** One swap area (swap.h: struct swap_info_struct). */
export class SwapInfo {
  readonly type: number;
  /** Name in /proc/swaps. */
  readonly path: string;
  /** Usable slots; slot 0 is the header. */
  readonly pages: number;
  readonly prio: number;
  readonly swap_map: Uint16Array;
  lowest_bit = 1;
  highest_bit: number;
  cluster_next = 1;
  cluster_nr = 0;
  inuse_pages = 0;
  /** The device's queue: index in m.block_devices. */
  readonly bdev: number;

  constructor(type: number, path: string, slots: number, prio: number, bdev: number) {
    this.type = type;
    this.bdev = bdev;
    this.path = path;
    this.pages = slots - 1;
    this.prio = prio;
    this.swap_map = new Uint16Array(slots);
    this.swap_map[0] = SWAP_MAP_BAD;
    this.highest_bit = slots - 1;
  }
}

/**
 * Adds a swap area of `slots` pages, header included, on a device of swap_device_bytes, or in memory:
 * its type, or -EINVAL (swapon).
 */
export function swapon(m: Machine, path: string, slots: number, device?: BlockDevice): number {
  const type = m.swap_info.length;
  if (type >= MAX_SWAPFILES || slots < 2 || slots > 2 ** 28) return -EINVAL;
  const page_size = 1 << m.shape.page_shift;
  const bytes = swap_device_bytes(slots, page_size);
  if (device !== undefined && device.size < bytes) return -EINVAL;
  const bdev = add_block_device(m, device ?? new MemoryBlockDevice(bytes), slots * page_size);
  m.swap_info.push(new SwapInfo(type, path, slots, -1 - type, bdev));
  m.nr_swap_pages += slots - 1;
  m.total_swap_pages += slots - 1;
  return type;
}

/** More than half of swap is in use: slots of read pages are freed at once (swap.h). */
export const vm_swap_full = (m: Machine): boolean => m.nr_swap_pages * 2 < m.total_swap_pages;

function find_cluster(si: SwapInfo): number {
  let offset = si.lowest_bit;
  let last = offset + SWAPFILE_CLUSTER - 1;
  for (; last <= si.highest_bit; offset++) {
    if (si.swap_map[offset] !== 0) last = offset + SWAPFILE_CLUSTER;
    else if (offset === last) return offset - (SWAPFILE_CLUSTER - 1);
  }
  return 0;
}

/** A free slot of the area, now marked `usage`; 0 when there is none (swapfile.c: scan_swap_map). */
function scan_swap_map(si: SwapInfo, usage: number): number {
  let offset = si.cluster_next;
  if (si.cluster_nr-- === 0) {
    si.cluster_nr = SWAPFILE_CLUSTER - 1;
    if (si.pages - si.inuse_pages >= SWAPFILE_CLUSTER) offset = find_cluster(si) || offset;
  }
  if (si.highest_bit === 0) return 0;
  if (offset > si.highest_bit) offset = si.lowest_bit;
  const base = offset;
  while (offset <= si.highest_bit && si.swap_map[offset] !== 0) offset++;
  if (offset > si.highest_bit) {
    offset = si.lowest_bit;
    while (offset < base && si.swap_map[offset] !== 0) offset++;
    if (offset >= base) return 0;
  }
  if (offset === si.lowest_bit) si.lowest_bit++;
  if (offset === si.highest_bit) si.highest_bit--;
  si.inuse_pages++;
  if (si.inuse_pages === si.pages) {
    si.lowest_bit = si.pages + 1;
    si.highest_bit = 0;
  }
  si.swap_map[offset] = usage;
  si.cluster_next = offset + 1;
  return offset;
}

/** A free slot for the swap cache: its entry, or 0 (swapfile.c). */
export function get_swap_page(m: Machine): number {
  if (m.nr_swap_pages <= 0) return 0;
  for (const si of m.swap_info) {
    if (si.highest_bit === 0) continue;
    const offset = scan_swap_map(si, SWAP_HAS_CACHE);
    if (offset !== 0) {
      m.nr_swap_pages--;
      return swp_entry(si.type, offset);
    }
  }
  return 0;
}

/** Drops one use (or the cache's) of a slot; the last frees it. Returns what is left. */
function swap_entry_free(m: Machine, entry: number, usage: number): number {
  const si = m.swap_info[swp_type(entry)]!;
  const offset = swp_offset(entry);
  let count = si.swap_map[offset]!;
  if (usage === SWAP_HAS_CACHE) {
    BUG_ON((count & SWAP_HAS_CACHE) === 0, 'swap_entry_free: the cache does not hold the slot');
    count &= ~SWAP_HAS_CACHE;
  } else {
    BUG_ON((count & ~SWAP_HAS_CACHE) === 0, 'swap_entry_free: the slot has no user');
    count--;
  }
  si.swap_map[offset] = count;
  if (count === 0) {
    if (offset < si.lowest_bit) si.lowest_bit = offset;
    if (offset > si.highest_bit) si.highest_bit = offset;
    si.inuse_pages--;
    m.nr_swap_pages++;
  }
  return count;
}

/** Drops a pte's use of the slot. */
export function swap_free(m: Machine, entry: number): void {
  swap_entry_free(m, entry, 1);
}

/** Drops the swap cache's hold on the slot. */
export function swapcache_free(m: Machine, entry: number): void {
  swap_entry_free(m, entry, SWAP_HAS_CACHE);
}

function __swap_duplicate(m: Machine, entry: number, usage: number): number {
  const si = m.swap_info[swp_type(entry)];
  const offset = swp_offset(entry);
  if (si === undefined || offset > si.pages) return -EINVAL;
  const word = si.swap_map[offset]!;
  const count = word & ~SWAP_HAS_CACHE;
  if (usage === SWAP_HAS_CACHE) {
    if ((word & SWAP_HAS_CACHE) !== 0) return -EEXIST;
    if (count === 0) return -ENOENT;
    si.swap_map[offset] = word | SWAP_HAS_CACHE;
    return 0;
  }
  if (word === 0) return -ENOENT;
  if (count >= SWAP_MAP_MAX) return -ENOMEM;
  si.swap_map[offset] = word + 1;
  return 0;
}

/** One more pte uses the slot: 0 or -errno. */
export function swap_duplicate(m: Machine, entry: number): number {
  if (swp_type(entry) >= MAX_SWAPFILES) return 0; // a migration entry
  return __swap_duplicate(m, entry, 1);
}

/** The swap cache takes hold of a slot in use: 0, -EEXIST, -ENOENT. */
export function swapcache_prepare(m: Machine, entry: number): number {
  return __swap_duplicate(m, entry, SWAP_HAS_CACHE);
}

/** ptes that use the slot of a page in swap cache (swapfile.c: page_swapcount). */
export function page_swapcount(m: Machine, pfn: pfn_t): number {
  const entry = m.memmap.private_[pfn]!;
  return m.swap_info[swp_type(entry)]!.swap_map[swp_offset(entry)]! & ~SWAP_HAS_CACHE;
}

// ---- the swap cache

function add_to_swap_cache(m: Machine, pfn: pfn_t, entry: number, gfp: number): number {
  BUG_ON(!PageLocked(m.memmap, pfn), 'add_to_swap_cache: the page is not locked');
  BUG_ON(PageSwapCache(m.memmap, pfn), 'add_to_swap_cache: it is there already');
  const space = m.swapper_space;
  const err = radix_tree_preload(m, gfp);
  if (err !== 0) return err;
  const p = m.memmap;
  p._count[pfn]!++;
  SetPageFlag(p, pfn, PG_swapcache);
  p.private_[pfn] = entry;
  const inserted = radix_tree_insert(m, space.page_tree, entry, pfn);
  if (inserted !== 0) {
    ClearPageFlag(p, pfn, PG_swapcache);
    p.private_[pfn] = 0;
    put_page(m, pfn);
    return inserted;
  }
  space.nrpages++;
  mod_zone_page_state(page_zone(m, pfn), NR_FILE_PAGES, 1);
  return 0;
}

/** Gives a locked anonymous page a slot and puts it into the cache, dirty: whether it could. */
export function add_to_swap(m: Machine, pfn: pfn_t): boolean {
  BUG_ON(!PageUptodate(m.memmap, pfn), 'add_to_swap: the page is not uptodate');
  const entry = get_swap_page(m);
  if (entry === 0) return false;
  const gfp = __GFP_HIGH | __GFP_NOMEMALLOC | __GFP_NOWARN;
  if (add_to_swap_cache(m, pfn, entry, gfp) !== 0) {
    swapcache_free(m, entry);
    return false;
  }
  SetPageFlag(m.memmap, pfn, PG_dirty);
  return true;
}

/** Takes a page out of the radix tree; the caller drops the tree's reference and the slot. */
export function __delete_from_swap_cache(m: Machine, pfn: pfn_t): void {
  const p = m.memmap;
  BUG_ON(!PageLocked(p, pfn), 'delete_from_swap_cache: the page is not locked');
  BUG_ON(!PageSwapCache(p, pfn), 'delete_from_swap_cache: it is not there');
  BUG_ON(PageWriteback(p, pfn), 'delete_from_swap_cache: under write-back');
  const space = m.swapper_space;
  const item = radix_tree_delete(m, space.page_tree, p.private_[pfn]!);
  BUG_ON(item !== pfn, 'delete_from_swap_cache: another page has the slot');
  p.private_[pfn] = 0;
  ClearPageFlag(p, pfn, PG_swapcache);
  space.nrpages--;
  mod_zone_page_state(page_zone(m, pfn), NR_FILE_PAGES, -1);
}

/** Takes a locked page out of the cache and drops its slot and reference. */
export function delete_from_swap_cache(m: Machine, pfn: pfn_t): void {
  const entry = m.memmap.private_[pfn]!;
  __delete_from_swap_cache(m, pfn);
  swapcache_free(m, entry);
  put_page(m, pfn);
}

/** The cached page of a slot with a reference, or -1. */
export function lookup_swap_cache(m: Machine, entry: number): pfn_t | -1 {
  return find_get_page(m, m.swapper_space, entry);
}

/** True when a locked page has no other user of its slot and can be written in place. */
export function reuse_swap_page(m: Machine, pfn: pfn_t): boolean {
  BUG_ON(!PageLocked(m.memmap, pfn), 'reuse_swap_page: the page is not locked');
  if (PageKsm(m.memmap, pfn)) return false;
  let count = page_mapcount(m.memmap, pfn);
  if (count <= 1 && PageSwapCache(m.memmap, pfn)) {
    count += page_swapcount(m, pfn);
    if (count === 1 && !PageWriteback(m.memmap, pfn)) {
      delete_from_swap_cache(m, pfn);
      SetPageFlag(m.memmap, pfn, PG_dirty);
    }
  }
  // 0: a copy that KSM made for one fault.
  return count <= 1;
}

/** Gives up the slot of a locked page when no pte uses it: whether it did (swapfile.c). */
export function try_to_free_swap(m: Machine, pfn: pfn_t): boolean {
  BUG_ON(!PageLocked(m.memmap, pfn), 'try_to_free_swap: the page is not locked');
  if (!PageSwapCache(m.memmap, pfn) || PageWriteback(m.memmap, pfn)) return false;
  if (page_swapcount(m, pfn) !== 0) return false;
  delete_from_swap_cache(m, pfn);
  SetPageFlag(m.memmap, pfn, PG_dirty);
  return true;
}

/**
 * Drops the use of an entry that a pte held; the cached page goes too when nobody else needs it.
 * Migration entries need nothing. Returns false for an entry of no area.
 */
export function free_swap_and_cache(m: Machine, entry: number): boolean {
  if (swp_type(entry) >= MAX_SWAPFILES) return true;
  if (m.swap_info[swp_type(entry)] === undefined) return false;
  if (swap_entry_free(m, entry, 1) !== SWAP_HAS_CACHE) return true;
  const pfn = find_get_page(m, m.swapper_space, entry);
  if (pfn < 0) return true;
  if (trylock_page(m.memmap, pfn)) {
    const unused = !page_mapped(m.memmap, pfn) || vm_swap_full(m);
    if (PageSwapCache(m.memmap, pfn) && !PageWriteback(m.memmap, pfn) && unused) {
      delete_from_swap_cache(m, pfn);
      SetPageFlag(m.memmap, pfn, PG_dirty);
    }
    unlock_page(m.memmap, pfn);
  }
  put_page(m, pfn);
  return true;
}

/** A page that loses its last pte gives up its slot (swap_state.c). */
function free_swap_cache(m: Machine, pfn: pfn_t): void {
  if (!PageSwapCache(m.memmap, pfn) || page_mapped(m.memmap, pfn)) return;
  if (!trylock_page(m.memmap, pfn)) return;
  try_to_free_swap(m, pfn);
  unlock_page(m.memmap, pfn);
}

/** Drops a reference, and the slot if it was the last user (swap_state.c). */
export function free_page_and_swap_cache(m: Machine, pfn: pfn_t): void {
  free_swap_cache(m, pfn);
  put_page(m, pfn);
}

/** The same for many pages, in groups of a pagevec (swap_state.c). */
export function free_pages_and_swap_cache(m: Machine, pages: Int32Array, nr: number): void {
  lru_add_drain(m);
  for (let i = 0; i < nr; i += PAGEVEC_SIZE) {
    const todo = Math.min(nr - i, PAGEVEC_SIZE);
    for (let k = 0; k < todo; k++) free_swap_cache(m, pages[i + k]!);
    release_pages(m, pages.subarray(i, i + todo), todo, false);
  }
}

// ---- reading and writing slots (page_io.c)

/** Writes a locked page whose dirty bit is clear to its slot; unlocks it. Always 0. */
export function swap_writepage(m: Machine, pfn: pfn_t): number {
  if (try_to_free_swap(m, pfn)) {
    unlock_page(m.memmap, pfn);
    return 0;
  }
  const entry = m.memmap.private_[pfn]!;
  set_page_writeback(m, pfn);
  count_vm_event(m, PSWPOUT);
  unlock_page(m.memmap, pfn);
  const size = 1 << m.shape.page_shift;
  submit_page_write(m, swap_queue(m, entry), pfn, 0, size, swp_offset(entry) * size, true);
  return 0;
}

function swap_queue(m: Machine, entry: number): BlockQueue {
  return m.block_devices[m.swap_info[swp_type(entry)]!.bdev]!;
}

const tag_read = new Uint32Array(1);
const tag_bytes = new Uint8Array(tag_read.buffer);

/** Fills a locked page from its slot and unlocks it; not uptodate when that failed. */
export function swap_readpage(m: Machine, pfn: pfn_t): void {
  const entry = m.memmap.private_[pfn]!;
  const size = 1 << m.shape.page_shift;
  const offset = swp_offset(entry);
  const q = swap_queue(m, entry);
  let err = submit_read(m, q, offset * size, size);
  if (err === 0) err = q.device.read(tag_bytes, q.tags_at + offset * 4);
  count_vm_event(m, PSWPIN);
  if (err === 0) {
    m.contents.zero_page(pfn);
    // Most pages have a tag alone: their frames are to take no memory of the host.
    if (!is_zero(q.bounce, 0, size)) m.contents.write_page(pfn, 0, q.bounce, 0, size);
    m.contents.set_tag(pfn, tag_read[0]!);
    SetPageFlag(m.memmap, pfn, PG_uptodate);
  } else {
    SetPageFlag(m.memmap, pfn, PG_error);
    ClearPageFlag(m.memmap, pfn, PG_uptodate);
  }
  unlock_page(m.memmap, pfn);
}

/** The cached page of a slot with a reference; read first when it is not there. -1: no memory. */
export function read_swap_cache_async(
  m: Machine,
  entry: number,
  gfp: number,
  nid: number,
): pfn_t | -1 {
  const cached = lookup_swap_cache(m, entry);
  if (cached >= 0) return cached;
  const pfn = m.kernel.alloc_pages(m, gfp, 0, nid);
  if (pfn < 0) return -1;
  const err = swapcache_prepare(m, entry);
  if (err !== 0) {
    put_page(m, pfn);
    return -1;
  }
  SetPageFlag(m.memmap, pfn, PG_locked | PG_swapbacked);
  if (add_to_swap_cache(m, pfn, entry, gfp & GFP_KERNEL) !== 0) {
    ClearPageFlag(m.memmap, pfn, PG_locked | PG_swapbacked);
    swapcache_free(m, entry);
    put_page(m, pfn);
    return -1;
  }
  lru_cache_add_anon(m, pfn);
  swap_readpage(m, pfn);
  return pfn;
}

/** log2 of the slots read around a fault while vm.page-cluster is not set. */
const PAGE_CLUSTER_DEFAULT = 3;

/** Reads the slots around `entry` that are in use, then the one asked for (swap_state.c). */
export function swapin_readahead(m: Machine, entry: number, gfp: number, nid: number): pfn_t | -1 {
  const si = m.swap_info[swp_type(entry)]!;
  const cluster = m.sysctl['page-cluster'] ?? PAGE_CLUSTER_DEFAULT;
  const target = swp_offset(entry);
  if (cluster > 0) {
    // valid_swaphandles: the aligned group around the slot, cut at the first unused on each side.
    let base = (target >>> cluster) << cluster;
    let end = Math.min(base + 2 ** cluster, si.pages + 1);
    if (base === 0) base = 1;
    let first = target;
    while (first > base && is_readable(si, first - 1)) first--;
    let last = target + 1;
    while (last < end && is_readable(si, last)) last++;
    end = last;
    for (let offset = first; offset < end; offset++) {
      const pfn = read_swap_cache_async(m, swp_entry(si.type, offset), gfp, nid);
      if (pfn < 0) break;
      put_page(m, pfn);
    }
    lru_add_drain(m);
  }
  return read_swap_cache_async(m, entry, gfp, nid);
}

function is_readable(si: SwapInfo, offset: number): boolean {
  const count = si.swap_map[offset]!;
  return count !== 0 && (count & ~SWAP_HAS_CACHE) !== SWAP_MAP_BAD;
}

/** Copies what the used slots of an area hold from one device to another. Throws where one fails. */
export function copy_swap_slots(
  m: Machine,
  si: SwapInfo,
  from: BlockDevice,
  to: BlockDevice,
): void {
  const size = 1 << m.shape.page_shift;
  const { tags_at } = m.block_devices[si.bdev]!;
  const page = new Uint8Array(size);
  const copy = (buf: Uint8Array, offset: number): void => {
    const failed = from.read(buf, offset) !== 0 || to.write(buf, offset) !== 0;
    BUG_ON(failed, 'copy_swap_slots: a device failed');
  };
  for (let offset = 1; offset <= si.pages; offset++) {
    if (si.swap_map[offset] === 0) continue;
    copy(page, offset * size);
    copy(tag_bytes, tags_at + offset * 4);
  }
}
