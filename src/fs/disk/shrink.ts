/**
 * Which names and inodes are in core, and taking those out that nobody uses.
 *
 * A name in core holds its directory and its inode in core; unused names go oldest use first, then
 * inodes without names, and with an inode the clean pages of its file. The files themselves stay:
 * looking a name up again takes new objects. A name that came onto the list is passed over once.
 * Linux: fs/dcache.c, fs/inode.c. Differs: a batch of names is as long as it is asked for; 2.6.35
 * divides it among all file systems and rounds each one's share up.
 */
import { type Job, run_job } from '../../lib/kthread.ts';
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
  entry.instantiated = true;
  dentry_lru_add(entry);
  // Its directory's own name is in use from now on: off the list.
  const own = entry.dir.directory!.entry;
  if (own !== null) fs.dentry_lru.delete(own.dentry);
  if (inode.directory !== null) inode.directory.entry = entry;
  fs.inode_unused.delete(inode.ino);
  inode.nr_dentries++;
  entry.dir.directory!.nr_dentries++;
}

/** The last user of a name has gone: onto the young end, to be spared once (dcache.c: dput). */
function dentry_lru_add(entry: DirEntry): void {
  const lru = entry.dir.fs.dentry_lru;
  lru.delete(entry.dentry);
  lru.set(entry.dentry, entry);
  entry.referenced = true;
}

/** A name stands for its inode no longer. */
function d_iput(entry: DirEntry): void {
  const inode = entry.dir.fs.inodes.get(entry.ino)!;
  inode.nr_dentries--;
  if (inode.directory !== null) inode.directory.entry = null;
  note_unused(inode);
}

/** Takes a name out of core (dcache.c: d_kill). Nothing to do when it is not there. */
export function d_kill(m: Machine, entry: DirEntry): void {
  if (entry.dentry === 0) return;
  const { dir } = entry;
  dir.fs.dentry_lru.delete(entry.dentry);
  if (entry.instantiated) {
    entry.instantiated = false;
    dir.directory!.nr_dentries--;
    const { entry: own } = dir.directory!;
    if (own !== null && dir.directory!.nr_dentries === 0) dentry_lru_add(own);
    if (entry.negative === null) d_iput(entry);
    else dir.directory!.negatives.delete(entry.negative);
  }
  d_free(m, entry);
}

/**
 * The name was removed: its dentry stays in core and says that there is no such file
 * (dcache.c: d_delete).
 */
export function d_delete(entry: DirEntry, name: string): void {
  if (entry.dentry === 0) return;
  d_iput(entry);
  entry.negative = name;
  // A directory's was off the list: nothing is below it any more.
  if (!entry.dir.fs.dentry_lru.has(entry.dentry)) dentry_lru_add(entry);
  entry.dir.directory!.negatives.set(name, entry);
}

/** Moves the dentry of a removed name, if it is in core, to a new entry of that name. */
export function d_revive(entry: DirEntry, name: string): boolean {
  const { negatives } = entry.dir.directory!;
  const old = negatives.get(name);
  if (old === undefined) return false;
  negatives.delete(name);
  entry.dir.fs.dentry_lru.delete(old.dentry);
  old.instantiated = false;
  entry.dir.directory!.nr_dentries--;
  entry.dentry = old.dentry;
  entry.name_object = old.name_object;
  return true;
}

/** A directory goes: so do the names that it had (dcache.c: shrink_dcache_parent). */
export function d_drop_negatives(m: Machine, dir: DiskInode): void {
  for (const entry of dir.directory!.negatives.values()) d_kill(m, entry);
}

/** Frees a name's objects. Precondition: it stands for nothing. */
export function d_free(m: Machine, entry: DirEntry): void {
  if (entry.dentry !== 0) kmem_cache_free(m, m.slab.find('dentry'), entry.dentry);
  kfree(m, entry.name_object);
  entry.dentry = 0;
  entry.name_object = 0;
}

/** The last who had the file open has gone: its names are unused again (dput). */
function names_unused(inode: DiskInode): void {
  const lru = inode.fs.dentry_lru;
  for (const entry of inode.busy_names!) {
    if (!entry.instantiated || entry.negative !== null || lru.has(entry.dentry)) continue;
    dentry_lru_add(entry);
  }
  inode.busy_names = null;
}

/** An inode lost a holder: without any it may go. */
export function note_unused(inode: DiskInode): void {
  if (inode.opens === 0 && inode.busy_names !== null) names_unused(inode);
  if (inode.object === 0 || inode.nr_dentries > 0 || inode.opens > 0) return;
  inode.fs.inode_unused.set(inode.ino, inode);
}

/** Open, or a directory with names in core. */
function is_used(inode: DiskInode): boolean {
  return inode.opens > 0 || (inode.directory?.nr_dentries ?? 0) > 0;
}

/**
 * Takes an unused name out of core, and with a directory's last name the directory's own, and so on
 * upwards; returns how many went (dcache.c: prune_one_dentry).
 */
function prune_one_dentry(m: Machine, entry: DirEntry): number {
  let freed = 1;
  let dir = entry.dir;
  d_kill(m, entry);
  for (let own = dir.directory!.entry; own !== null && !is_used(dir); freed++) {
    dir = own.dir;
    d_kill(m, own);
    own = dir.directory!.entry;
  }
  return freed;
}

/**
 * Looks at `nr` names, oldest first, and frees those that nobody uses and that were passed over
 * before; returns how many (dcache.c: prune_dcache, __shrink_dcache_sb).
 */
export function prune_dcache(m: Machine, nr: number): number {
  const fs = disk_of(m);
  if (fs === null) return 0;
  let freed = 0;
  let left = nr;
  let in_use = fs.dentry_lru.size;
  const referenced: DirEntry[] = [];
  for (const entry of fs.dentry_lru.values()) {
    // Those that are spared do not count: Linux goes on until it has looked at `nr` others.
    if (entry.referenced) {
      referenced.push(entry);
      continue;
    }
    if (left-- <= 0 || in_use-- <= 0) break;
    const inode = entry.negative === null ? fs.inodes.get(entry.ino)! : null;
    if (inode !== null && is_used(inode)) {
      // Off the list until its last user has gone.
      fs.dentry_lru.delete(entry.dentry);
      if (inode.opens > 0) (inode.busy_names ??= []).push(entry);
      continue;
    }
    freed += prune_one_dentry(m, entry);
  }
  // The second chance: back to the young end, without the mark.
  for (const entry of referenced) {
    // It may have gone meanwhile with the last name below it.
    if (entry.dentry === 0) continue;
    dentry_lru_add(entry);
    entry.referenced = false;
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
  return run_job(prune_icache_job(m, nr));
}

/** The same with a pause between two inodes; Linux has one between pages. */
function* prune_icache_job(m: Machine, nr: number): Job {
  const fs = disk_of(m);
  if (fs === null) return 0;
  let freed = 0;
  let left = Math.min(nr, fs.inode_unused.size);
  for (const inode of fs.inode_unused.values()) {
    if (left-- <= 0) break;
    yield;
    // Somebody took or dropped it meanwhile.
    if (!fs.inode_unused.has(inode.ino)) continue;
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
    return run_job(this.shrink_job!(m, nr_to_scan, gfp));
  },
  *shrink_job(m: Machine, nr_to_scan: number, gfp: number): Job {
    if (nr_to_scan > 0) {
      // Who holds file system locks must not wait for inodes.
      if ((gfp & __GFP_FS) === 0) return -1;
      yield* prune_icache_job(m, nr_to_scan);
    }
    return under_pressure(m, disk_of(m)?.inode_unused.size ?? 0);
  },
};
