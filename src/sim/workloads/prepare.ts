/**
 * A machine as it is when an experiment begins: booted, with a disk, a root file system, the
 * processes of an idle system, swap where there is some, and hugeadm's settings.
 * Facts: reference 13.1, 13.3 (hugeadm's formulas), 10.5 (what pool max sets).
 */
import type { MachineName } from '../../arch.ts';
import { boot } from '../../machine.ts';
import type { Hstate } from '../../mm/hugetlb_def.ts';
import type { Machine } from '../../mm/mmzone.ts';
import { swapon } from '../../mm/swap_state.ts';
import type { DiskSpeed } from './disk_time.ts';
import { hold_kernel_memory } from './distribution.ts';
import { forget_bytes, NullDevice } from './platter.ts';
import { load_driver } from './recorder.ts';
import { type Program, Rootfs, Shell } from './userland.ts';

/** 16 GiB of disk, of a speed that does not hold writers up for long. */
const DISK_BYTES = 16 * 2 ** 30;
const DISK_BYTES_PER_MS = 400_000;
const DISK_MS_PER_REQUEST = 0.05;
/** hugeadm --pool-pages-max DEFAULT:8G. */
const POOL_MAX_BYTES = 8 * 2 ** 30;

export const SHELL: Program = { name: 'sh', text: 60, data: 6, bss: 4, heap: 16, stack: 3 };
/** A daemon of a distribution (getty, cron, syslog, dbus, sshd): 0.4 MiB of its own on 64 bits. */
const DAEMON: Program = { name: 'daemon', text: 100, data: 20, bss: 20, heap: 60, stack: 6 };

export interface PrepareOptions {
  machine: MachineName;
  compaction: boolean;
  seed: number;
  memory: number;
  swap: number;
  daemons: number;
  /** What a distribution's kernel holds for ever is held (distribution.ts). */
  distribution?: boolean;
  /** The recorder's driver is loaded (x86-64 as recorded). */
  driver?: boolean;
  /** Speed of the disk; without it one that does not hold writers up for long. */
  disk?: DiskSpeed;
}

export interface Prepared {
  readonly m: Machine;
  readonly root: Rootfs;
  readonly init: Shell;
  readonly daemons: readonly Shell[];
  readonly shell: Shell;
}

export function boot_for_experiment(o: PrepareOptions): Prepared {
  const m = boot({
    machine: o.machine,
    compaction: o.compaction,
    memory: o.memory,
    seed: o.seed,
    disk: new NullDevice(DISK_BYTES),
  });
  forget_bytes(m);
  const q = m.block_devices[0]!;
  q.bytes_per_ms = DISK_BYTES_PER_MS;
  q.ms_per_request = DISK_MS_PER_REQUEST;
  if (o.swap > 0) swapon(m, '/dev/sda2', o.swap / 2 ** m.shape.page_shift);
  if (o.disk !== undefined) {
    for (const each of m.block_devices) {
      each.bytes_per_ms = o.disk.bytes_per_ms;
      each.ms_per_request = o.disk.ms_per_write;
    }
  }
  const root = new Rootfs(m);
  if (o.driver) load_driver(m);
  if (o.distribution) hold_kernel_memory(m);
  const init = new Shell(m, root, SHELL);
  const daemons: Shell[] = [];
  for (let i = 0; i < o.daemons; i++) daemons.push(new Shell(m, root, DAEMON));
  return { m, root, init, daemons, shell: new Shell(m, root, SHELL) };
}

/** hugeadm's four steps, as far as memory management sees them. Returns the default pool. */
export function hugeadm(m: Machine): Hstate {
  const h = m.hstates[m.default_hstate_idx]!;
  h.nr_overcommit_huge_pages = POOL_MAX_BYTES / (h.size_kb * 1024);
  // Two blocks a zone for the reserve, and nine for three types that may all be near-empty.
  const zones = m.populated_zones.length;
  m.sysctl['min_free_kbytes'] = h.size_kb * zones * 2 + h.size_kb * zones * 3 * 3;
  m.kernel.setup_per_zone_wmarks(m);
  return h;
}
