/**
 * The whole tree of a mounted machine: the kernel's files, the simulation's control files under
 * /sys/kernel/debug/pageblock, and the emulated disk.
 */
import { mount_root as compose } from './fs/tree.ts';
import type { Vnode } from './fs/vfs.ts';
import type { Machine } from './mm/mmzone.ts';
import { control_files } from './sim/control.ts';
import { test_files } from './sim/test_files.ts';

export interface MountOwner {
  /** Whom the virtual files belong to. */
  uid?: number;
  gid?: number;
}

/** The root directory of this machine's mount. */
export function mount_root(m: Machine, owner: MountOwner = {}): Vnode {
  return compose(m, { ...owner, rows: [...control_files, ...test_files] });
}
