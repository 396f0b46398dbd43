/**
 * Faults on mapped files: the page of the cache, read in when it is missing, with read-around.
 *
 * Linux: mm/filemap.c (filemap_fault, do_sync_mmap_readahead, do_async_mmap_readahead). Differs: a
 * page that is locked is being migrated, and the fault is repeated instead of sleeping.
 */
import { BUG_ON } from '../lib/bug.ts';
import { EAGAIN, EIO, ENOMEM } from '../lib/errno.ts';
import {
  __do_page_cache_readahead,
  add_to_page_cache_lru,
  FileRaState,
  find_get_page,
  page_cache_alloc_cold,
  page_cache_async_readahead,
  page_cache_sync_readahead,
} from './filemap.ts';
import { GFP_KERNEL } from './gfp.ts';
import { put_page } from './lru.ts';
import { type MmapFile, VM_RAND_READ, VM_SEQ_READ, type VmArea } from './mm_types.ts';
import type { Machine } from './mmzone.ts';
import { PageUptodate, type pfn_t, trylock_page } from './page.ts';
import { PG_reclaim } from './page_flags.ts';
import { count_vm_event, PGMAJFAULT } from './vmstat.ts';

/** More misses than this and read-around is given up (filemap.c: MMAP_LOTSAMISS). */
const MMAP_LOTSAMISS = 100;
const READAHEAD_BYTES = 128 * 1024;

function do_sync_mmap_readahead(m: Machine, vma: VmArea, file: MmapFile, index: number): void {
  const ra = file.ra!;
  if ((vma.vm_flags & VM_RAND_READ) !== 0) return;
  const pages = READAHEAD_BYTES / (1 << m.shape.page_shift);
  const prev = ra.prev_pos < 0 ? -1 : Math.floor(ra.prev_pos / (1 << m.shape.page_shift));
  if ((vma.vm_flags & VM_SEQ_READ) !== 0 || index - 1 === prev) {
    page_cache_sync_readahead(m, file.mapping, ra, index, pages);
    return;
  }
  if (++file.mmap_miss > MMAP_LOTSAMISS) return;
  ra.start = Math.max(0, index - pages / 2);
  ra.size = pages;
  ra.async_size = 0;
  __do_page_cache_readahead(m, file.mapping, ra.start, ra.size, 0);
}

function do_async_mmap_readahead(
  m: Machine,
  vma: VmArea,
  file: MmapFile,
  pfn: pfn_t,
  index: number,
): void {
  if ((vma.vm_flags & VM_RAND_READ) !== 0) return;
  if (file.mmap_miss > 0) file.mmap_miss--;
  if ((m.memmap.flags[pfn]! & PG_reclaim) === 0) return;
  const pages = READAHEAD_BYTES / (1 << m.shape.page_shift);
  page_cache_async_readahead(m, file.mapping, file.ra!, pfn, index, pages);
}

/** page_cache_read: one page without read-ahead, with a reference, unlocked; or -errno. */
function page_cache_read(m: Machine, file: MmapFile, index: number): pfn_t {
  const pfn = page_cache_alloc_cold(m, file.mapping);
  if (pfn < 0) return -ENOMEM;
  const rc = add_to_page_cache_lru(m, pfn, file.mapping, index, GFP_KERNEL);
  const err = rc !== 0 ? rc : file.mapping.a_ops.readpage!(m, file.mapping, pfn);
  if (err === 0) return pfn;
  put_page(m, pfn);
  return err;
}

/**
 * The cached page for a fault, locked, uptodate and with a reference. -EIO behind the end of the
 * file and when reading fails, -ENOMEM, -EAGAIN when the page is locked by migration.
 */
export function filemap_fault(m: Machine, vma: VmArea, index: number): pfn_t {
  const file = vma.vm_file!;
  const { mapping } = file;
  if (mapping.a_ops.fault !== undefined) return mapping.a_ops.fault(m, mapping, index);
  file.ra ??= new FileRaState();
  const page_size = 1 << m.shape.page_shift;
  if (index >= Math.ceil(mapping.i_size / page_size)) return -EIO;
  let pfn = find_get_page(m, mapping, index);
  if (pfn >= 0) do_async_mmap_readahead(m, vma, file, pfn, index);
  else {
    do_sync_mmap_readahead(m, vma, file, index);
    count_vm_event(m, PGMAJFAULT);
    pfn = find_get_page(m, mapping, index);
    if (pfn < 0) pfn = page_cache_read(m, file, index);
    if (pfn < 0) return pfn;
  }
  if (!trylock_page(m.memmap, pfn)) {
    put_page(m, pfn);
    return -EAGAIN;
  }
  if (!PageUptodate(m.memmap, pfn)) {
    // An earlier read failed: once more. readpage unlocks.
    const err = mapping.a_ops.readpage!(m, mapping, pfn);
    if (err !== 0) {
      put_page(m, pfn);
      return -EIO;
    }
    BUG_ON(!trylock_page(m.memmap, pfn), 'filemap_fault: readpage left the page locked');
  }
  file.ra.prev_pos = index * page_size;
  return pfn;
}
