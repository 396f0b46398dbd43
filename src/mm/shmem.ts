/**
 * Shared anonymous memory: a file without a name that only mappings hold.
 *
 * Its pages are swap-backed: they lie on the anonymous LRU lists, begin on the inactive one, count
 * as NR_SHMEM, and migrate like any page without buffers. They are made by the first fault, zeroed.
 * Linux: mm/shmem.c (shmem_zero_setup, shmem_fault, shmem_getpage). Differs: they are never swapped
 * out, since there is no writepage: reclaim keeps the dirty ones; no tmpfs mounts, no SysV calls.
 */
import { EAGAIN, EIO, ENOMEM } from '../lib/errno.ts';
import { type AddressSpace, type AddressSpaceOperations, MIGRATE_PAGE } from './address_space.ts';
import { add_to_page_cache_lru, find_get_page } from './filemap.ts';
import { __GFP_ZERO, GFP_HIGHUSER_MOVABLE, GFP_KERNEL, GFP_NOWAIT } from './gfp.ts';
import { put_page } from './lru.ts';
import { MmapFile } from './mm_types.ts';
import type { Machine } from './mmzone.ts';
import { ClearPageFlag, type pfn_t, SetPageFlag, trylock_page } from './page.ts';
import { PG_swapbacked, PG_uptodate } from './page_flags.ts';
import { kmem_cache_alloc, kmem_cache_free } from './slub.ts';
import { truncate_inode_pages } from './truncate.ts';

/**
 * The page at an index, locked and with a reference, made when it is not there. -EIO behind the
 * end, -ENOMEM, -EAGAIN while migration has it locked.
 */
function shmem_fault(m: Machine, mapping: AddressSpace, index: number): pfn_t {
  if (index >= Math.ceil(mapping.i_size / 2 ** m.shape.page_shift)) return -EIO;
  const found = find_get_page(m, mapping, index);
  if (found >= 0) {
    if (trylock_page(m.memmap, found)) return found;
    put_page(m, found);
    return -EAGAIN;
  }
  const pfn = m.kernel.alloc_pages(m, mapping.gfp_mask | __GFP_ZERO, 0);
  if (pfn < 0) return -ENOMEM;
  SetPageFlag(m.memmap, pfn, PG_swapbacked);
  const err = add_to_page_cache_lru(m, pfn, mapping, index, GFP_NOWAIT);
  if (err !== 0) {
    ClearPageFlag(m.memmap, pfn, PG_swapbacked);
    put_page(m, pfn);
    return err;
  }
  SetPageFlag(m.memmap, pfn, PG_uptodate);
  return pfn;
}

/** shmem.c: shmem_aops. */
export const shmem_aops: AddressSpaceOperations = {
  name: 'shmem',
  migratepage: MIGRATE_PAGE,
  account_dirty: false,
  fault: shmem_fault,
};

/** What keeps the memory while somebody maps it: inode and promise. */
export class ShmemInode {
  private readonly m: Machine;
  private readonly mapping: AddressSpace;
  private readonly pages: number;
  private readonly object: number;

  constructor(m: Machine, mapping: AddressSpace, pages: number, object: number) {
    this.m = m;
    this.mapping = mapping;
    this.pages = pages;
    this.object = object;
  }

  /** The last area has gone. */
  release(): void {
    const { m, mapping } = this;
    mapping.i_size = 0;
    truncate_inode_pages(m, mapping, 0);
    m.mappings.destroy(mapping);
    m.vm_committed_as -= this.pages;
    kmem_cache_free(m, m.slab.find('shmem_inode_cache'), this.object);
  }
}

/** Minor number of the internal mount that shared memory lies on, as maps shows it. */
const SHM_MINOR = 4;

/** A file of `pages` pages, whose promise the caller has booked; null without memory. */
export function shmem_file_setup(m: Machine, pages: number): MmapFile | null {
  const object = kmem_cache_alloc(m, m.slab.find('shmem_inode_cache'), GFP_KERNEL);
  if (object === 0) return null;
  const mapping = m.mappings.create(shmem_aops, GFP_HIGHUSER_MOVABLE);
  mapping.i_size = pages * 2 ** m.shape.page_shift;
  const file = new MmapFile(mapping, '/dev/zero (deleted)', mapping.id, 0, SHM_MINOR);
  file.open = new ShmemInode(m, mapping, pages, object);
  return file;
}
