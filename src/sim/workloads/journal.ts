/**
 * The journal of the published machines' file systems, as far as it keeps pages where they are.
 *
 * A metadata block that a transaction changes stays in memory until the transaction has been
 * committed: its buffer is in use, so that its page can neither be reclaimed nor be moved. Who
 * creates files changes the blocks of directories, of inode tables and of bitmaps; who reads a file for
 * the first time since it was written, its time of access.
 * Linux: fs/jbd (JBD_DEFAULT_MAX_COMMIT_AGE: 5 seconds), fs/ext3. Differs: the emulated disk itself
 * has no journal; here the load holds the blocks that it changes, and log blocks are not written.
 */

import type { DiskFs } from '../../fs/disk/disk_fs.ts';
import type { DiskVnode } from '../../fs/disk/index.ts';
import { disk_of } from '../../fs/disk/index.ts';
import { __bread, brelse, mark_buffer_dirty } from '../../mm/buffer.ts';
import type { Machine } from '../../mm/mmzone.ts';
import type { Process } from './scheduler.ts';

/** Milliseconds from one commit to the next. */
const COMMIT_AGE = 5000;

export class Journal {
  private readonly m: Machine;
  private readonly fs: DiskFs;
  /** Buffers of the running transaction by device block. */
  private held: Map<number, number> = new Map();

  constructor(m: Machine) {
    this.m = m;
    this.fs = disk_of(m)!;
  }

  private hold(block: number): void {
    if (this.held.has(block)) return;
    const bh = __bread(this.m, this.fs.bdev, block, true);
    if (bh <= 0) return;
    mark_buffer_dirty(this.m, bh);
    this.held.set(block, bh);
  }

  /** The inode of a file or directory was changed. */
  inode(node: DiskVnode): void {
    this.hold(this.fs.inode_table_block(node.inode.ino));
  }

  /** A name was made or removed in `dir`, and its inode and blocks were taken or given back. */
  name(dir: DiskVnode, node: DiskVnode): void {
    const { fs } = this;
    this.inode(dir);
    this.inode(node);
    for (const block of dir.inode.directory!.blocks.slice(-1)) this.hold(block);
    const group = fs.group_of_inode(node.inode.ino);
    this.hold(group.inode_bitmap_block);
    this.hold(group.block_bitmap_block);
  }

  /** kjournald, a process: commits, for ever. */
  *commit(): Process {
    for (;;) {
      yield -COMMIT_AGE;
      for (const bh of this.held.values()) brelse(this.m, bh);
      this.held = new Map();
      yield 0.1;
    }
  }
}
