/**
 * The mounted tree: /proc and /sys from the kernel's rows, /disk beside them where one is mounted.
 *
 * Which files there are is the kernel's affair (KernelProfile.files); what steers the simulation,
 * under /sys/kernel/debug/pageblock, comes from above as further rows.
 */
import type { FileRow, RowDirectory } from '../lib/file_row.ts';
import type { Machine } from '../mm/mmzone.ts';
import { disk_of, disk_root } from './disk/index.ts';
import { kernfs_mount } from './kernfs.ts';
import type { Vnode } from './vfs.ts';

export interface MountRootOptions {
  /** Rows beside the kernel's, for instance those of the simulation's control files. */
  rows?: readonly FileRow<Machine>[];
  /** Whom the virtual files belong to: the emulated root. 0 by default. */
  uid?: number;
  gid?: number;
}

/** The root directory of the mount of this machine. */
export function mount_root(m: Machine, options: MountRootOptions = {}): Vnode {
  const rows = options.rows === undefined ? m.kernel.files : [...m.kernel.files, ...options.rows];
  const directories: readonly RowDirectory<Machine>[] = m.kernel.file_directories;
  const root = kernfs_mount(m, rows, directories, options.uid ?? 0, options.gid ?? 0);
  if (disk_of(m) !== null) root.add('disk', disk_root(m));
  return root;
}
