/**
 * /proc/sys/vm of 6.1: every entry with its class, range, default and mode.
 *
 * Since 2.6.35 one parser refuses the same bad input for all: a number must end at white space or the
 * end, overflow is an error, out of range too, and a write that does not start at position 0 is
 * taken and ignored. Any write at all to compact_memory compacts.
 * Linux: kernel/sysctl.c (vm_table, proc_dointvec_minmax, proc_doulongvec_minmax) and the handlers in
 * mm/. Recorded: debian-6.1/verbatim (probe.jsonl, sys-vm.*), and for what has not changed since
 * host-6.18/errno_proc_sys_vm.jsonl. Entries "kept" are stored and have no effect here.
 */
import { EINVAL, ENOMEM } from '../../lib/errno.ts';
import type { FileRow, RowContext } from '../../lib/file_row.ts';
import { isspace, skip_spaces } from '../../lib/kstrto.ts';
import type { Job } from '../../lib/kthread.ts';
import { GFP_KERNEL } from '../../mm/gfp.ts';
import { default_hstate, type Hstate } from '../../mm/hugetlb_def.ts';
import { type Machine, nodes_with_memory } from '../../mm/mmzone.ts';
import { drop_pagecache } from '../../mm/truncate.ts';
import { count_vm_event, DROP_PAGECACHE, DROP_SLAB } from '../../mm/vmstat.ts';
import { compact_nodes } from './compaction.ts';
import { set_max_huge_pages } from './hugetlb.ts';
import { get_overcommit, set_overcommit } from './hugetlb_files.ts';
import { shrink_slab } from './vmscan.ts';
import { lowmem_reserve_ratio_key, setup_pageset, USER_MIN_FREE_KBYTES } from './watermark.ts';

/** A longer write is refused (KMALLOC_MAX_SIZE); of others the first page less a byte is read. */
const MAX_WRITE = 4194304;
const WINDOW = 4095;
/** Characters of one number that are looked at. */
const MAX_NUMBER = 21;
const ULONG_MAX = (1n << 64n) - 1n;

interface Parsed {
  /** 0 or -EINVAL: then nothing after the bad number was stored. */
  err: number;
  /** Characters taken. */
  taken: number;
}

/**
 * One number at `start`: optional minus, 0x or leading 0 for other bases, then white space or the
 * end. -EINVAL for anything else, also above 64 bits. (kernel/sysctl.c: proc_get_long)
 */
export function proc_get_long(
  text: string,
  start: number,
): { value: bigint; neg: boolean; end: number } | number {
  const window = text.slice(start, start + MAX_NUMBER);
  const neg = window.startsWith('-') && window.length > 1;
  const digits = /^(0[xX][0-9a-fA-F]+|[0-9]+)/.exec(neg ? window.slice(1) : window);
  if (digits === null) return -EINVAL;
  let number = digits[0];
  if (/^0[0-9]/.test(number)) number = /^[0-7]*/.exec(number)![0];
  const end = start + (neg ? 1 : 0) + number.length;
  if (end - start === MAX_NUMBER) return -EINVAL;
  if (end < text.length && !' \t\n'.includes(text[end]!)) return -EINVAL;
  const value = /^0[0-7]/.test(number) ? BigInt('0o' + number.slice(1)) : BigInt(number);
  return value > ULONG_MAX ? -EINVAL : { value, neg, end };
}

/** Reads up to `count` numbers and hands each to `set`, which returns false to refuse it. */
function parse_vector(
  text: string,
  count: number,
  set: (i: number, value: bigint, neg: boolean) => boolean,
): Parsed {
  const window = text.slice(0, WINDOW);
  let at = 0;
  for (let i = 0; i < count && at < window.length; i++) {
    at = skip_spaces(window, at);
    const number = at < window.length ? proc_get_long(window, at) : -EINVAL;
    if (typeof number === 'number' || !set(i, number.value, number.neg)) {
      // A later number that is bad ends the text: what was before it counts.
      if (i > 0 && typeof number === 'number') break;
      return { err: -EINVAL, taken: at };
    }
    at = number.end;
  }
  while (at < window.length && isspace(window.charCodeAt(at))) at++;
  return { err: 0, taken: text.length - (window.length - at) };
}

/** What every handler does before it parses: null to go on, else what the write returns. */
function check_write(text: string, ctx: RowContext): number | null {
  if (text.length >= MAX_WRITE) return -ENOMEM;
  if (text.length === 0) return 0;
  // sysctl_writes_strict: bytes elsewhere than at the beginning are no value.
  return ctx.pos !== 0 ? text.length : null;
}

interface IntOptions {
  /** Directory under /proc/sys; vm without it. */
  dir?: 'kernel';
  mode?: number;
  min?: number;
  max?: number;
  def_of?: (m: Machine) => number;
  /** Any int is taken and stored as 0 or 1. */
  bool?: true;
  when?: (m: Machine) => boolean;
  /** Runs after each successful write, also of nothing. */
  written?: (m: Machine, old: number) => void;
}

const INT_MAX = 2147483647;

/** Defaults, for boot. */
const INT: [string, (m: Machine) => number][] = [];
const ULONG: [string, bigint][] = [];

/** An entry that is one int with a range (proc_dointvec_minmax). */
function int(name: string, def: number, doc: string, o: IntOptions = {}): FileRow<Machine> {
  const get_default = o.def_of ?? ((): number => def);
  INT.push([name, get_default]);
  const get = (m: Machine): number => m.sysctl[name] ?? get_default(m);
  const row: FileRow<Machine> = {
    path: `/proc/sys/${o.dir ?? 'vm'}/${name}`,
    mode: o.mode ?? 0o644,
    show(seq, m) {
      seq.put_dec(get(m)).puts('\n');
    },
    store(m, text, ctx) {
      const old = get(m);
      let taken = check_write(text, ctx);
      if (taken === null) {
        const parsed = parse_vector(text, 1, (_i, value, neg) => {
          if (value > BigInt(INT_MAX) + (neg ? 1n : 0n)) return false;
          const v = neg ? -Number(value) : Number(value);
          if (!o.bool && (v < (o.min ?? -INT_MAX - 1) || v > (o.max ?? INT_MAX))) return false;
          m.sysctl[name] = o.bool ? (v !== 0 ? 1 : 0) : v;
          return true;
        });
        if (parsed.err < 0) return parsed.err;
        taken = parsed.taken;
      }
      if (taken >= 0) o.written?.(m, old);
      return taken;
    },
    doc,
  };
  return o.when === undefined ? row : { ...row, when: o.when };
}

function get_ulong(m: Machine, name: string, def: bigint): bigint {
  return m.sysctl_ulong[name] ?? BigInt(m.sysctl[name] ?? def);
}

/** m.sysctl holds the value for those who act on it, m.sysctl_ulong the bits that do not fit there. */
function set_ulong(m: Machine, name: string, value: bigint): void {
  m.sysctl[name] = Number(value);
  if (value > BigInt(Number.MAX_SAFE_INTEGER)) m.sysctl_ulong[name] = value;
  else delete m.sysctl_ulong[name];
}

/** Practically without a limit: ULONG_MAX - 2^24. */
const SHM_DEFAULT = ULONG_MAX - (1n << 24n);

interface UlongOptions {
  /** Directory under /proc/sys; vm without it. */
  dir?: 'kernel';
  min?: bigint;
  written?: (m: Machine, old: bigint) => void;
}

/** An entry that is one unsigned long (proc_doulongvec_minmax). */
function ulong(name: string, def: bigint, doc: string, o: UlongOptions = {}): FileRow<Machine> {
  ULONG.push([name, def]);
  return {
    path: `/proc/sys/${o.dir ?? 'vm'}/${name}`,
    mode: 0o644,
    show(seq, m) {
      seq.put_dec(get_ulong(m, name, def)).puts('\n');
    },
    store(m, text, ctx) {
      const old = get_ulong(m, name, def);
      let taken = check_write(text, ctx);
      if (taken === null) {
        const parsed = parse_vector(text, 1, (_i, value, neg) => {
          if (neg || value < (o.min ?? 0n)) return false;
          set_ulong(m, name, value);
          return true;
        });
        if (parsed.err < 0) return parsed.err;
        taken = parsed.taken;
      }
      if (taken >= 0) o.written?.(m, old);
      return taken;
    },
    doc,
  };
}

/** An int in seconds or in hundredths of them: only its magnitude is limited, as ticks are an int. */
function jiffies(name: string, def: number, hz: number, doc: string): FileRow<Machine> {
  const max = Math.floor(INT_MAX / hz);
  return int(name, def, doc, { min: -max, max });
}

/** Recomputes the sizes of all per-CPU lists. */
function resize_pagesets(m: Machine): void {
  for (const zone of m.populated_zones) {
    for (const pcp of zone.pageset) setup_pageset(m, zone, pcp);
  }
}

/** lowmem_reserve_ratio: what is bad ends the text, without an error; below 1 switches off. */
const lowmem_reserve_ratio: FileRow<Machine> = {
  path: '/proc/sys/vm/lowmem_reserve_ratio',
  mode: 0o644,
  show(seq, m) {
    for (let i = 0; i < m.shape.zone_names.length; i++) {
      if (i > 0) seq.puts('\t');
      seq.put_dec(m.sysctl[lowmem_reserve_ratio_key(i)] ?? 0);
    }
    seq.puts('\n');
  },
  store(m, text, ctx) {
    let taken = check_write(text, ctx);
    if (taken === null) {
      const parsed = parse_vector(text, m.shape.zone_names.length, (i, value, neg) => {
        if (value > BigInt(INT_MAX)) return false;
        m.sysctl[lowmem_reserve_ratio_key(i)] = neg || value < 1n ? 0 : Number(value);
        return true;
      });
      taken = parsed.err < 0 ? text.length : parsed.taken;
    }
    if (taken >= 0) m.kernel.setup_per_zone_lowmem_reserve(m);
    return taken;
  },
  doc: 'pages of a zone kept from requests that could use a higher one: 1/ratio of the higher; 0: none',
};

const compact_memory: FileRow<Machine> = {
  path: '/proc/sys/vm/compact_memory',
  mode: 0o200,
  store: (m, text) => compact_all(m, text.length),
  when: (m) => m.shape.compaction,
  doc: 'any write compacts every zone of every node and returns when that is done',
};

/** The text is not looked at, wherever it is written. */
function* compact_all(m: Machine, length: number): Job {
  yield* compact_nodes(m);
  return length;
}

/** drop_caches: an empty write, or one elsewhere than at the beginning, repeats the last one. */
const drop_caches: FileRow<Machine> = {
  path: '/proc/sys/vm/drop_caches',
  mode: 0o200,
  store(m, text, ctx) {
    let taken = check_write(text, ctx);
    if (taken === null) {
      const parsed = parse_vector(text, 1, (_i, value, neg) => {
        if (neg || value < 1n || value > 4n) return false;
        m.sysctl['drop_caches'] = Number(value);
        return true;
      });
      if (parsed.err < 0) return parsed.err;
      taken = parsed.taken;
    }
    return taken < 0 ? taken : drop(m, m.sysctl['drop_caches'] ?? 0, taken);
  },
  doc: '1 drops clean page cache, 2 unused inodes and names, 3 both',
};

function* drop(m: Machine, what: number, taken: number): Job {
  if ((what & 1) !== 0) {
    yield* drop_pagecache(m);
    count_vm_event(m, DROP_PAGECACHE);
  }
  if ((what & 2) !== 0) {
    // As long as halving what came leaves more than a little.
    for (let shift = 0; drop_slab(m) >> shift > 1; shift++) yield;
    count_vm_event(m, DROP_SLAB);
  }
  return taken;
}

/** One round over all caches of all nodes: objects that went (fs/drop_caches.c, vmscan.c). */
function drop_slab(m: Machine): number {
  let freed = 0;
  for (const { nid } of m.nodes) freed += shrink_slab(m, GFP_KERNEL, 0, nid);
  return freed;
}

/** numa_zonelist_order: the zonelists are by node; names of that are taken and change nothing. */
const numa_zonelist_order: FileRow<Machine> = {
  path: '/proc/sys/vm/numa_zonelist_order',
  mode: 0o644,
  string: true,
  show(seq) {
    seq.puts('Node\n');
  },
  store(_m, text) {
    return /^[dDnN]/.test(text) ? text.length : -EINVAL;
  },
  when: (m) => m.shape.numa,
  doc: 'order in which zones are tried: always by node',
};

const stat_refresh: FileRow<Machine> = {
  path: '/proc/sys/vm/stat_refresh',
  mode: 0o600,
  show() {},
  store: (_m, text) => text.length,
  doc: 'folds counters of CPUs; they are exact here',
};

const numa = (m: Machine): boolean => m.shape.numa;
const PERCENT = { min: 0, max: 100 };
const BIT = { min: 0, max: 1 };
const NOT_NEGATIVE = { min: 0 };

/** vm_table; directories of /proc/sys are listed by name. */
export const sysctl_files: readonly FileRow<Machine>[] = [
  ulong('admin_reserve_kbytes', 8192n, 'KiB kept for root in strict overcommit; kept'),
  compact_memory,
  int('compact_unevictable_allowed', 1, 'whether compaction moves mlocked pages', {
    ...BIT,
    when: (m) => m.shape.compaction,
  }),
  int('compaction_proactiveness', 20, 'how eagerly kcompactd compacts ahead of need; 0: never', {
    ...PERCENT,
    when: (m) => m.shape.compaction,
    written: (m) => {
      if (m.sysctl['compaction_proactiveness'] === 0) return;
      for (const node of m.nodes) node.proactive_compact_trigger = true;
    },
  }),
  ulong('dirty_background_bytes', 0n, 'dirty bytes from which the flusher writes', {
    min: 1n,
    written: (m) => {
      m.sysctl['dirty_background_ratio'] = 0;
    },
  }),
  int('dirty_background_ratio', 10, 'the same as a percentage; the one written last counts', {
    ...PERCENT,
    written: (m) => set_ulong(m, 'dirty_background_bytes', 0n),
  }),
  ulong('dirty_bytes', 0n, 'dirty bytes from which writers write back themselves', {
    min: 8192n,
    written: (m, old) => {
      if (m.sysctl['dirty_bytes'] !== Number(old)) m.sysctl['dirty_ratio'] = 0;
    },
  }),
  int('dirty_expire_centisecs', 3000, 'the flusher writes what was dirty for so long', {
    min: 0,
  }),
  int('dirty_ratio', 20, 'the same as a percentage; the one written last counts', {
    ...PERCENT,
    written: (m, old) => {
      if (m.sysctl['dirty_ratio'] !== old) set_ulong(m, 'dirty_bytes', 0n);
    },
  }),
  int('dirty_writeback_centisecs', 500, 'the flusher looks for dirty pages this often'),
  int('dirtytime_expire_seconds', 43200, 'the same for access times; kept', NOT_NEGATIVE),
  drop_caches,
  int('extfrag_threshold', 500, 'direct compaction needs an index above this; else reclaim', {
    min: 0,
    max: 1000,
    when: (m) => m.shape.compaction,
  }),
  int('hugetlb_optimize_vmemmap', 0, 'kept, without effect', { bool: true }),
  int('hugetlb_shm_group', 0, 'group that may use huge pages in shared memory; kept'),
  jiffies('laptop_mode', 0, 250, 'seconds; when not 0, the flusher waits for reads; kept'),
  int('legacy_va_layout', 0, 'kept, without effect', NOT_NEGATIVE),
  lowmem_reserve_ratio,
  int('max_map_count', 65530, 'mappings that one process may have', NOT_NEGATIVE),
  int('memory_failure_early_kill', 0, 'kept, without effect', BIT),
  int('memory_failure_recovery', 1, 'kept, without effect', BIT),
  int('min_free_kbytes', 0, 'KiB that the watermarks keep free; any write recomputes them', {
    min: 0,
    written: (m) => {
      m.sysctl[USER_MIN_FREE_KBYTES] = m.sysctl['min_free_kbytes']!;
      m.kernel.setup_per_zone_wmarks(m);
    },
  }),
  int('min_slab_ratio', 5, 'zone reclaim shrinks slabs above this percentage', {
    ...PERCENT,
    when: numa,
  }),
  int('min_unmapped_ratio', 1, 'zone reclaim leaves this percentage of unmapped file pages', {
    ...PERCENT,
    when: numa,
  }),
  ulong('mmap_min_addr', 65536n, 'lowest address that a process may map; kept'),
  int('mmap_rnd_bits', 28, 'random bits of mappings; kept', { min: 28, max: 32, mode: 0o600 }),
  int('mmap_rnd_compat_bits', 8, 'the same for 32-bit processes; kept', {
    min: 8,
    max: 16,
    mode: 0o600,
  }),
  int('numa_stat', 1, 'whether numa_hit and its like are counted; kept', { ...BIT, when: numa }),
  numa_zonelist_order,
  int('oom_dump_tasks', 1, 'kept, without effect'),
  int('oom_kill_allocating_task', 0, 'out of memory: 1 kills who asked, 0 who has most'),
  ulong('overcommit_kbytes', 0n, 'commit limit in KiB in place of overcommit_ratio; kept', {
    written: (m) => {
      m.sysctl['overcommit_ratio'] = 0;
    },
  }),
  int('overcommit_memory', 0, 'whether mappings may promise more memory than there is: 0, 1, 2', {
    min: 0,
    max: 2,
  }),
  int('overcommit_ratio', 50, 'percentage of memory in the commit limit', {
    written: (m) => set_ulong(m, 'overcommit_kbytes', 0n),
  }),
  int('page-cluster', 3, 'log2 of the pages that a swap-in reads ahead', { min: 0, max: 31 }),
  int('page_lock_unfairness', 5, 'kept, without effect', NOT_NEGATIVE),
  int('panic_on_oom', 0, 'kept, without effect', { min: 0, max: 2 }),
  percpu_pagelist_high_fraction(),
  jiffies('stat_interval', 1, 250, 'seconds between foldings of counters; kept'),
  stat_refresh,
  int('swappiness', 60, 'how much reclaim prefers anonymous pages', { min: 0, max: 200 }),
  int('unprivileged_userfaultfd', 0, 'kept, without effect', BIT),
  ulong('user_reserve_kbytes', 0n, 'KiB kept for a user in strict overcommit; kept'),
  int('vfs_cache_pressure', 100, 'how much reclaim prefers inodes and dentries', NOT_NEGATIVE),
  int('watermark_boost_factor', 15000, 'how far a fallback raises the watermarks, in 10000ths', {
    min: 0,
  }),
  int('watermark_scale_factor', 10, 'distance of the watermarks, in 10000ths of a zone', {
    min: 1,
    max: 3000,
    written: (m) => m.kernel.setup_per_zone_wmarks(m),
  }),
  int('zone_reclaim_mode', 0, 'whether a node reclaims its own memory before using another', {
    min: 0,
    when: numa,
  }),
  pool_size('nr_hugepages'),
  pool_size('nr_hugepages_mempolicy'),
  nr_overcommit_hugepages(),
];

/** 0, or at least 8. The old value stays when the new one is refused. */
function percpu_pagelist_high_fraction(): FileRow<Machine> {
  const doc = 'each CPU may keep 1/fraction of a zone on its own lists; 0: up to the low watermark';
  const row = int('percpu_pagelist_high_fraction', 0, doc, { min: 0, written: resize_pagesets });
  return {
    ...row,
    store(m, text, ctx) {
      const old = m.sysctl['percpu_pagelist_high_fraction'] ?? 0;
      const result = row.store!(m, text, ctx);
      const now = m.sysctl['percpu_pagelist_high_fraction'] ?? 0;
      if (now === 0 || now >= 8) return result;
      m.sysctl['percpu_pagelist_high_fraction'] = old;
      resize_pagesets(m);
      return -EINVAL;
    },
  };
}

/** The size of the default pool of huge pages. Growing it takes long, so the write is a job. */
function pool_size(name: string): FileRow<Machine> {
  return {
    path: '/proc/sys/vm/' + name,
    mode: 0o644,
    show(seq, m) {
      seq.put_dec(default_hstate(m)?.max_huge_pages ?? 0).puts('\n');
    },
    store(m, text, ctx) {
      const taken = check_write(text, ctx);
      if (taken !== null) return taken;
      let count = 0;
      const parsed = parse_vector(text, 1, (_i, value, neg) => {
        count = Number(value);
        return !neg;
      });
      const h = default_hstate(m);
      if (parsed.err < 0 || h === undefined) return parsed.err;
      return resize_pool(m, h, count, parsed.taken);
    },
    doc: 'huge pages of the default size in the pool; a write grows or shrinks it',
  };
}

function* resize_pool(m: Machine, h: Hstate, count: number, taken: number): Job {
  yield* set_max_huge_pages(m, h, count, nodes_with_memory(m));
  return taken;
}

/** Huge pages beyond the pool that mappings may take. */
function nr_overcommit_hugepages(): FileRow<Machine> {
  return {
    path: '/proc/sys/vm/nr_overcommit_hugepages',
    mode: 0o644,
    show(seq, m) {
      seq.put_dec(get_overcommit(m)).puts('\n');
    },
    store(m, text, ctx) {
      const taken = check_write(text, ctx);
      if (taken !== null) return taken;
      const h = default_hstate(m);
      const parsed = parse_vector(text, 1, (_i, value, neg) => {
        if (neg || h === undefined) return false;
        set_overcommit(m, h, value);
        return true;
      });
      return parsed.err < 0 ? parsed.err : parsed.taken;
    },
    doc: 'huge pages of the default size that mappings may take beyond the pool',
  };
}

/** ipc_kern_table (ipc/ipc_sysctl.c), as far as it concerns memory. Nobody takes shared memory here. */
export const ipc_sysctl_files: readonly FileRow<Machine>[] = [
  ulong('shmmax', SHM_DEFAULT, 'largest segment of shared memory in bytes; kept', {
    dir: 'kernel',
  }),
  ulong('shmall', SHM_DEFAULT, 'pages of shared memory in all; kept', { dir: 'kernel' }),
  int('shmmni', 4096, 'segments of shared memory in all; kept', {
    dir: 'kernel',
    min: 0,
    max: 32768,
  }),
];

/** Sets every entry that has no value yet to its default: part of boot. */
export function init_sysctls(m: Machine): void {
  for (const [name, def] of INT) m.sysctl[name] ??= def(m);
  for (const [name, def] of ULONG) {
    if (m.sysctl[name] === undefined) set_ulong(m, name, def);
  }
}
