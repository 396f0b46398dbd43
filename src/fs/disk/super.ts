/**
 * Making and mounting the emulated disk. Linux: fs/ext2/super.c, and mke2fs.
 */
import { ENOSPC } from '../../lib/errno.ts';
import type { BlockDevice } from '../../mm/block_device.ts';
import { __bread, bdget } from '../../mm/buffer.ts';
import type { Machine } from '../../mm/mmzone.ts';
import { add_block_device } from '../../mm/page_writeback.ts';
import { register_shrinker } from '../../mm/reclaim_def.ts';
import { S_IFDIR } from '../vfs.ts';
import { DESC_PER_BLOCK, DiskFs, DiskInode, FIRST_INO, ROOT_INO, set_bits } from './disk_fs.ts';
import { dcache_shrinker, icache_shrinker } from './shrink.ts';

/**
 * Makes an empty file system on a device and mounts it on the machine; `uid` and `gid` own its
 * root directory. 0, -ENOSPC when the device is too small, -ENOMEM (fs/ext2/super.c:
 * ext2_fill_super, mke2fs).
 */
export function disk_mount(m: Machine, device: BlockDevice, uid = 0, gid = 0): number {
  const dev = add_block_device(m, device);
  const fs = new DiskFs(dev, bdget(m, dev), device.size);
  if (fs.groups.length === 0) return -ENOSPC;
  const descriptors = 1 + Math.ceil(fs.groups.length / DESC_PER_BLOCK);
  for (let block = 0; block < descriptors; block++) {
    // Referenced until the machine ends: pages that no migration can move, as on a real machine.
    const bh = __bread(m, fs.bdev, block, true);
    if (bh < 0) return bh;
    fs.held_buffers.push(bh);
  }
  const root = new DiskInode(fs, ROOT_INO, S_IFDIR | 0o755, null, ROOT_INO);
  const group = fs.groups[0]!;
  group.inode_bitmap = new Uint32Array(Math.ceil(fs.inodes_per_group / 32));
  set_bits(group.inode_bitmap, 0, FIRST_INO - 1);
  group.free_inodes -= FIRST_INO - 1;
  fs.free_inodes -= FIRST_INO - 1;
  group.used_dirs = 1;
  root.nlink = 2;
  root.uid = uid;
  root.gid = gid;
  root.atime = root.mtime = root.ctime = m.clock.real_ms();
  fs.inodes.set(ROOT_INO, root);
  m.file_systems.set('disk', fs);
  register_shrinker(m, dcache_shrinker);
  register_shrinker(m, icache_shrinker);
  return 0;
}
