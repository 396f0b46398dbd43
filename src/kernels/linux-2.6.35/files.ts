/**
 * All virtual files of 2.6.35 under /proc and /sys, in the order of their directories.
 *
 * The small ones without a file of their own are here. Linux: fs/proc/{version,uptime,stat,
 * loadavg}.c, mm/swapfile.c (proc_swaps_operations), mm/slub.c (s_show). Differs: CPUs never do
 * anything, so uptime, stat and loadavg show idle time alone, no interrupts, no load.
 */
import { proc_page_files } from '../../fs/proc/page.ts';
import { ksm_files } from '../../fs/sysfs/ksm.ts';
import { trace_files } from '../../fs/tracefs/trace_files.ts';
import type { FileRow } from '../../lib/file_row.ts';
import { strict_strtoul } from '../../lib/kstrto.ts';
import type { SeqFile } from '../../lib/seq_file.ts';
import type { Machine } from '../../mm/mmzone.ts';
import { get_slabinfo } from '../../mm/slub.ts';
import { global_page_state, NR_KERNEL_STACK } from '../../mm/vmstat.ts';
import { hugepage_files } from './hugetlb_files.ts';
import { iomem_files } from './iomem.ts';
import { meminfo_files, pages_kb } from './meminfo.ts';
import { node_files } from './node.ts';
import { ipc_sysctl_files, sysctl_files } from './sysctl.ts';
import { trace_2_6_35 } from './trace_events.ts';
import { vmstat_files } from './vmstat.ts';

/** Seconds with two decimals, cut off: `12.34`. */
function put_seconds(seq: SeqFile, ms: number): void {
  const hundredths = Math.floor(ms / 10);
  seq.put_dec(Math.floor(hundredths / 100)).puts('.');
  seq.puts(String(hundredths % 100).padStart(2, '0'));
}

/** mm/swapfile.c: swap_show. */
function swaps_show(seq: SeqFile, m: Machine): void {
  seq.puts('Filename\t\t\t\tType\t\tSize\tUsed\tPriority\n');
  for (const area of m.swap_info) {
    seq.put_left(area.path, Math.max(40, area.path.length + 1)).puts('partition\t');
    seq.put_dec(pages_kb(m, area.pages)).puts('\t');
    seq.put_dec(pages_kb(m, area.inuse_pages)).puts('\t').put_dec(area.prio).puts('\n');
  }
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

const misc_files: readonly FileRow<Machine>[] = [
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
    mode: 0o444,
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
    show: swaps_show,
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
      seq.puts('Linux version 2.6.35 (pageblock@pageblock) (emulated) #1 SMP\n');
    },
    doc: 'which kernel this is',
  },
];

/** KernelProfile.files of 2.6.35. */
export const files_2_6_35: readonly FileRow<Machine>[] = [
  ...vmstat_files,
  ...meminfo_files,
  ...proc_page_files,
  ...misc_files,
  ...iomem_files,
  ...sysctl_files,
  ...ipc_sysctl_files,
  ...node_files,
  ...hugepage_files,
  ...ksm_files((text) => strict_strtoul(text, 10)),
  ...trace_files(trace_2_6_35),
];
