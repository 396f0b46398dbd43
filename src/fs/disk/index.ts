/** The emulated disk file system: mounting, its root, and how memory pressure shrinks it. */
export { disk_mount, disk_of } from './disk_fs.ts';
export { prune_dcache, prune_icache } from './shrink.ts';
export { DiskFile, DiskVnode, disk_root } from './vnode.ts';
