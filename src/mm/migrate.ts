/**
 * The migration step: moving one locked page's identity and contents to another frame.
 *
 * The old page is isolated, locked and unmapped; the new one is fresh. The new frame takes over the
 * old one's place in its radix tree (if it has one), its contents, flags and buffers; then the
 * migration entries in page tables are turned into mappings of the new frame. If anybody holds a
 * reference that is not accounted for, the answer is -EAGAIN and nothing has changed.
 * Which pages are tried, how often and in which order is the kernel's business
 * (kernels/<name>/migrate.ts). Linux: mm/migrate.c from migrate_page_move_mapping to
 * move_to_new_page.
 */
import { BUG_ON } from '../lib/bug.ts';
import { EAGAIN, EINVAL, EIO } from '../lib/errno.ts';
import { type AddressSpace, BUFFER_MIGRATE_PAGE, MIGRATE_PAGE } from './address_space.ts';
import { buffer_page_move, try_to_release_page } from './buffer.ts';
import {
  __set_page_dirty_nobuffers,
  clear_page_dirty_for_io,
  page_mapping,
  replace_page,
} from './filemap.ts';
import { GFP_KERNEL } from './gfp.ts';
import { type Machine, page_zone } from './mmzone.ts';
import {
  ClearPageFlag,
  PageDirty,
  PageKsm,
  PageLocked,
  PagePrivate,
  PageSwapBacked,
  PageSwapCache,
  PageUnevictable,
  PageWriteback,
  page_count,
  page_has_private,
  type pfn_t,
  SetPageFlag,
  TestClearPageFlag,
  trylock_page,
  unlock_page,
} from './page.ts';
import {
  PG_active,
  PG_checked,
  PG_dirty,
  PG_error,
  PG_locked,
  PG_mappedtodisk,
  PG_mlocked,
  PG_private,
  PG_referenced,
  PG_swapbacked,
  PG_swapcache,
  PG_unevictable,
  PG_uptodate,
} from './page_flags.ts';
import { remove_migration_ptes } from './rmap.ts';
import { NR_FILE_PAGES, NR_MLOCK, NR_SHMEM } from './vmstat.ts';

/**
 * Hands the old page's place over to the new one. The old page may have no other references than
 * the isolation's (1), the tree's (2) and its buffers' (3): else -EAGAIN.
 * (migrate.c: migrate_page_move_mapping)
 */
function migrate_page_move_mapping(
  m: Machine,
  mapping: AddressSpace | null,
  new_: pfn_t,
  old: pfn_t,
): number {
  const p = m.memmap;
  if (mapping === null) {
    // Anonymous, not in the swap cache: only the isolation holds it.
    return page_count(p, old) === 1 ? 0 : -EAGAIN;
  }
  if (page_count(p, old) !== 2 + page_has_private(p, old)) return -EAGAIN;
  p._count[new_]!++; // the tree's reference
  if (PageSwapCache(p, old)) {
    SetPageFlag(p, new_, PG_swapcache);
    p.private_[new_] = p.private_[old]!;
  }
  const index = PageSwapCache(p, old) ? p.private_[old]! : p.index[old]!;
  replace_page(m, mapping, index, old, new_);
  p._count[old]!--;

  const from = page_zone(m, old);
  const to = page_zone(m, new_);
  from.vm_stat[NR_FILE_PAGES]!--;
  to.vm_stat[NR_FILE_PAGES]!++;
  if (PageSwapBacked(p, old)) {
    from.vm_stat[NR_SHMEM]!--;
    to.vm_stat[NR_SHMEM]!++;
  }
  return 0;
}

/** Contents and the flags that describe them (migrate.c: migrate_page_copy). */
function migrate_page_copy(m: Machine, new_: pfn_t, old: pfn_t): void {
  const p = m.memmap;
  m.contents.copy_page(old, new_);

  const kept = PG_error | PG_referenced | PG_uptodate | PG_checked | PG_mappedtodisk;
  SetPageFlag(p, new_, p.flags[old]! & kept);
  if (TestClearPageFlag(p, old, PG_active)) {
    BUG_ON(PageUnevictable(p, old), 'migrate_page_copy: active and unevictable');
    SetPageFlag(p, new_, PG_active);
  } else if (TestClearPageFlag(p, old, PG_unevictable)) {
    SetPageFlag(p, new_, PG_unevictable);
  }
  if (PageDirty(p, old)) {
    clear_page_dirty_for_io(m, old);
    // Only the page and its tag: the buffers, if any, carry their own dirty state over.
    if (PageSwapBacked(p, old)) SetPageFlag(p, new_, PG_dirty);
    else __set_page_dirty_nobuffers(m, new_);
  }
  if (TestClearPageFlag(p, old, PG_mlocked)) {
    page_zone(m, old).vm_stat[NR_MLOCK]!--;
    SetPageFlag(p, new_, PG_mlocked);
    page_zone(m, new_).vm_stat[NR_MLOCK]!++;
  }
  if (PageKsm(p, old)) m.kernel.ksm?.ksm_migrate_page(m, new_);
  ClearPageFlag(p, old, PG_swapcache);
  ClearPageFlag(p, old, PG_private);
  p.private_[old] = 0;
  p.mapping[old] = 0;
}

/** For pages without buffers (migrate.c: migrate_page). */
function migrate_page(m: Machine, mapping: AddressSpace | null, new_: pfn_t, old: pfn_t): number {
  BUG_ON(PageWriteback(m.memmap, old), 'migrate_page: the page is under write-back');
  const rc = migrate_page_move_mapping(m, mapping, new_, old);
  if (rc !== 0) return rc;
  migrate_page_copy(m, new_, old);
  return 0;
}

/** For file data: the buffers move along, dirty or not (migrate.c: buffer_migrate_page). */
function buffer_migrate_page(m: Machine, mapping: AddressSpace, new_: pfn_t, old: pfn_t): number {
  if (!PagePrivate(m.memmap, old)) return migrate_page(m, mapping, new_, old);
  const rc = migrate_page_move_mapping(m, mapping, new_, old);
  if (rc !== 0) return rc;
  buffer_page_move(m, old, new_);
  migrate_page_copy(m, new_, old);
  return 0;
}

/**
 * Writes a dirty page whose mapping cannot migrate it, so that a later pass finds it clean.
 * -EAGAIN when the write has started, -EIO when it failed, -EINVAL without a way to write.
 * (migrate.c: writeout)
 */
function writeout(m: Machine, mapping: AddressSpace, pfn: pfn_t): number {
  const p = m.memmap;
  const writepage = mapping.a_ops.writepage;
  if (writepage === undefined) return -EINVAL;
  if (!clear_page_dirty_for_io(m, pfn)) return -EAGAIN;
  // Anybody who touches the page must find it again while it is being written.
  remove_migration_ptes(m, pfn, pfn);
  const rc = writepage(m, mapping, pfn);
  if (!PageLocked(p, pfn)) SetPageFlag(p, pfn, PG_locked);
  return rc < 0 ? -EIO : -EAGAIN;
}

/** For mappings without a method, block devices above all (migrate.c: fallback_migrate_page). */
function fallback_migrate_page(m: Machine, mapping: AddressSpace, new_: pfn_t, old: pfn_t): number {
  if (PageDirty(m.memmap, old)) return writeout(m, mapping, old);
  if (page_has_private(m.memmap, old) && !try_to_release_page(m, old, GFP_KERNEL)) return -EAGAIN;
  return migrate_page(m, mapping, new_, old);
}

/**
 * Moves a locked, unmapped page to a fresh frame; with `remap` its migration entries become
 * mappings of the new frame. 0, -EAGAIN (try again later) or another errno (never).
 * (migrate.c: move_to_new_page)
 */
export function move_to_new_page(m: Machine, new_: pfn_t, old: pfn_t, remap: boolean): number {
  const p = m.memmap;
  BUG_ON(!trylock_page(p, new_), 'move_to_new_page: the target is in use');
  p.index[new_] = p.index[old]!;
  p.mapping[new_] = p.mapping[old]!;
  if (PageSwapBacked(p, old)) SetPageFlag(p, new_, PG_swapbacked);

  const mapping = page_mapping(m, old);
  let rc: number;
  if (mapping === null || mapping.migratepage === MIGRATE_PAGE) {
    rc = migrate_page(m, mapping, new_, old);
  } else if (mapping.migratepage === BUFFER_MIGRATE_PAGE) {
    rc = buffer_migrate_page(m, mapping, new_, old);
  } else {
    rc = fallback_migrate_page(m, mapping, new_, old);
  }
  if (rc !== 0) {
    p.mapping[new_] = 0;
  } else {
    if (m.trace.pageblock_page_moved.enabled) m.trace.pageblock_page_moved.emit(old, new_);
    if (remap) remove_migration_ptes(m, old, new_);
  }
  unlock_page(p, new_);
  return rc;
}
