/**
 * The third test, "huge pages under load": while builds run, nine tenths of memory are asked for as
 * huge pages, one at a time, with pauses.
 *
 * Requests are movable, do not insist (no __GFP_REPEAT) and keep what they get. Recorded, the delay
 * between two follows from a rate of 16 MiB a second, and hugeadm's min_free_kbytes is set from the
 * boot on (golden s3). The published test says "small delays" and does not say when hugeadm runs: here
 * the trees are expanded and built with the watermarks of the boot, and it runs with the test. That
 * matters: what memory there is for each type is then mixed as far as those watermarks let it be.
 * An attempt sleeps where the kernel does, and the builds run meanwhile: they take pages of a block
 * that is half free.
 */
import type { MachineName } from '../arch.ts';
import { disk_of, disk_root } from '../fs/disk/index.ts';
import type { Vnode } from '../fs/vfs.ts';
import { alloc_pages_job } from '../kernels/linux-2.6.35/page_alloc.ts';
import { __GFP_COMP, __GFP_NOWARN, GFP_HIGHUSER_MOVABLE } from '../mm/gfp.ts';
import type { Machine } from '../mm/mmzone.ts';
import type { Run } from './experiment.ts';
import { Recorder } from './experiment_record.ts';
import { build, make_sources } from './workloads/build.ts';
import { COST, DISK_OF_2010 } from './workloads/costs.ts';
import { type DiskSpeed, Reads } from './workloads/disk_time.ts';
import { DISTRIBUTION, daemons_at_work } from './workloads/distribution.ts';
import { Journal } from './workloads/journal.ts';
import { install_toolchain, KernelBuild } from './workloads/kernel_build.ts';
import { beside_others } from './workloads/kernel_tasks.ts';
import { expand, type TreeSize, updatedb } from './workloads/kernel_tree.ts';
import { populate } from './workloads/platter.ts';
import { boot_for_experiment, hugeadm } from './workloads/prepare.ts';
import { type Process, Scheduler } from './workloads/scheduler.ts';
import type { Shell } from './workloads/userland.ts';

export interface UnderLoadOptions {
  machine: MachineName;
  compaction: boolean;
  seed: number;
  memory: number;
  swap: number;
  /** Builds that run at once. */
  builds: number;
  /** Kernel trees of this size are expanded and built; without it workers as recorded. */
  trees?: TreeSize;
  /** Percent of memory that is asked for. */
  percent: number;
  /** Milliseconds before the first attempt. */
  warm_up: number;
  /** Milliseconds between attempts; without it what a rate of 16 MiB a second makes of a huge page. */
  delay?: number;
  /** hugeadm sets min_free_kbytes when the attempts begin, not after the boot. */
  hugeadm_late?: boolean;
  daemons: number;
  /** A distribution runs: memory that its kernel holds, daemons that use memory and files. */
  distribution?: boolean;
  /** Speed of the disk; without it the recorded machine's. */
  disk?: DiskSpeed;
  /** The recorder's driver is loaded. */
  driver?: boolean;
  inspect?: (state: string, m: Machine) => void;
  /** Called after each attempt with its number, success and duration in milliseconds. */
  attempted?: (nr: number, ok: boolean, ms: number, m: Machine) => void;
}

/** MiB a second that are asked for, unless a delay is given. */
const RATE = 16;
/** Attempts between two steps of the result. */
const PER_STEP = 20;

/** Workers as recorded. */
function start_workers(s: Scheduler, shell: Shell, builds: number): void {
  const { m } = s;
  const src = make_sources(m);
  const out = disk_root(m).mkdir('obj', 0o755, { uid: 0, gid: 0, pid: 1 }) as Vnode;
  for (let i = 0; i < builds; i++) s.start(build(m, shell, `build ${i}`, src, out));
}

/**
 * Expands a tree for each build and starts the builds, and updatedb beside them. The daemons of a
 * distribution sleep until then (a choice, as when they would start to work).
 */
function start_kernel_builds(
  s: Scheduler,
  shell: Shell,
  builds: number,
  size: TreeSize,
  speed: DiskSpeed,
  record: Recorder,
): void {
  const { m } = s;
  const tools = install_toolchain(m);
  const disk = new Reads(m, speed);
  const journal = new Journal(s);
  disk_root(m).mkdir('tmp', 0o777, { uid: 0, gid: 0, pid: 1 });
  const names: string[] = [];
  for (let i = 0; i < builds; i++) names.push(`linux${i}`);
  const others = s.alive;
  s.start(expand(m, shell, names, size));
  s.run(() => s.alive <= others);
  record.moment('filled');
  s.start(journal.kjournald());
  s.start(updatedb(m, shell, disk, journal));
  for (const name of names) {
    s.start(new KernelBuild(m, shell, tools, disk, journal, name, size).process());
  }
}

export function under_load(o: UnderLoadOptions): Omit<Run, 'cell' | 'seed'> {
  const { m, shell, daemons } = boot_for_experiment(o);
  const record = new Recorder(m, o.inspect);
  const h = m.hstates[m.default_hstate_idx]!;
  if (!o.hugeadm_late) hugeadm(m);
  record.moment('boot');
  const s = new Scheduler(m);
  if (o.distribution) populate(m, disk_of(m)!, DISTRIBUTION.dirs, DISTRIBUTION.files);
  if (o.trees !== undefined)
    start_kernel_builds(s, shell, o.builds, o.trees, o.disk ?? DISK_OF_2010, record);
  else start_workers(s, shell, o.builds);
  if (o.distribution) s.start(daemons_at_work(m, daemons));
  const start = m.clock.now_ms;
  s.run(() => m.clock.now_ms - start >= o.warm_up);
  s.settle();
  if (o.hugeadm_late) hugeadm(m);
  record.moment('ready');

  const memory_kb = m.totalram_pages * 2 ** (m.shape.page_shift - 10);
  const attempts = Math.floor((Math.floor(memory_kb / h.size_kb) * o.percent) / 100);
  record.start();
  let got = 0;
  let made = 0;
  let ended = false;
  function* attempt(): Process {
    const delay = o.delay ?? h.size_kb / 1024 / (RATE / 1000);
    let step_start = m.clock.now_ms;
    for (made = 1; made <= attempts; made++) {
      const gfp = GFP_HIGHUSER_MOVABLE | __GFP_COMP | __GFP_NOWARN;
      const asked = m.clock.now_ms;
      const pfn = yield* beside_others(s, alloc_pages_job(m, gfp, h.order));
      if (pfn >= 0) got++;
      o.attempted?.(made, pfn >= 0, m.clock.now_ms - asked, m);
      yield COST.huge_page;
      if (made % PER_STEP === 0 || made === attempts) {
        record.step(made, got, m.clock.now_ms - step_start);
        step_start = m.clock.now_ms;
      }
      if (made === attempts >>> 1) record.moment('half');
      yield -delay;
    }
    ended = true;
  }
  s.start(attempt());
  s.run(() => ended);
  s.settle();
  record.moment('final');
  return record.end(attempts, got, {});
}
