/**
 * Replays recorded growth of a huge page pool on a full machine: how far each step gets.
 *
 * A file has the texts of /proc after boot and after memory was filled, then one record a step: the
 * size that was asked for and the size that the pool had then. Where each page lay is not recorded,
 * so a machine of the same size is booted and the recorder's procedure is carried out on it, by the
 * same programs as in experiments: a tree of small files is read, one large file is written, a
 * process touches memory and gives every second page back. What of these was done, and how much,
 * follows from the recorded counters (pgpgin, page cache and steals, AnonPages, free pages among the
 * reclaimable ones). Then the pool grows by the recorded steps. A step ends with the first page that
 * cannot be had, which depends on where time slices fall; that is not recorded. So five machines with
 * different slices do it, and the median of their sizes must be within 2 % of the recorded one.
 * The threshold of the fragmentation index is not in the records but in the file's name (thNNN);
 * without it the default holds. Schema: README of the recordings, pool/.
 */
import { disk_of } from '../fs/disk/index.ts';
import { BUG_ON } from '../lib/bug.ts';
import { run_job } from '../lib/kthread.ts';
import { boot } from '../machine.ts';
import { GFP_KERNEL } from '../mm/gfp.ts';
import type { Machine } from '../mm/mmzone.ts';
import { sync_filesystems } from '../mm/page_writeback.ts';
import { global_page_state, NR_FREE_PAGES } from '../mm/vmstat.ts';
import type { Tally } from './replay.ts';
import { forget_bytes, NullDevice, populate } from './workloads/platter.ts';
import { grow_pool } from './workloads/pool.ts';
import { SHELL } from './workloads/prepare.ts';
import { eat, look, read_tree, TREE, write_file } from './workloads/recorder.ts';
import { Scheduler } from './workloads/scheduler.ts';
import { Rootfs, Shell } from './workloads/userland.ts';

/** Machines, each with slices of its own. */
const SEEDS = 5;
/** Sizes may differ by this part of the recorded one. */
const TOLERANCE = 0.02;
const PAGE_KB = 4;
/** Block pointers of an indirect block: a large file has one for each so many blocks. */
const PTRS = 1024;
/** Programs between two steps (recorded: 440 page allocations and 625 faults a step). */
const COMMANDS_PER_STEP = 5;
/** Bytes of the recorded disk; that it is larger than all files is what matters. */
const DISK_BYTES = 8 * 2 ** 30;

interface PoolState {
  t: 'state';
  name: string;
  meminfo: string;
  zoneinfo: string;
  vmstat: string;
  pagetypeinfo: string;
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

/** `inspect` is called for the first machine: after boot, after the fill, and after each step. */
export function verify_pool(
  records: readonly Record<string, unknown>[],
  name: string,
  tally: Tally,
  inspect: (state: string, m: Machine) => void = () => {},
): void {
  const all = records as unknown as (PoolState | PoolStep)[];
  const booted = all[0] as PoolState;
  const filled = all.find((r): r is PoolState => r.t === 'state' && r.name === 'filled');
  if (filled === undefined) {
    tally.fail('record 1', 'the file has no state before the growth');
    return;
  }
  const steps = all.filter((r): r is PoolStep => r.t === 'step');
  const runs: number[][] = [];
  for (let seed = 1; seed <= SEEDS; seed++) {
    runs.push(grow_once(booted, filled, steps, name, seed, seed === 1 ? inspect : () => {}));
  }
  for (let i = 0; i < steps.length; i++) {
    const { step, target, got } = steps[i]!;
    const sizes = runs.map((sizes) => sizes[i]!).sort((a, b) => a - b);
    const ours = sizes[SEEDS >> 1]!;
    tally.check(
      `step ${step}`,
      Math.abs(ours - got) <= got * TOLERANCE
        ? null
        : `asked for ${target}: recorded ${got}, ours ${ours}`,
    );
  }
}

/** Carries out the whole procedure on one machine. Returns the pool's size after each step. */
function grow_once(
  booted: PoolState,
  filled: PoolState,
  steps: readonly PoolStep[],
  name: string,
  seed: number,
  inspect: (state: string, m: Machine) => void,
): number[] {
  const m = boot_recorded(booted, seed);
  const threshold = /th(\d+)/.exec(name.slice(name.lastIndexOf('/') + 1));
  if (threshold !== null) m.sysctl['extfrag_threshold'] = Number(threshold[1]);
  const root = new Rootfs(m);
  const init = new Shell(m, root, SHELL);
  const shell = new Shell(m, root, SHELL);
  BUG_ON(init.task === shell.task, 'replay_pool: one process instead of two');
  kernel_memory(m, meminfo(booted, 'MemFree'));
  inspect('boot', m);
  const s = new Scheduler(m);
  fill(m, s, shell, booted, filled);
  inspect('filled', m);
  const h = m.hstates[m.default_hstate_idx]!;
  const sizes: number[] = [];
  for (const { step, target } of steps) {
    s.start(look(m, shell, COMMANDS_PER_STEP));
    s.run();
    // The writer has slept until the commands were done.
    s.start(grow_pool(s, h, target), true);
    s.run(() => s.alive === 0);
    s.settle();
    inspect(`step ${step}`, m);
    sizes.push(h.nr_huge_pages);
  }
  return sizes;
}

/** A value of /proc/meminfo in pages. */
function meminfo(state: PoolState, label: string): number {
  const match = new RegExp(`^${label.replace(/[()]/g, '\\$&')}: +(\\d+) kB$`, 'm').exec(
    state.meminfo,
  );
  return match === null ? 0 : Math.floor(Number(match[1]) / PAGE_KB);
}

/** Single pages that were free among the reclaimable ones. */
function reclaimable_singles(state: PoolState): number {
  let sum = 0;
  for (const line of state.pagetypeinfo.matchAll(/type +Reclaimable +(\d+)/g))
    sum += Number(line[1]);
  return sum;
}

/** The sum of the counters of /proc/vmstat whose names match. */
function vmstat(state: PoolState, names: RegExp): number {
  let sum = 0;
  for (const line of state.vmstat.split('\n')) {
    const [name, value] = line.split(' ');
    if (name !== undefined && names.test(name)) sum += Number(value);
  }
  return sum;
}

/** A machine with as much memory as the recorded one, its watermarks, and the tree on its disk. */
function boot_recorded(booted: PoolState, seed: number): Machine {
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
    seed,
    disk: new NullDevice(DISK_BYTES),
  });
  forget_bytes(m);
  populate(m, disk_of(m)!, TREE.dirs, TREE.files, TREE.blocks);
  let ours = 0;
  for (const zone of m.populated_zones) ours += zone.watermark[0]!;
  if (Math.abs(ours - min) > 2 * m.populated_zones.length) {
    m.sysctl['min_free_kbytes'] = min * PAGE_KB;
    m.kernel.setup_per_zone_wmarks(m);
  }
  return m;
}

/** What else the recorded kernel had taken at boot: the recorder's driver, buffers, drivers. */
function kernel_memory(m: Machine, free: number): void {
  while (global_page_state(m, NR_FREE_PAGES) > free) {
    BUG_ON(m.kernel.alloc_pages(m, GFP_KERNEL, 0) < 0, 'replay_pool: no memory for the kernel');
  }
}

/** Fills memory as the recorder did, with what the counters between the two states tell. */
function fill(m: Machine, s: Scheduler, shell: Shell, booted: PoolState, filled: PoolState): void {
  const since = (names: RegExp): number => vmstat(filled, names) - vmstat(booted, names);
  const read = Math.floor(since(/^pgpgin$/) / PAGE_KB);
  if (read > TREE.blocks) {
    s.start(read_tree(m, shell));
    s.run();
  }
  const cached = since(/^nr_file_pages$/) + since(/^(pgsteal_.*|kswapd_inodesteal|pginodesteal)$/);
  const written = Math.floor(((cached - read) * PTRS) / (PTRS + 1));
  if (written > PTRS) {
    s.start(write_file(m, shell, 'big', written, reclaimable_singles(filled)));
    s.run();
  }
  const anon = since(/^nr_anon_pages$/);
  if (anon > PTRS) {
    s.start(eat(m, shell, anon * 2));
    s.run();
  }
  if (vmstat(filled, /^nr_dirty$/) === 0) run_job(sync_filesystems(m));
  s.idle(3000, 20);
}
