/**
 * Opening a file of the emulated disk for a simulated process's mmap.
 *
 * Paths are those of the emulated machine: the disk is mounted at /disk there, too. The open file
 * keeps the inode until the last area that maps it has gone.
 */

import { DiskFile, disk_of, disk_root } from '../fs/disk/index.ts';
import { O_RDONLY, O_RDWR, type Vnode } from '../fs/vfs.ts';
import { EISDIR, ENOENT } from '../lib/errno.ts';
import { MmapFile } from '../mm/mm_types.ts';
import type { Machine } from '../mm/mmzone.ts';

const DISK = '/disk';
/** The recorded machines' disks are virtio-blk: major 254. */
const DISK_MAJOR = 254;
const ROOT = { uid: 0, gid: 0, pid: 0 };

/** The open file at `path` (with or without /disk before it), or -errno. */
export function open_for_map(m: Machine, path: string, write: boolean): MmapFile | number {
  if (disk_of(m) === null) return -ENOENT;
  const names = path.split('/').filter((name) => name !== '');
  if (path.startsWith(`${DISK}/`)) names.shift();
  let node: Vnode = disk_root(m);
  for (const name of names) {
    const next = node.lookup(name);
    if (typeof next === 'number') return next;
    node = next;
  }
  const file = node.open(write ? O_RDWR : O_RDONLY, ROOT);
  if (typeof file === 'number') return file;
  if (!(file instanceof DiskFile)) return -EISDIR;
  const mapped = new MmapFile(
    file.mapping,
    `${DISK}/${names.join('/')}`,
    node.getattr().ino,
    DISK_MAJOR,
    0,
  );
  mapped.open = file;
  return mapped;
}
