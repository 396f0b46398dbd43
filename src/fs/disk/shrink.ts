/**
 * Taking dentries and inodes that nobody uses out of core, as memory pressure and drop_caches do.
 *
 * The files themselves stay: looking a name up again takes new objects. Linux: fs/dcache.c
 * (prune_dcache), fs/inode.c (prune_icache). Differs: oldest inode number first, where Linux
 * keeps a list by last use; a dentry does not pin its inode.
 */
import type { Machine } from '../../mm/mmzone.ts';
import { disk_of } from './disk_fs.ts';
import { prune_inode } from './inode.ts';
import { d_free } from './namei.ts';

/** Dentries in core. */
export function nr_dentries(m: Machine): number {
  const fs = disk_of(m);
  let nr = 0;
  if (fs === null) return 0;
  for (const inode of fs.inodes.values()) {
    if (inode.directory === null) continue;
    for (const entry of inode.directory.entries.values()) if (entry.dentry !== 0) nr++;
  }
  return nr;
}

/** Frees at most `nr` dentries of files that are not open; returns how many. */
export function prune_dcache(m: Machine, nr: number): number {
  const fs = disk_of(m);
  let freed = 0;
  if (fs === null) return 0;
  for (const inode of fs.inodes.values()) {
    if (inode.directory === null) continue;
    for (const entry of inode.directory.entries.values()) {
      if (freed >= nr) return freed;
      if (entry.dentry === 0 || fs.inodes.get(entry.ino)!.opens > 0) continue;
      d_free(m, entry);
      freed++;
    }
  }
  return freed;
}

/** Takes at most `nr` unused inodes out of core, with their clean pages; returns how many. */
export function prune_icache(m: Machine, nr: number): number {
  const fs = disk_of(m);
  let freed = 0;
  if (fs === null) return 0;
  for (const inode of fs.inodes.values()) {
    if (freed >= nr) return freed;
    if (prune_inode(m, inode)) freed++;
  }
  return freed;
}
