/**
 * /proc/sys/vm of 2.6.35: every entry, in the order of the kernel's table, with its type, range,
 * default, mode, and its parser's ways with bad input; and of /proc/sys/kernel the limits on shared
 * memory, which huge page tools set.
 *
 * Numbers live in m.sysctl by the entry's name, text in m.sysctl_string; whoever acts on a value
 * reads it there. What a write does at once is the `written` of its row. Some handlers drop the
 * parser's error and report success: `swallow`.
 * Linux: kernel/sysctl.c (vm_table, proc_dointvec and its variants), and the handlers in
 * mm/page_alloc.c, page-writeback.c, compaction.c, fs/drop_caches.c. Recorded by value and errno
 * in test/golden/linux-2.6.35/files/*\/errno_table. Differs: a negative min_free_kbytes and an
 * empty write to percpu_pagelist_fraction, which kill the real machine and the real writer, are
 * refused with EINVAL (reference C9); malformed sizes of huge page pools, for which the real one
 * uses a number that it never read, change nothing (C8).
 */
import { HZ } from '../../lib/clock.ts';
import { EINVAL } from '../../lib/errno.ts';
import type { FileRow } from '../../lib/file_row.ts';
import { proc_get_long, skip_spaces } from '../../lib/kstrto.ts';
import type { Job } from '../../lib/kthread.ts';
import { GFP_KERNEL } from '../../mm/gfp.ts';
import { default_hstate, type Hstate } from '../../mm/hugetlb_def.ts';
import { build_all_zonelists } from '../../mm/mm_init.ts';
import { type Machine, nodes_with_memory } from '../../mm/mmzone.ts';
import { drop_pagecache } from '../../mm/truncate.ts';
import { compact_nodes } from './compaction.ts';
import { set_max_huge_pages } from './hugetlb.ts';
import { get_overcommit, set_overcommit } from './hugetlb_files.ts';
import { scan_zone_unevictable_pages } from './unevictable.ts';
import { shrink_slab } from './vmscan.ts';
import {
  lowmem_reserve_ratio_key,
  set_zone_reclaim_mode,
  setup_pagelist_highmark,
} from './watermark.ts';

/** The kernel copies one page less a byte of what is written and looks no further. */
const MAX_WRITE = 4095;

interface Parsed {
  /** 0 or -EINVAL. */
  err: number;
  /** Characters that the write took; all of them when not even the first number was good. */
  taken: number;
}

interface VmSysctl {
  readonly name: string;
  /** Directory under /proc/sys; vm without it. */
  readonly dir?: 'kernel';
  readonly doc: string;
  readonly mode?: number;
  when?(m: Machine): boolean;
}

interface IntSysctl extends VmSysctl {
  /** Value of a booted machine; without it boot computes one. */
  def?(m: Machine): number;
  readonly min?: number;
  readonly max?: number;
  /** Kept in timer ticks, shown and written in seconds. */
  readonly jiffies?: true;
  /** The handler reports success whatever the parser said. */
  readonly swallow?: true;
  /** Runs after the value was stored, and for `swallow` entries after any write. */
  written?(m: Machine, old: number): void;
}

interface UlongSysctl extends VmSysctl {
  readonly def: bigint;
  min?(m: Machine): bigint;
  written?(m: Machine, old: bigint): void;
}

/** Width of unsigned long: text wraps there. */
function long_bits(m: Machine): number {
  return m.shape.machine === 'x86' ? 32 : 64;
}

/**
 * Reads up to `count` numbers and hands each to `set`, which returns false to refuse it
 * (kernel/sysctl.c: __do_proc_dointvec, __do_proc_doulongvec_minmax).
 */
function parse_vector(
  m: Machine,
  text: string,
  count: number,
  set: (i: number, value: bigint, neg: boolean) => boolean,
): Parsed {
  const window = text.length > MAX_WRITE ? text.slice(0, MAX_WRITE) : text;
  let at = 0;
  let err = 0;
  let i = 0;
  for (; i < count && at < window.length; i++) {
    at = skip_spaces(window, at);
    const number = proc_get_long(window, at);
    if (typeof number === 'number') {
      err = number;
      break;
    }
    at = number.end;
    if (!set(i, BigInt.asUintN(long_bits(m), number.value), number.neg)) {
      err = -EINVAL;
      break;
    }
  }
  if (i === 0) return { err, taken: text.length };
  if (err === 0) at = skip_spaces(window, at);
  return { err, taken: text.length - (window.length - at) };
}

/** What a C int holds after the assignment: the low 32 bits. */
function to_int(value: bigint, neg: boolean): number {
  return Number(BigInt.asIntN(32, neg ? -value : value));
}

/** The int to store, or null when the entry refuses it. */
function convert_int(m: Machine, s: IntSysctl, value: bigint, neg: boolean): number | null {
  if (s.jiffies) {
    const long_max = (1n << BigInt(long_bits(m) - 1)) - 1n;
    if (value > long_max / BigInt(HZ)) return null;
    return to_int(value * BigInt(HZ), neg);
  }
  const v = to_int(value, neg);
  if (s.min !== undefined && v < s.min) return null;
  if (s.max !== undefined && v > s.max) return null;
  return v;
}

function get_int(m: Machine, s: IntSysctl): number {
  return m.sysctl[s.name] ?? s.def?.(m) ?? 0;
}

/** An entry that is one int (proc_dointvec, proc_dointvec_minmax, proc_dointvec_jiffies). */
function int_row(s: IntSysctl): FileRow<Machine> {
  const row: FileRow<Machine> = {
    path: `/proc/sys/${s.dir ?? 'vm'}/${s.name}`,
    mode: s.mode ?? 0o644,
    show(seq, m) {
      const v = get_int(m, s);
      seq.put_dec(s.jiffies ? Math.trunc(v / HZ) : v).puts('\n');
    },
    store(m, text) {
      const old = get_int(m, s);
      const parsed = parse_vector(m, text, 1, (_i, value, neg) => {
        const v = convert_int(m, s, value, neg);
        if (v === null) return false;
        m.sysctl[s.name] = v;
        return true;
      });
      if (s.swallow) {
        s.written?.(m, old);
        return parsed.taken;
      }
      if (parsed.err < 0) return parsed.err;
      s.written?.(m, old);
      return parsed.taken;
    },
    doc: s.doc,
  };
  return s.when === undefined ? row : { ...row, when: s.when };
}

function get_ulong(m: Machine, s: UlongSysctl): bigint {
  return m.sysctl_ulong[s.name] ?? BigInt(m.sysctl[s.name] ?? s.def);
}

/** m.sysctl holds the value for those who act on it, m.sysctl_ulong the bits that do not fit there. */
function set_ulong(m: Machine, name: string, value: bigint): void {
  m.sysctl[name] = Number(value);
  if (value > BigInt(Number.MAX_SAFE_INTEGER)) m.sysctl_ulong[name] = value;
  else delete m.sysctl_ulong[name];
}

/** An entry that is one unsigned long; what is out of range is ignored, without an error. */
function ulong_row(s: UlongSysctl): FileRow<Machine> {
  return {
    path: `/proc/sys/${s.dir ?? 'vm'}/${s.name}`,
    mode: s.mode ?? 0o644,
    show(seq, m) {
      seq.put_dec(get_ulong(m, s)).puts('\n');
    },
    store(m, text) {
      const old = get_ulong(m, s);
      const parsed = parse_vector(m, text, 1, (_i, value, neg) => {
        if (!neg && value >= (s.min?.(m) ?? 0n)) set_ulong(m, s.name, value);
        return true;
      });
      if (parsed.err < 0) return parsed.err;
      s.written?.(m, old);
      return parsed.taken;
    },
    doc: s.doc,
  };
}

/** min_free_kbytes: any write recomputes the watermarks; errors are swallowed. */
const min_free_kbytes: FileRow<Machine> = {
  path: '/proc/sys/vm/min_free_kbytes',
  mode: 0o644,
  show(seq, m) {
    seq.put_dec(m.sysctl['min_free_kbytes'] ?? 0).puts('\n');
  },
  store(m, text) {
    let refused = false;
    const parsed = parse_vector(m, text, 1, (_i, value, neg) => {
      const v = to_int(value, neg);
      refused = v < 0;
      if (!refused) m.sysctl['min_free_kbytes'] = v;
      return !refused;
    });
    if (refused) return -EINVAL;
    m.kernel.setup_per_zone_wmarks(m);
    return parsed.taken;
  },
  doc: 'KiB that the watermarks keep free; any write recomputes them',
};

/** lowmem_reserve_ratio: one ratio for each zone but the last; even a read recomputes reserves. */
const lowmem_reserve_ratio: FileRow<Machine> = {
  path: '/proc/sys/vm/lowmem_reserve_ratio',
  mode: 0o644,
  show(seq, m) {
    for (let i = 0; i < m.shape.zone_names.length - 1; i++) {
      if (i > 0) seq.puts('\t');
      seq.put_dec(m.sysctl[lowmem_reserve_ratio_key(i)]!);
    }
    seq.puts('\n');
    m.kernel.setup_per_zone_lowmem_reserve(m);
  },
  store(m, text) {
    const parsed = parse_vector(m, text, m.shape.zone_names.length - 1, (i, value, neg) => {
      m.sysctl[lowmem_reserve_ratio_key(i)] = to_int(value, neg);
      return true;
    });
    m.kernel.setup_per_zone_lowmem_reserve(m);
    return parsed.taken;
  },
  doc: 'pages of a zone kept from requests that could use a higher one: 1/ratio of the higher',
};

/** percpu_pagelist_fraction: resizes every per-CPU list, also when the value stays. */
const percpu_pagelist_fraction: FileRow<Machine> = {
  path: '/proc/sys/vm/percpu_pagelist_fraction',
  mode: 0o644,
  show(seq, m) {
    seq.put_dec(m.sysctl['percpu_pagelist_fraction'] ?? 0).puts('\n');
  },
  store(m, text) {
    if (text.length === 0) return -EINVAL;
    const parsed = parse_vector(m, text, 1, (_i, value, neg) => {
      const v = to_int(value, neg);
      if (v < 8) return false;
      m.sysctl['percpu_pagelist_fraction'] = v;
      return true;
    });
    if (parsed.err < 0) return parsed.err;
    const fraction = m.sysctl['percpu_pagelist_fraction']!;
    for (const zone of m.populated_zones) {
      const high = Math.floor(zone.present_pages / fraction);
      for (const pcp of zone.pageset) setup_pagelist_highmark(m, pcp, high);
    }
    return parsed.taken;
  },
  doc: 'each CPU may keep 1/fraction of a zone on its own lists; 0 until first written, then >= 8',
};

const compact_memory: FileRow<Machine> = {
  path: '/proc/sys/vm/compact_memory',
  mode: 0o200,
  /** The text is not looked at. The result of compact_nodes, 3, is what write(2) returns. */
  store: (m): Job => compact_nodes(m),
  when: (m) => m.shape.compaction,
  doc: 'any write compacts every zone of every node and returns when that is done',
};

/** drop_caches: any write acts on the value that is then there (fs/drop_caches.c). */
const drop_caches: FileRow<Machine> = {
  path: '/proc/sys/vm/drop_caches',
  mode: 0o644,
  show(seq, m) {
    seq.put_dec(m.sysctl['drop_caches'] ?? 0).puts('\n');
  },
  store(m, text) {
    const parsed = parse_vector(m, text, 1, (_i, value, neg) => {
      m.sysctl['drop_caches'] = to_int(value, neg);
      return true;
    });
    return drop(m, m.sysctl['drop_caches'] ?? 0, parsed.taken);
  },
  doc: '1 drops clean page cache, 2 unused inodes and names, 3 both; reads back the last value',
};

function* drop(m: Machine, what: number, taken: number): Job {
  if ((what & 1) !== 0) yield* drop_pagecache(m);
  if ((what & 2) !== 0) {
    while (shrink_slab(m, 1000, GFP_KERNEL, 1000) > 10) yield;
  }
  return taken;
}

/**
 * The size of the default pool. Growing it takes long, so the write is a job. Where the kernel uses
 * a number that it never read, of malformed text, the pool stays as it is (C8).
 */
function nr_hugepages(name: string, when?: (m: Machine) => boolean): FileRow<Machine> {
  const row: FileRow<Machine> = {
    path: '/proc/sys/vm/' + name,
    mode: 0o644,
    show(seq, m) {
      seq.put_dec(default_hstate(m)?.max_huge_pages ?? 0).puts('\n');
    },
    store(m, text) {
      const h = default_hstate(m);
      let count = -1;
      const parsed = parse_vector(m, text, 1, (_i, value, neg) => {
        // A negative number is ignored, as any that is out of range.
        if (!neg) count = Number(value);
        return true;
      });
      if (h === undefined || count < 0) return parsed.taken;
      return resize_pool(m, h, count, parsed.taken);
    },
    doc: 'huge pages of the default size that the pool shall hold; a write grows or shrinks it',
  };
  return when === undefined ? row : { ...row, when };
}

function* resize_pool(m: Machine, h: Hstate, count: number, taken: number): Job {
  h.max_huge_pages = yield* set_max_huge_pages(m, h, count, nodes_with_memory(m));
  return taken;
}

/** Huge pages beyond the pool that mappings may take. */
const nr_overcommit_hugepages: FileRow<Machine> = {
  path: '/proc/sys/vm/nr_overcommit_hugepages',
  mode: 0o644,
  show(seq, m) {
    const h = default_hstate(m);
    seq.put_dec(h === undefined ? 0 : get_overcommit(m, h)).puts('\n');
  },
  store(m, text) {
    const h = default_hstate(m);
    const parsed = parse_vector(m, text, 1, (_i, value, neg) => {
      if (!neg && h !== undefined) set_overcommit(m, h, value);
      return true;
    });
    return parsed.taken;
  },
  doc: 'huge pages of the default size that mappings may take beyond the pool',
};

/** scan_unevictable_pages: any number but 0 looks at every page; errors are swallowed. */
const scan_unevictable_pages: FileRow<Machine> = {
  path: '/proc/sys/vm/scan_unevictable_pages',
  mode: 0o644,
  show(seq) {
    seq.puts('0\n');
  },
  store(m, text) {
    let wanted = false;
    const parsed = parse_vector(m, text, 1, (_i, value, neg) => {
      if (!neg) wanted = value !== 0n;
      return true;
    });
    return scan_all_zones(m, wanted, parsed.taken);
  },
  doc: 'not 0: looks for pages on the unevictable lists that can be reclaimed; always reads 0',
};

function* scan_all_zones(m: Machine, wanted: boolean, taken: number): Job {
  if (wanted) {
    for (const zone of m.populated_zones) yield* scan_zone_unevictable_pages(m, zone);
  }
  return taken;
}

const ZONELIST_ORDER_LEN = 16;

/** numa_zonelist_order: by its first letter Default, Node or Zone; anything else is forgotten. */
const numa_zonelist_order: FileRow<Machine> = {
  path: '/proc/sys/vm/numa_zonelist_order',
  mode: 0o644,
  string: true,
  show(seq, m) {
    seq.puts(m.sysctl_string['numa_zonelist_order'] ?? 'default').puts('\n');
  },
  store(m, text) {
    if (text.length === 0) return 0;
    let end = 0;
    while (end < Math.min(text.length, ZONELIST_ORDER_LEN - 1)) {
      if (text[end] === '\n' || text[end] === '\0') break;
      end++;
    }
    const value = text.slice(0, end);
    const letter = value.slice(0, 1).toLowerCase();
    if (letter === 'd' || letter === 'n' || letter === 'z') {
      m.sysctl_string['numa_zonelist_order'] = value;
      build_all_zonelists(m);
      set_zone_reclaim_mode(m);
    }
    return text.length;
  },
  when: (m) => m.shape.numa,
  doc: 'order in which zones are tried: default, node (all of a node first) or zone (by type)',
};

const numa = (m: Machine): boolean => m.shape.numa;
const x86 = (m: Machine): boolean => m.shape.machine === 'x86';
const highmem = (m: Machine): boolean => m.shape.ZONE_HIGHMEM >= 0;

/** The plain entries; `written` where a value changes another one at once. */
const INT: Record<string, IntSysctl> = {};
const ULONG: Record<string, UlongSysctl> = {};

function int(
  name: string,
  def: number,
  doc: string,
  more: Partial<IntSysctl> = {},
): FileRow<Machine> {
  const s: IntSysctl = { name, doc, def: () => def, ...more };
  INT[name] = s;
  return int_row(s);
}

function ulong(
  name: string,
  def: bigint,
  doc: string,
  more: Partial<UlongSysctl> = {},
): FileRow<Machine> {
  const s: UlongSysctl = { name, doc, def, ...more };
  ULONG[name] = s;
  return ulong_row(s);
}

/** vm_table, in its order: readdir lists it so. */
export const sysctl_files: readonly FileRow<Machine>[] = [
  int('overcommit_memory', 0, 'whether mappings may promise more memory than there is: 0, 1, 2'),
  int('panic_on_oom', 0, 'kept, without effect'),
  int('oom_kill_allocating_task', 0, 'out of memory: 1 kills who asked, 0 who has most'),
  int('oom_dump_tasks', 0, 'kept, without effect'),
  int('overcommit_ratio', 50, 'percentage of memory in the commit limit'),
  int('page-cluster', 3, 'log2 of the pages that a swap-in reads ahead', {
    def: (m) => (m.totalram_pages * 2 ** m.shape.page_shift < 16 * 2 ** 20 ? 2 : 3),
  }),
  int('dirty_background_ratio', 10, 'percentage of dirty memory from which the flusher writes', {
    min: 0,
    max: 100,
    written: (m) => set_ulong(m, 'dirty_background_bytes', 0n),
  }),
  ulong('dirty_background_bytes', 0n, 'the same in bytes; the one written last counts', {
    min: () => 1n,
    written: (m) => {
      m.sysctl['dirty_background_ratio'] = 0;
    },
  }),
  int('dirty_ratio', 20, 'percentage of dirty memory from which writers write back themselves', {
    min: 0,
    max: 100,
    written: (m, old) => {
      if (m.sysctl['dirty_ratio'] !== old) set_ulong(m, 'dirty_bytes', 0n);
    },
  }),
  ulong('dirty_bytes', 0n, 'the same in bytes; the one written last counts', {
    min: (m) => 2n << BigInt(m.shape.page_shift),
    written: (m, old) => {
      if (m.sysctl['dirty_bytes'] !== Number(old)) m.sysctl['dirty_ratio'] = 0;
    },
  }),
  int('dirty_writeback_centisecs', 500, 'the flusher looks for dirty pages this often'),
  int('dirty_expire_centisecs', 3000, 'the flusher writes what was dirty for so long'),
  int('nr_pdflush_threads', 0, 'always 0', { mode: 0o444 }),
  int('swappiness', 60, 'how much reclaim prefers anonymous pages', { min: 0, max: 100 }),
  nr_hugepages('nr_hugepages'),
  nr_hugepages('nr_hugepages_mempolicy', numa),
  int('hugetlb_shm_group', 0, 'group that may use huge pages in shared memory; kept'),
  int('hugepages_treat_as_movable', 0, 'whether huge page pools may take movable memory', {
    swallow: true,
  }),
  nr_overcommit_hugepages,
  lowmem_reserve_ratio,
  drop_caches,
  compact_memory,
  int('extfrag_threshold', 500, 'direct compaction needs an index above this; else reclaim', {
    min: 0,
    max: 1000,
    swallow: true,
    when: (m) => m.shape.compaction,
  }),
  min_free_kbytes,
  percpu_pagelist_fraction,
  int('max_map_count', 65530, 'mappings that one process may have', { min: 0 }),
  int('laptop_mode', 0, 'seconds; when not 0, reclaim leaves dirty pages to the flusher', {
    jiffies: true,
  }),
  int('block_dump', 0, 'kept, without effect'),
  int('vfs_cache_pressure', 100, 'how much reclaim prefers inodes and dentries'),
  int('legacy_va_layout', 0, 'kept, without effect'),
  int('zone_reclaim_mode', 0, 'whether a node reclaims its own memory before using another', {
    when: numa,
  }),
  int('min_unmapped_ratio', 1, 'zone reclaim leaves this percentage of unmapped file pages', {
    min: 0,
    max: 100,
    when: numa,
  }),
  int('min_slab_ratio', 5, 'zone reclaim shrinks slabs above this percentage', {
    min: 0,
    max: 100,
    when: numa,
  }),
  int('stat_interval', HZ, 'seconds between foldings of counters', {
    jiffies: true,
  }),
  ulong('mmap_min_addr', 4096n, 'lowest address that a process may map; kept'),
  numa_zonelist_order,
  int('vdso_enabled', 2, 'kept, without effect', { when: x86 }),
  int('highmem_is_dirtyable', 0, 'whether high memory counts for dirty limits', {
    min: 0,
    max: 1,
    when: highmem,
  }),
  scan_unevictable_pages,
];

/** ipc_kern_table (ipc/ipc_sysctl.c), as far as it concerns memory. Nobody takes shared memory here. */
export const ipc_sysctl_files: readonly FileRow<Machine>[] = [
  ulong('shmmax', 0x2000000n, 'largest segment of shared memory in bytes; kept', { dir: 'kernel' }),
  ulong('shmall', 0x200000n, 'pages of shared memory in all; kept', { dir: 'kernel' }),
  int('shmmni', 4096, 'segments of shared memory in all; kept', { dir: 'kernel' }),
];

/** Sets every entry that has no value yet to its default: part of boot. */
export function init_sysctls(m: Machine): void {
  for (const s of Object.values(INT)) m.sysctl[s.name] ??= get_int(m, s);
  for (const s of Object.values(ULONG)) m.sysctl[s.name] ??= Number(s.def);
  m.sysctl['drop_caches'] ??= 0;
  m.sysctl['percpu_pagelist_fraction'] ??= 0;
  m.sysctl_string['numa_zonelist_order'] ??= 'default';
}
