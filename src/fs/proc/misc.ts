/**
 * Small files of /proc that all kernels have: loadavg, slabinfo, stat, swaps, uptime, version.
 *
 * Linux: fs/proc/{version,uptime,stat,loadavg}.c, mm/slub.c (s_show). Differs: CPUs never do anything,
 * so uptime, stat and loadavg show idle time alone, no interrupts, no load.
 */
import type { FileRow } from '../../lib/file_row.ts';
import type { SeqFile } from '../../lib/seq_file.ts';
import type { Machine } from '../../mm/mmzone.ts';
import { get_slabinfo } from '../../mm/slub.ts';
import { global_page_state, NR_KERNEL_STACK } from '../../mm/vmstat.ts';

/** What a kernel decides about them. */
export interface MiscFormat {
  /** The line of /proc/version. */
  readonly version: string;
  readonly slabinfo_mode: number;
  /** mm/swapfile.c: swap_show. */
  show_swaps(seq: SeqFile, m: Machine): void;
}

/** Seconds with two decimals, cut off: `12.34`. */
function put_seconds(seq: SeqFile, ms: number): void {
  const hundredths = Math.floor(ms / 10);
  seq.put_dec(Math.floor(hundredths / 100)).puts('.');
  seq.puts(String(hundredths % 100).padStart(2, '0'));
}

/** mm/slub.c: s_show, the cache that was made last first. What SLAB could tune is 0. */
function slabinfo_show(seq: SeqFile, m: Machine): void {
  seq.puts('slabinfo - version: 2.1\n');
  seq.puts('# name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab>');
  seq.puts(' : tunables <limit> <batchcount> <sharedfactor>');
  seq.puts(' : slabdata <active_slabs> <num_slabs> <sharedavail>\n');
  for (let i = m.slab.caches.length - 1; i >= 0; i--) {
    const s = get_slabinfo(m.slab.caches[i]!);
    seq.put_left(s.name, 17).puts(' ').put_dec(s.active_objs, 6).puts(' ');
    seq.put_dec(s.num_objs, 6).puts(' ').put_dec(s.objsize, 6).puts(' ');
    seq.put_dec(s.objperslab, 4).puts(' ').put_dec(s.pagesperslab, 4);
    seq.puts(' : tunables    0    0    0 : slabdata ');
    seq.put_dec(s.num_slabs, 6).puts(' ').put_dec(s.num_slabs, 6).puts('      0\n');
  }
}

/** One line of CPU times in hundredths of seconds: user nice system idle and six more. */
function cpu_line(seq: SeqFile, name: string, idle_ms: number): void {
  seq
    .puts(name)
    .puts(' 0 0 0 ')
    .put_dec(Math.floor(idle_ms / 10))
    .puts(' 0 0 0 0 0 0\n');
}

/** fs/proc/stat.c: show_stat. */
function stat_show(seq: SeqFile, m: Machine): void {
  cpu_line(seq, 'cpu ', m.clock.now_ms * m.shape.nr_cpus);
  for (let cpu = 0; cpu < m.shape.nr_cpus; cpu++) cpu_line(seq, 'cpu' + cpu, m.clock.now_ms);
  seq.puts('intr 0\nctxt 0\nbtime ').put_dec(Math.floor(m.clock.boot_time_ms / 1000));
  seq.puts('\nprocesses ').put_dec(m.last_pid);
  seq.puts('\nprocs_running 1\nprocs_blocked 0\nsoftirq 0 0 0 0 0 0 0 0 0 0 0\n');
}

/** The files that all kernels have; the order is that of a kernel's list. */
export const misc_files = (format: MiscFormat): readonly FileRow<Machine>[] => [
  {
    path: '/proc/loadavg',
    mode: 0o444,
    show(seq, m) {
      // Every thread has a kernel stack; the one that runs is the reader.
      seq.puts('0.00 0.00 0.00 1/').put_dec(global_page_state(m, NR_KERNEL_STACK));
      seq.puts(' ').put_dec(m.last_pid).puts('\n');
    },
    doc: 'no load; running and all threads; the pid given last',
  },
  {
    path: '/proc/slabinfo',
    mode: format.slabinfo_mode,
    show: slabinfo_show,
    doc: 'slab caches: objects, sizes, slabs',
  },
  {
    path: '/proc/stat',
    mode: 0o444,
    show: stat_show,
    doc: 'idle time of each CPU, time of boot, processes so far',
  },
  {
    path: '/proc/swaps',
    mode: 0o444,
    show: format.show_swaps,
    doc: 'swap areas: size, use in KiB, priority',
  },
  {
    path: '/proc/uptime',
    mode: 0o444,
    show(seq, m) {
      put_seconds(seq, m.clock.now_ms);
      seq.puts(' ');
      put_seconds(seq, m.clock.now_ms * m.shape.nr_cpus);
      seq.puts('\n');
    },
    doc: 'seconds since boot on the virtual clock, and idle seconds of all CPUs',
  },
  {
    path: '/proc/version',
    mode: 0o444,
    show(seq) {
      seq.puts(format.version);
    },
    doc: 'which kernel this is',
  },
];
