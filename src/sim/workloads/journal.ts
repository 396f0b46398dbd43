/**
 * The journal of the file systems in the experiments: ext3 in ordered mode, as far as it takes
 * memory, takes time, and holds writers up.
 *
 * A metadata block that a transaction changes stays in memory until the transaction has been
 * committed: its buffer is in use, so that its page can neither be reclaimed nor be moved. Who
 * creates files changes the blocks of directories, of inode tables and of bitmaps; who reads a file for
 * the first time since it was written, its time of access. A new page of data has a journal head (golden
 * t1: 2,900 pages of reclaimable slabs more at `created` than pages, names and inodes need, and gone at
 * `ready`: 104,000 heads, what two transactions hold).
 * Five seconds after its first change a transaction is committed by kjournald, a process like
 * others: it writes the data, waits for it and drops the heads, then writes the metadata to the log.
 * Until the log has a block, nobody may change it (fs/jbd/transaction.c: do_get_write_access,
 * BJ_Shadow): whoever creates or extends a file waits meanwhile, since all of them need the bitmaps. A
 * shell that starts processes does not, so that many more of them are alive after a commit.
 * Linux: fs/jbd/commit.c (journal_commit_transaction; JBD_DEFAULT_MAX_COMMIT_AGE: 5 seconds), fs/ext3.
 * Differs: the emulated disk itself has no journal; here the load says what it changes. Log blocks
 * are not written, no copies are made of blocks that the next transaction changes (b_frozen_data), and no
 * commit waits for operations that are under way (T_LOCKED): they take no time here.
 */

import type { DiskFs } from '../../fs/disk/disk_fs.ts';
import type { DiskVnode } from '../../fs/disk/index.ts';
import { disk_of } from '../../fs/disk/index.ts';
import type { AddressSpace } from '../../mm/address_space.ts';
import { __bread, brelse, mark_buffer_dirty } from '../../mm/buffer.ts';
import { GFP_NOFS } from '../../mm/gfp.ts';
import type { Machine } from '../../mm/mmzone.ts';
import { blk_flush_plug, writeback_single_inode } from '../../mm/page_writeback.ts';
import { kmem_cache_alloc, kmem_cache_create, kmem_cache_free } from '../../mm/slub.ts';
import type { KmemCache } from '../../mm/slub_def.ts';
import { COST } from './costs.ts';
import type { Process, Scheduler } from './scheduler.ts';

/** Milliseconds from a transaction's first change to its commit. */
const COMMIT_AGE = 5000;
/** Pages of data that kjournald submits before others may run (journal_do_submit_data: wbuf). */
const SUBMITTED = 64;

/** The cache of journal heads (fs/jbd: struct journal_head): fourteen words of the processor each. */
export function journal_head_cache(m: Machine): KmemCache {
  const bytes = m.shape.machine === 'x86' ? 56 : 112;
  return kmem_cache_create(m, 'journal_head', bytes, { reclaimable: true });
}

/** Milliseconds between two looks of kjournald at what it has to do. */
const POLL = 50;

class Transaction {
  /** The clock's time of its first change; infinite while there is none. */
  since = Number.POSITIVE_INFINITY;
  /** Buffers of metadata by device block. */
  readonly metadata: Map<number, number> = new Map();
  /** Journal heads of data, and the files that it belongs to. */
  readonly heads: number[] = [];
  readonly files: Set<AddressSpace> = new Set();
}

export class Journal {
  private readonly s: Scheduler;
  private readonly m: Machine;
  private readonly fs: DiskFs;
  private readonly cache: KmemCache;
  private running = new Transaction();
  /** The metadata of the transaction that is being committed goes to the log just now. */
  private shadow = false;

  constructor(s: Scheduler) {
    this.s = s;
    this.m = s.m;
    this.fs = disk_of(s.m)!;
    this.cache = journal_head_cache(s.m);
  }

  /** Sleeps until metadata may be changed. */
  *access(): Process {
    while (this.shadow) yield Number.NEGATIVE_INFINITY;
  }

  private change(): Transaction {
    const { running } = this;
    if (running.since > this.m.clock.now_ms) running.since = this.m.clock.now_ms;
    return running;
  }

  private hold(block: number): void {
    const { metadata } = this.change();
    if (metadata.has(block)) return;
    const bh = __bread(this.m, this.fs.bdev, block, true);
    if (bh <= 0) return;
    mark_buffer_dirty(this.m, bh);
    metadata.set(block, bh);
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

  /** A page of data was added to a file. */
  data(node: DiskVnode): void {
    const { heads, files } = this.change();
    const head = kmem_cache_alloc(this.m, this.cache, GFP_NOFS);
    if (head !== 0) heads.push(head);
    files.add(node.inode.mapping!);
    for (const { block } of node.inode.indirect!.values()) this.hold(block);
  }

  /** The running transaction is to be committed at once (sync). */
  commit_now(): void {
    this.running.since = Number.NEGATIVE_INFINITY;
  }

  /** Writes what is dirty of the transaction's files, and waits for it. */
  private *write_data(t: Transaction): Process {
    const { m } = this;
    for (const file of t.files) {
      // What is clean, or gone, is not on the list.
      for (let nr = SUBMITTED; nr === SUBMITTED && m.writeback.b_dirty.has(file.id); ) {
        nr = writeback_single_inode(m, file, SUBMITTED, false);
        blk_flush_plug(m);
        yield 0;
      }
    }
    for (const q of m.block_devices) {
      if (q.busy_until > m.clock.now_ms) yield -(q.busy_until - m.clock.now_ms);
    }
    for (const head of t.heads) kmem_cache_free(m, this.cache, head);
  }

  /** kjournald, a process: commits, for ever. */
  *kjournald(): Process {
    const { m } = this;
    for (;;) {
      const wait = this.running.since + COMMIT_AGE - m.clock.now_ms;
      if (wait > 0) {
        yield -Math.min(wait, POLL);
        continue;
      }
      const t = this.running;
      this.running = new Transaction();
      yield* this.write_data(t);
      this.shadow = true;
      for (const bh of t.metadata.values()) {
        yield COST.log_block;
        brelse(m, bh);
      }
      this.shadow = false;
      this.s.wake_up_all();
    }
  }
}
