/**
 * Replays recorded growth of a huge page pool on a full machine: how far each step gets.
 *
 * A file has the texts of /proc after boot and after memory was filled, then one record a step: the
 * size that was asked for and the size that the pool had then. Where each page lay is not recorded,
 * so a machine of the same size is booted and filled in the same way: a tree of small files is
 * walked, a process touches memory and gives every second page back, files are written, until the
 * caches hold about what the recorded ones held. Then the pool grows by the recorded steps. Each
 * step is one check: the pool's size is within 2 % of the recorded one.
 * The threshold of the fragmentation index is not in the records but in the file's name (thNNN);
 * without it the default holds. Schema: README of the recordings, pool/.
 */
import { disk_root } from '../fs/disk/index.ts';
import { O_RDWR, type Vnode } from '../fs/vfs.ts';
import { nodes_with_memory, set_max_huge_pages } from '../kernels/linux-2.6.35/hugetlb.ts';
import { BUG_ON } from '../lib/bug.ts';
import { is_job, run_job } from '../lib/kthread.ts';
import { advance_clock, boot } from '../machine.ts';
import { AS_UNEVICTABLE, MIGRATE_PAGE } from '../mm/address_space.ts';
import type { BlockDevice } from '../mm/block_device.ts';
import { add_to_page_cache_lru } from '../mm/filemap.ts';
import { create_process, run_as } from '../mm/fork.ts';
import { GFP_HIGHUSER, GFP_KERNEL } from '../mm/gfp.ts';
import { lru_add_drain_all, put_page } from '../mm/lru.ts';
import { do_madvise, MADV_DONTNEED } from '../mm/madvise.ts';
import { access_page } from '../mm/memory.ts';
import { do_mmap, MAP_ANONYMOUS, MAP_PRIVATE } from '../mm/mmap.ts';
import type { Machine } from '../mm/mmzone.ts';
import { SetPageFlag, unlock_page } from '../mm/page.ts';
import { PG_uptodate } from '../mm/page_flags.ts';
import { sync_filesystems } from '../mm/page_writeback.ts';
import {
  global_page_state,
  NR_FILE_PAGES,
  NR_FREE_PAGES,
  NR_SLAB_RECLAIMABLE,
} from '../mm/vmstat.ts';
import type { Tally } from './replay.ts';

/** Sizes may differ by this part of the recorded one. */
const TOLERANCE = 0.02;
/** The recorder's tree, which it walked: directories and files in each. */
const TREE_DIRS = 780;
const FILES_PER_DIR = 31;
/** Bytes of each file that fills the cache. */
const FILE_BYTES = 512 * 1024;
const PAGE_KB = 4;
const ROOT = { uid: 0, gid: 0, pid: 1 };

interface PoolState {
  t: 'state';
  name: string;
  meminfo: string;
  zoneinfo: string;
  vmstat: string;
}

interface PoolStep {
  t: 'step';
  step: number;
  target: number;
  got: number;
}

/** True for the first record of a recorded pool growth. */
export function is_pool_record(r: Record<string, unknown>): boolean {
  return (
    r['t'] === 'state' &&
    r['name'] === 'boot' &&
    typeof r['extfrag'] === 'string' &&
    typeof r['meminfo'] === 'string'
  );
}

/** A disk of which nothing is ever read back: file systems keep their structure in the machine. */
class BottomlessDisk implements BlockDevice {
  readonly size: number;

  constructor(size: number) {
    this.size = size;
  }

  read(buf: Uint8Array, _offset: number): number {
    buf.fill(0);
    return 0;
  }

  write(_buf: Uint8Array, _offset: number): number {
    return 0;
  }

  flush(): number {
    return 0;
  }

  discard(_offset: number, _length: number): void {}
}

export function verify_pool(
  records: readonly Record<string, unknown>[],
  name: string,
  tally: Tally,
): void {
  const all = records as unknown as (PoolState | PoolStep)[];
  const booted = all[0] as PoolState;
  const filled = all.find((r): r is PoolState => r.t === 'state' && r.name === 'filled');
  if (filled === undefined) {
    tally.fail('record 1', 'the file has no state before the growth');
    return;
  }
  const m = boot_recorded(booted);
  const threshold = /th(\d+)/.exec(name.slice(name.lastIndexOf('/') + 1));
  if (threshold !== null) m.sysctl['extfrag_threshold'] = Number(threshold[1]);
  fill(m, booted, filled);
  for (const r of all) {
    if (r.t !== 'step') continue;
    const h = m.hstates[m.default_hstate_idx]!;
    h.max_huge_pages = run_job(set_max_huge_pages(m, h, r.target, nodes_with_memory(m)));
    // The recorder reads some files between two steps.
    run_job(advance_clock(m, 20));
    const off = Math.abs(h.max_huge_pages - r.got);
    tally.check(
      `step ${r.step}`,
      off <= r.got * TOLERANCE
        ? null
        : `asked for ${r.target}: recorded ${r.got}, ours ${h.max_huge_pages}`,
    );
  }
}

/** A value of /proc/meminfo in pages. */
function meminfo(state: PoolState, label: string): number {
  const match = new RegExp(`^${label.replace(/[()]/g, '\\$&')}: +(\\d+) kB$`, 'm').exec(
    state.meminfo,
  );
  return match === null ? 0 : Math.floor(Number(match[1]) / PAGE_KB);
}

/** A machine with as much memory as the recorded one, and its watermarks. */
function boot_recorded(booted: PoolState): Machine {
  let end_pfn = 0;
  let min = 0;
  let spanned = 0;
  for (const line of booted.zoneinfo.split('\n')) {
    const [name, value] = line.trim().split(/\s+/);
    if (name === 'spanned') spanned = Number(value);
    if (name === 'min') min += Number(value);
    if (name === 'start_pfn:') end_pfn = Math.max(end_pfn, Number(value) + spanned);
  }
  // Firmware keeps a little at the top: memory comes in whole 16 MiB.
  const chunk = 4096;
  const compaction = /^compact_stall /m.test(booted.vmstat);
  const m = boot({
    memory: Math.ceil(end_pfn / chunk) * chunk * PAGE_KB * 1024,
    compaction,
    disk: new BottomlessDisk(2 ** 32),
  });
  let ours = 0;
  for (const zone of m.populated_zones) ours += zone.watermark[0]!;
  if (Math.abs(ours - min) > 2 * m.populated_zones.length) {
    m.sysctl['min_free_kbytes'] = min * PAGE_KB;
    m.kernel.setup_per_zone_wmarks(m);
  }
  return m;
}

/** Fills memory as the recorder did: its own files, the tree, written files, memory of a process. */
function fill(m: Machine, booted: PoolState, filled: PoolState): void {
  root_files(m, meminfo(booted, 'Cached'));
  kernel_memory(m, meminfo(booted, 'MemFree'));
  // The rest of the slab pages comes with the files: radix tree nodes and buffers.
  walk_tree(m, meminfo(filled, 'SReclaimable') * 0.7);
  write_files(m, meminfo(filled, 'Cached') + meminfo(filled, 'Buffers'));
  const anon = Math.max(0, meminfo(filled, 'AnonPages') - meminfo(booted, 'AnonPages'));
  if (anon > 1000) eat(m, anon * 2);
  run_job(sync_filesystems(m));
  run_job(advance_clock(m, 3000));
  lru_add_drain_all(m);
}

/** The initial root file system lies in memory, and nothing can take it from there. */
function root_files(m: Machine, pages: number): void {
  const ops = { name: 'ramfs', migratepage: MIGRATE_PAGE, account_dirty: false };
  const mapping = m.mappings.create(ops, GFP_HIGHUSER);
  mapping.flags |= AS_UNEVICTABLE;
  for (let index = 0; index < pages; index++) {
    const pfn = m.kernel.alloc_pages(m, mapping.gfp_mask, 0);
    BUG_ON(pfn < 0, 'replay_pool: no memory for the root files');
    BUG_ON(add_to_page_cache_lru(m, pfn, mapping, index, GFP_KERNEL) !== 0, 'replay_pool: taken');
    SetPageFlag(m.memmap, pfn, PG_uptodate);
    unlock_page(m.memmap, pfn);
    put_page(m, pfn);
  }
}

/** What else the recorded kernel had taken at boot: buffers of tracing and drivers, modules. */
function kernel_memory(m: Machine, free: number): void {
  while (global_page_state(m, NR_FREE_PAGES) > free) {
    BUG_ON(m.kernel.alloc_pages(m, GFP_KERNEL, 0) < 0, 'replay_pool: no memory for the kernel');
  }
}

function created(node: Vnode | number): Vnode {
  BUG_ON(typeof node === 'number', 'replay_pool: a file could not be made');
  return node as Vnode;
}

/** Makes directories of empty files until their inodes and names take `pages` of slab. */
function walk_tree(m: Machine, pages: number): void {
  const tree = created(disk_root(m).mkdir('tree', 0o755, ROOT));
  for (let d = 0; d < TREE_DIRS && global_page_state(m, NR_SLAB_RECLAIMABLE) < pages; d++) {
    const dir = created(tree.mkdir(`d${d}`, 0o755, ROOT));
    for (let f = 0; f < FILES_PER_DIR; f++) {
      created(dir.create(`file${f}`, 0o644, ROOT)).forget();
    }
    dir.forget();
    run_job(advance_clock(m, 10));
  }
  tree.forget();
}

/** A process touches `pages` pages and gives every second one back. */
function eat(m: Machine, pages: number): void {
  const task = create_process(m, 'eat');
  if (typeof task === 'number') throw new RangeError('replay_pool: no process');
  const mm = task.mm!;
  const start = do_mmap(m, mm, null, 0, pages, 3, MAP_PRIVATE | MAP_ANONYMOUS);
  for (let i = 0; i < pages; i++) run_as(m, task, () => access_page(m, task, start + i, true));
  for (let i = 0; i < pages; i += 2) do_madvise(m, mm, start + i, 1, MADV_DONTNEED);
  run_job(advance_clock(m, 100));
}

/** Writes files of 512 KiB until the page cache has `pages` pages, or no more than that stay. */
function write_files(m: Machine, pages: number): void {
  const root = disk_root(m);
  const buf = new Uint8Array(128 * 1024);
  const most = (pages * PAGE_KB * 1024 * 1.2) / FILE_BYTES;
  for (let f = 0; f < most && global_page_state(m, NR_FILE_PAGES) < pages; f++) {
    const node = created(root.create(`big${f}`, 0o644, ROOT));
    const file = node.open(O_RDWR, ROOT);
    if (typeof file === 'number') throw new RangeError('replay_pool: a file cannot be opened');
    for (let pos = 0; pos < FILE_BYTES; pos += buf.length) {
      const rc = file.write(buf, pos);
      if (is_job(rc)) run_job(rc);
    }
    file.release();
    node.forget();
    // Others run between two files, not within one: memory below LOW is met by fallback to DMA.
    run_job(advance_clock(m, 5));
  }
}
