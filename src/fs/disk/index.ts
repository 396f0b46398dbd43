/** The emulated disk file system: mounting it, its root, its open files. */
export { disk_of } from './disk_fs.ts';
export { disk_mount } from './super.ts';
export { DiskFile, DiskVnode, disk_root } from './vnode.ts';
