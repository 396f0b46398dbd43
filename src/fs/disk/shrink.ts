/**
 * Which names and inodes are in core, and taking those out that nobody uses.
 *
 * A name in core holds its directory and its inode in core; unused names go oldest use first, then
 * inodes without names, and with an inode the clean pages of its file. The files themselves stay:
 * looking a name up again takes new objects. Linux: fs/dcache.c, fs/inode.c. Differs: a lookup
 * moves a name to the young end at once, where Linux marks it and gives it a second chance.
 */
import { __GFP_FS } from '../../mm/gfp.ts';
import type { Machine } from '../../mm/mmzone.ts';
import { DEFAULT_SEEKS, PF_KSWAPD, type ShrinkerOps } from '../../mm/reclaim_def.ts';
import { kfree, kmem_cache_free } from '../../mm/slub.ts';
import { invalidate_mapping_pages } from '../../mm/truncate.ts';
import { count_vm_events, KSWAPD_INODESTEAL, PGINODESTEAL } from '../../mm/vmstat.ts';
import { type DirEntry, type DiskInode, disk_of } from './disk_fs.ts';

/** A name with its slab object stands for its inode from now on (dcache.c: d_instantiate). */
export function d_instantiate(entry: DirEntry, inode: DiskInode): void {
  const { fs } = inode;
  fs.dentry_lru.set(entry.dentry, entry);
  fs.inode_unused.delete(inode.ino);
  inode.nr_dentries++;
  entry.dir.directory!.nr_dentries++;
}

/** A name was used: the last one to go now. */
export function d_touch(entry: DirEntry): void {
  const lru = entry.dir.fs.dentry_lru;
  lru.delete(entry.dentry);
  lru.set(entry.dentry, entry);
}

/** Takes a name out of core (dcache.c: d_kill). Nothing to do when it is not there. */
export function d_kill(m: Machine, entry: DirEntry): void {
  if (entry.dentry === 0) return;
  const { fs } = entry.dir;
  if (fs.dentry_lru.delete(entry.dentry)) {
    entry.dir.directory!.nr_dentries--;
    const inode = fs.inodes.get(entry.ino)!;
    inode.nr_dentries--;
    note_unused(inode);
  }
  d_free(m, entry);
}

/** Frees a name's objects. Precondition: it stands for nothing. */
export function d_free(m: Machine, entry: DirEntry): void {
  if (entry.dentry !== 0) kmem_cache_free(m, m.slab.find('dentry'), entry.dentry);
  kfree(m, entry.name_object);
  entry.dentry = 0;
  entry.name_object = 0;
}

/** An inode lost a holder: without any it may go. */
export function note_unused(inode: DiskInode): void {
  if (inode.object === 0 || inode.nr_dentries > 0 || inode.opens > 0) return;
  inode.fs.inode_unused.set(inode.ino, inode);
}

/**
 * Looks at `nr` names, oldest first, and frees those that nobody uses; returns how many
 * (dcache.c: prune_dcache).
 */
export function prune_dcache(m: Machine, nr: number): number {
  const fs = disk_of(m);
  if (fs === null) return 0;
  let freed = 0;
  let left = Math.min(nr, fs.dentry_lru.size);
  for (const entry of fs.dentry_lru.values()) {
    if (left-- <= 0) break;
    const inode = fs.inodes.get(entry.ino)!;
    // In use: open, or a directory with names in core.
    if (inode.opens > 0 || (inode.directory?.nr_dentries ?? 0) > 0) {
      d_touch(entry);
      continue;
    }
    d_kill(m, entry);
    freed++;
  }
  return freed;
}

/** Takes an unused inode out of core unless something is left of it (inode.c: can_unuse). */
function try_to_unuse(m: Machine, inode: DiskInode): boolean {
  const { fs, mapping } = inode;
  if (inode.dirty) return false;
  if (mapping !== null) {
    if (mapping.dirtied_when >= 0 || mapping.i_mmap.length > 0) return false;
    if (mapping.nrpages > 0) {
      const reaped = invalidate_mapping_pages(m, mapping, 0, Number.MAX_SAFE_INTEGER);
      const kswapd = (m.current_flags & PF_KSWAPD) !== 0;
      count_vm_events(m, kswapd ? KSWAPD_INODESTEAL : PGINODESTEAL, reaped);
    }
    if (mapping.nrpages > 0) return false;
  }
  fs.inode_unused.delete(inode.ino);
  kmem_cache_free(m, m.slab.find('ext2_inode_cache'), inode.object);
  inode.object = 0;
  return true;
}

/**
 * Looks at `nr` unused inodes, oldest first, drops their clean pages, and frees those that have
 * none left; returns how many (inode.c: prune_icache).
 */
export function prune_icache(m: Machine, nr: number): number {
  const fs = disk_of(m);
  if (fs === null) return 0;
  let freed = 0;
  let left = Math.min(nr, fs.inode_unused.size);
  for (const inode of fs.inode_unused.values()) {
    if (left-- <= 0) break;
    if (try_to_unuse(m, inode)) {
      freed++;
      continue;
    }
    fs.inode_unused.delete(inode.ino);
    fs.inode_unused.set(inode.ino, inode);
  }
  return freed;
}

/** What is offered for reclaim of `nr` unused objects. */
function under_pressure(m: Machine, nr: number): number {
  return Math.floor(nr / 100) * (m.sysctl['vfs_cache_pressure'] ?? 100);
}

/** dcache.c: shrink_dcache_memory. */
export const dcache_shrinker: ShrinkerOps = {
  name: 'dcache',
  seeks: DEFAULT_SEEKS,
  shrink(m: Machine, nr_to_scan: number, gfp: number): number {
    if (nr_to_scan > 0) {
      if ((gfp & __GFP_FS) === 0) return -1;
      prune_dcache(m, nr_to_scan);
    }
    return under_pressure(m, disk_of(m)?.dentry_lru.size ?? 0);
  },
};

/** inode.c: shrink_icache_memory. */
export const icache_shrinker: ShrinkerOps = {
  name: 'icache',
  seeks: DEFAULT_SEEKS,
  shrink(m: Machine, nr_to_scan: number, gfp: number): number {
    if (nr_to_scan > 0) {
      // Who holds file system locks must not wait for inodes.
      if ((gfp & __GFP_FS) === 0) return -1;
      prune_icache(m, nr_to_scan);
    }
    return under_pressure(m, disk_of(m)?.inode_unused.size ?? 0);
  },
};
