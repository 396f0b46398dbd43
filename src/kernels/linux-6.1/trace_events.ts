/**
 * Tracing of 6.1: the events of kmem, compaction, migrate and vmscan, their texts, the head of a line.
 *
 * fs/tracefs has the mechanics. Formats, numbers and lines are the recorded ones of host-6.18, names of
 * allocation flags those of the recorded 6.1 kernel (g3-direct, mm_compaction_try_to_compact_pages).
 * Linux: include/trace/events/{kmem,compaction,migrate,vmscan,mmflags}.h, kernel/trace/trace.c.
 * Differs: events without a recorded format are left out (slab objects, shrinkers, writing a page out,
 * the active list, memory cgroups, node reclaim, throttling), and set_migration_pte and
 * remove_migration_pte, since migration entries keep no young and dirty bits here. Where 6.1's own format is not recorded
 * it is 6.18's: mm_migrate_pages has nr_split, mm_vmscan_lru_isolate no isolate_mode. A page's address
 * is a hash of its frame. The columns behind the CPU are those recorded for the event, five points for
 * events that were not recorded. A filter knows no `!` and `&`, and its errors point to the first
 * column; latency-format changes nothing; stats ends with the third line.
 */
import {
  ns2usecs,
  type TraceFormat,
  type TraceLine,
  type TraceState,
  trace_option,
} from '../../fs/tracefs/trace.ts';
import {
  COMMON_FIELDS,
  type FieldSpec,
  type TraceEntry,
  type TraceEventCall,
} from '../../fs/tracefs/trace_events.ts';
import { ring_buffer_entries } from '../../lib/ring_buffer.ts';
import {
  __GFP_COMP,
  __GFP_DMA,
  __GFP_DMA32,
  __GFP_FS,
  __GFP_HARDWALL,
  __GFP_HIGH,
  __GFP_HIGHMEM,
  __GFP_IO,
  __GFP_MOVABLE,
  __GFP_NOFAIL,
  __GFP_NOMEMALLOC,
  __GFP_NORETRY,
  __GFP_NOWARN,
  __GFP_RECLAIMABLE,
  __GFP_REPEAT,
  __GFP_THISNODE,
  __GFP_WAIT,
  __GFP_ZERO,
} from '../../mm/gfp.ts';
import { type Machine, page_zone, zone_end_pfn } from '../../mm/mmzone.ts';
import { get_pageblock_migratetype } from '../../mm/pageblock.ts';
import type { MmTrace } from '../../mm/trace.ts';
import { __GFP_MEMALLOC, __GFP_NO_KSWAPD, migratetype_nr } from './gfp.ts';

// ---- allocation flags (include/linux/gfp_types.h)

/** Our bit and 6.1's. */
const GFP_BITS: readonly (readonly [number, number])[] = [
  [__GFP_DMA, 0x1],
  [__GFP_HIGHMEM, 0x2],
  [__GFP_DMA32, 0x4],
  [__GFP_MOVABLE, 0x8],
  [__GFP_RECLAIMABLE, 0x10],
  [__GFP_HIGH, 0x20],
  [__GFP_IO, 0x40],
  [__GFP_FS, 0x80],
  [__GFP_ZERO, 0x100],
  [__GFP_WAIT, 0x400],
  [__GFP_NOWARN, 0x2000],
  [__GFP_REPEAT, 0x4000],
  [__GFP_NOFAIL, 0x8000],
  [__GFP_NORETRY, 0x10000],
  [__GFP_MEMALLOC, 0x20000],
  [__GFP_COMP, 0x40000],
  [__GFP_NOMEMALLOC, 0x80000],
  [__GFP_HARDWALL, 0x100000],
  [__GFP_THISNODE, 0x200000],
];
const ATOMIC = 0x200;
const KSWAPD_RECLAIM = 0x800;

/** A request's bits as 6.1 numbers them. */
export function gfp_bits(gfp: number): number {
  let bits = (gfp & __GFP_NO_KSWAPD) === 0 ? KSWAPD_RECLAIM : 0;
  for (const [ours, theirs] of GFP_BITS) if ((gfp & ours) !== 0) bits |= theirs;
  // Who may use reserves and cannot wait is atomic.
  if ((gfp & (__GFP_HIGH | __GFP_WAIT)) === __GFP_HIGH) bits |= ATOMIC;
  return bits;
}

/** A mask as the preprocessor leaves it, and its value. */
interface Mask {
  readonly text: string;
  readonly bits: number;
}

const flag = (bits: number): Mask => ({
  text: `(( gfp_t)0x${bits.toString(16).padStart(2, '0')}u)`,
  bits,
});
const any = (...masks: readonly Mask[]): Mask => ({
  text: `(${masks.map(({ text }) => text).join(' | ')})`,
  bits: masks.reduce((bits, mask) => bits | mask.bits, 0),
});

const RECLAIM: Mask = { text: '(( gfp_t)(0x400u|0x800u))', bits: 0xc00 };
const GFP_KERNEL_MASK = any(RECLAIM, flag(0x40), flag(0x80));
const GFP_USER_MASK = any(RECLAIM, flag(0x40), flag(0x80), flag(0x100000));
const GFP_HIGHUSER_MASK = any(GFP_USER_MASK, flag(0x2));
const GFP_HIGHUSER_MOVABLE_MASK = any(GFP_HIGHUSER_MASK, flag(0x8), {
  text: '(( gfp_t)0)',
  bits: 0,
});
const TRANSHUGE_PARTS = any(GFP_HIGHUSER_MOVABLE_MASK, flag(0x40000), flag(0x80000), flag(0x2000));
const GFP_TRANSHUGE_LIGHT_MASK: Mask = {
  text: `(${TRANSHUGE_PARTS.text} & ~${RECLAIM.text})`,
  bits: TRANSHUGE_PARTS.bits & ~RECLAIM.bits,
};

/** Composite names first, then single bits (mmflags.h: __def_gfpflag_names). */
const GFP_NAMES: readonly (readonly [string, Mask])[] = [
  ['GFP_TRANSHUGE', any(GFP_TRANSHUGE_LIGHT_MASK, flag(0x400))],
  ['GFP_TRANSHUGE_LIGHT', GFP_TRANSHUGE_LIGHT_MASK],
  ['GFP_HIGHUSER_MOVABLE', GFP_HIGHUSER_MOVABLE_MASK],
  ['GFP_HIGHUSER', GFP_HIGHUSER_MASK],
  ['GFP_USER', GFP_USER_MASK],
  ['GFP_KERNEL_ACCOUNT', any(GFP_KERNEL_MASK, flag(0x400000))],
  ['GFP_KERNEL', GFP_KERNEL_MASK],
  ['GFP_NOFS', any(RECLAIM, flag(0x40))],
  ['GFP_ATOMIC', { text: '((( gfp_t)0x20u)|(( gfp_t)0x200u)|(( gfp_t)0x800u))', bits: 0xa20 }],
  ['GFP_NOIO', any(RECLAIM)],
  ['GFP_NOWAIT', any(flag(0x800))],
  ['GFP_DMA', flag(0x1)],
  ['__GFP_HIGHMEM', flag(0x2)],
  ['GFP_DMA32', flag(0x4)],
  ['__GFP_HIGH', flag(0x20)],
  ['__GFP_ATOMIC', flag(0x200)],
  ['__GFP_IO', flag(0x40)],
  ['__GFP_FS', flag(0x80)],
  ['__GFP_NOWARN', flag(0x2000)],
  ['__GFP_RETRY_MAYFAIL', flag(0x4000)],
  ['__GFP_NOFAIL', flag(0x8000)],
  ['__GFP_NORETRY', flag(0x10000)],
  ['__GFP_COMP', flag(0x40000)],
  ['__GFP_ZERO', flag(0x100)],
  ['__GFP_NOMEMALLOC', flag(0x80000)],
  ['__GFP_MEMALLOC', flag(0x20000)],
  ['__GFP_HARDWALL', flag(0x100000)],
  ['__GFP_THISNODE', flag(0x200000)],
  ['__GFP_RECLAIMABLE', flag(0x10)],
  ['__GFP_MOVABLE', flag(0x8)],
  ['__GFP_ACCOUNT', flag(0x400000)],
  ['__GFP_WRITE', flag(0x1000)],
  ['__GFP_RECLAIM', RECLAIM],
  ['__GFP_DIRECT_RECLAIM', flag(0x400)],
  ['__GFP_KSWAPD_RECLAIM', flag(0x800)],
];

/** The names of 6.1's bits, joined by `|` (trace_output.c: trace_print_flags_seq). */
export function show_gfp_flags(bits: number): string {
  if (bits === 0) return 'none';
  const names: string[] = [];
  let left = bits;
  for (const [name, mask] of GFP_NAMES) {
    if (left === 0) break;
    if ((left & mask.bits) !== mask.bits) continue;
    names.push(name);
    left &= ~mask.bits;
  }
  if (left !== 0) names.push(`0x${left.toString(16)}`);
  return names.join('|');
}

const gfp_expression = (field: string): string => {
  const rows = GFP_NAMES.map(([name, mask]) => `{( unsigned long)${mask.text}, "${name}"}`);
  return `(REC->${field}) ? __print_flags(REC->${field}, "|", ${rows.join(', ')} ) : "none"`;
};

// ---- symbols

type Symbols = readonly (readonly [number, string])[];

/** The symbol of a number; one without is printed in hex (trace_print_symbols_seq). */
const symbol = (symbols: Symbols, value: number): string =>
  symbols.find(([number]) => number === value)?.[1] ?? `0x${(value >>> 0).toString(16)}`;

const symbolic = (field: string, symbols: Symbols): string =>
  `__print_symbolic(REC->${field}, ${symbols.map(([n, name]) => `{${n}, "${name}"}`).join(', ')})`;

const ZONE_TYPES: Symbols = [
  [0, 'DMA'],
  [1, 'DMA32'],
  [2, 'Normal'],
  [3, 'Movable'],
];
const COMPACTION_STATUS: Symbols = [
  [1, 'skipped'],
  [2, 'deferred'],
  [4, 'continue'],
  [8, 'success'],
  [6, 'partial_skipped'],
  [5, 'complete'],
  [3, 'no_suitable_page'],
  [0, 'not_suitable_zone'],
  [7, 'contended'],
];
const MIGRATE_MODES: Symbols = [
  [0, 'MIGRATE_ASYNC'],
  [1, 'MIGRATE_SYNC_LIGHT'],
  [2, 'MIGRATE_SYNC'],
];
const MIGRATE_REASONS: Symbols = [
  [0, 'compaction'],
  [1, 'memory_failure'],
  [2, 'memory_hotplug'],
  [3, 'syscall_or_cpuset'],
  [4, 'mempolicy_mbind'],
  [5, 'numa_misplaced'],
  [6, 'contig_range'],
  [7, 'longterm_pin'],
  [8, 'demotion'],
  [9, 'damon'],
];
const LRU_NAMES: Symbols = [
  [0, 'inactive_anon'],
  [1, 'active_anon'],
  [2, 'inactive_file'],
  [3, 'active_file'],
  [4, 'unevictable'],
];
const RECLAIM_FLAGS: Symbols = [
  [0x1, 'RECLAIM_WB_ANON'],
  [0x2, 'RECLAIM_WB_FILE'],
  [0x10, 'RECLAIM_WB_MIXED'],
  [0x4, 'RECLAIM_WB_SYNC'],
  [0x8, 'RECLAIM_WB_ASYNC'],
];

// ---- rows

/** irqs-off and preempt depth of an event that fires inside the zone's lock, as recorded. */
const IN_ZONE_LOCK = 0x0301;
const PREEMPT_2 = 0x0200;

type EventName = Exclude<keyof MmTrace, 'listeners' | 'values'>;
type Assign = TraceEventCall['assign'];

/** `unsigned long pfn` and the like. */
function field(declaration: string): FieldSpec {
  const at = declaration.lastIndexOf(' ');
  const type = declaration.slice(0, at);
  const kind =
    type === 'unsigned long' ? 'long' : type === 'int' ? 'int' : type === 'bool' ? 'bool' : 'uint';
  return { declaration, name: declaration.slice(at + 1), kind };
}

/** Fields from the tracepoint's arguments in their order. */
const in_order: Assign = (_m, to, a, b, c, d, e) => {
  to[0] = a;
  to[1] = b;
  to[2] = c;
  to[3] = d;
  to[4] = e;
};

interface Row {
  readonly id: number;
  /** Name in the trace, and of the tracepoint where that differs. */
  readonly name: string;
  readonly point?: EventName;
  readonly fields: readonly string[];
  readonly assign?: Assign;
  readonly print: (e: TraceEntry) => string;
  readonly fmt: string;
  readonly context?: number;
}

const event = (system: string, row: Row): TraceEventCall => ({
  name: row.name,
  system,
  id: row.id,
  fields: row.fields.map(field),
  point: (m) => m.trace[row.point ?? (row.name as EventName)],
  assign: row.assign ?? in_order,
  print: row.print,
  print_fmt: () => row.fmt,
  context: row.context ?? 0,
});

// ---- kmem

/** `%p` of a page: the kernel hashes addresses, so that they tell nothing but that they are equal. */
function hashed_page(e: TraceEntry, i: number): string {
  if (e.int(i) === -1) return '0'.repeat(16);
  let x = e.int(i);
  x = Math.imul(x ^ (x >>> 16), 0x85ebca6b);
  x = Math.imul(x ^ (x >>> 13), 0xc2b2ae35);
  return ((x ^ (x >>> 16)) >>> 0).toString(16).padStart(16, '0');
}

const page_and_pfn = (e: TraceEntry): string =>
  `page=${hashed_page(e, 0)} pfn=0x${e.int(0) === -1 ? '0' : e.hex(0)}`;
const PAGE = '(((struct page *)vmemmap_base) + (REC->pfn))';
const PAGE_OR_NULL = `REC->pfn != -1UL ? ${PAGE} : ((void *)0), REC->pfn != -1UL ? REC->pfn : 0`;
const BLOCK_ORDER =
  '(((unsigned int)((21 - 12))) < ((unsigned int)(10)) ? ((unsigned int)((21 - 12))) : ((unsigned int)(10)))';

const KMEM: readonly Row[] = [
  {
    id: 655,
    name: 'mm_page_free',
    point: 'mm_page_free_direct',
    fields: ['unsigned long pfn', 'unsigned int order'],
    print: (e) => `${page_and_pfn(e)} order=${e.int(1)}`,
    fmt: `"page=%p pfn=0x%lx order=%d", ${PAGE}, REC->pfn, REC->order`,
  },
  {
    id: 654,
    name: 'mm_page_free_batched',
    point: 'mm_pagevec_free',
    fields: ['unsigned long pfn'],
    print: (e) => `${page_and_pfn(e)} order=0`,
    fmt: `"page=%p pfn=0x%lx order=0", ${PAGE}, REC->pfn`,
    context: PREEMPT_2,
  },
  {
    id: 653,
    name: 'mm_page_alloc',
    fields: [
      'unsigned long pfn',
      'unsigned int order',
      'unsigned long gfp_flags',
      'int migratetype',
    ],
    assign: (_m, to, pfn, order, gfp, t) => {
      to[0] = pfn;
      to[1] = order;
      to[2] = gfp_bits(gfp);
      to[3] = migratetype_nr[t]!;
    },
    print: (e) =>
      `${page_and_pfn(e)} order=${e.int(1)} migratetype=${e.int(3)} ` +
      `gfp_flags=${show_gfp_flags(e.int(2))}`,
    fmt:
      '"page=%p pfn=0x%lx order=%d migratetype=%d gfp_flags=%s", ' +
      `${PAGE_OR_NULL}, REC->order, REC->migratetype, ${gfp_expression('gfp_flags')}`,
  },
  {
    id: 652,
    name: 'mm_page_alloc_zone_locked',
    fields: ['unsigned long pfn', 'unsigned int order', 'int migratetype', 'int percpu_refill'],
    assign: (_m, to, pfn, order, t, pcp) => {
      to[0] = pfn;
      to[1] = order;
      to[2] = migratetype_nr[t]!;
      to[3] = pcp;
    },
    print: (e) =>
      `${page_and_pfn(e)} order=${e.uint(1)} migratetype=${e.int(2)} percpu_refill=${e.int(3)}`,
    fmt:
      '"page=%p pfn=0x%lx order=%u migratetype=%d percpu_refill=%d", ' +
      `${PAGE_OR_NULL}, REC->order, REC->migratetype, REC->percpu_refill`,
    context: IN_ZONE_LOCK,
  },
  {
    id: 651,
    name: 'mm_page_pcpu_drain',
    fields: ['unsigned long pfn', 'unsigned int order', 'int migratetype'],
    assign: (_m, to, pfn, order, t) => {
      to[0] = pfn;
      to[1] = order;
      to[2] = migratetype_nr[t]!;
    },
    print: (e) => `${page_and_pfn(e)} order=${e.int(1)} migratetype=${e.int(2)}`,
    fmt: `"page=%p pfn=0x%lx order=%d migratetype=%d", ${PAGE}, REC->pfn, REC->order, REC->migratetype`,
    context: IN_ZONE_LOCK,
  },
  {
    id: 650,
    name: 'mm_page_alloc_extfrag',
    fields: [
      'unsigned long pfn',
      'int alloc_order',
      'int fallback_order',
      'int alloc_migratetype',
      'int fallback_migratetype',
      'int change_ownership',
    ],
    // (pfn, alloc order, fallback order, alloc type, fallback type); what became of the pageblock
    // follows from its type at this moment.
    assign: (m, to, pfn, order, current, type, fallback) => {
      to[0] = pfn;
      to[1] = order;
      to[2] = current;
      to[3] = migratetype_nr[type]!;
      to[4] = migratetype_nr[fallback]!;
      to[5] = type === get_pageblock_migratetype(m, page_zone(m, pfn), pfn) ? 1 : 0;
    },
    print: (e) => {
      const { pageblock_order } = e.arch.shape;
      return (
        `${page_and_pfn(e)} alloc_order=${e.int(1)} fallback_order=${e.int(2)} ` +
        `pageblock_order=${pageblock_order} alloc_migratetype=${e.int(3)} ` +
        `fallback_migratetype=${e.int(4)} fragmenting=${e.int(2) < pageblock_order ? 1 : 0} ` +
        `change_ownership=${e.int(5)}`
      );
    },
    fmt:
      '"page=%p pfn=0x%lx alloc_order=%d fallback_order=%d pageblock_order=%d ' +
      'alloc_migratetype=%d fallback_migratetype=%d fragmenting=%d change_ownership=%d", ' +
      `${PAGE}, REC->pfn, REC->alloc_order, REC->fallback_order, ${BLOCK_ORDER}, ` +
      'REC->alloc_migratetype, REC->fallback_migratetype, ' +
      `REC->fallback_order < ${BLOCK_ORDER}, REC->change_ownership`,
    context: IN_ZONE_LOCK,
  },
];

// ---- compaction

const RANGE_FIELDS = ['start_pfn', 'end_pfn', 'nr_scanned', 'nr_taken'].map(
  (name) => `unsigned long ${name}`,
);
const print_range = (e: TraceEntry): string =>
  `range=(0x${e.hex(0)} ~ 0x${e.hex(1)}) nr_scanned=${e.value(2)} nr_taken=${e.value(3)}`;
const RANGE_FMT =
  '"range=(0x%lx ~ 0x%lx) nr_scanned=%lu nr_taken=%lu", ' +
  'REC->start_pfn, REC->end_pfn, REC->nr_scanned, REC->nr_taken';

const RUN_FIELDS = [
  'unsigned long zone_start',
  'unsigned long migrate_pfn',
  'unsigned long free_pfn',
  'unsigned long zone_end',
  'bool sync',
];
/** (migrate pfn, free pfn, sync, status, zone id). */
const assign_run: Assign = (m, to, migrate_pfn, free_pfn, sync, status, id) => {
  const zone = m.zones[id]!;
  to[0] = zone.zone_start_pfn;
  to[1] = migrate_pfn;
  to[2] = free_pfn;
  to[3] = zone_end_pfn(zone);
  to[4] = sync;
  to[5] = status;
};
const print_run = (e: TraceEntry): string =>
  `zone_start=0x${e.hex(0)} migrate_pfn=0x${e.hex(1)} free_pfn=0x${e.hex(2)} ` +
  `zone_end=0x${e.hex(3)}, mode=${e.int(4) !== 0 ? 'sync' : 'async'}`;
const RUN_FMT = '"zone_start=0x%lx migrate_pfn=0x%lx free_pfn=0x%lx zone_end=0x%lx, mode=%s';
const RUN_ARGS =
  'REC->zone_start, REC->migrate_pfn, REC->free_pfn, REC->zone_end, REC->sync ? "sync" : "async"';

const zone_name = (e: TraceEntry, i: number): string => symbol(ZONE_TYPES, e.int(i)).padEnd(8);
/** The node and the kind of the zone whose id is the first argument. */
const assign_zone = (m: Machine, to: Float64Array, id: number): void => {
  const zone = m.zones[id]!;
  to[0] = zone.nid;
  to[1] = zone.zone_idx;
};
const assign_order_ret: Assign = (m, to, id, order, ret) => {
  assign_zone(m, to, id);
  to[2] = order;
  to[3] = ret;
};
const print_order_ret = (e: TraceEntry): string =>
  `node=${e.int(0)} zone=${zone_name(e, 1)} order=${e.int(2)} ` +
  `ret=${symbol(COMPACTION_STATUS, e.int(3))}`;
const ORDER_RET_FIELDS = ['int nid', 'enum zone_type idx', 'int order', 'int ret'];
const ORDER_RET_FMT =
  `"node=%d zone=%-8s order=%d ret=%s", REC->nid, ${symbolic('idx', ZONE_TYPES)}, ` +
  `REC->order, ${symbolic('ret', COMPACTION_STATUS)}`;

const DEFER_FIELDS = [
  'int nid',
  'enum zone_type idx',
  'int order',
  'unsigned int considered',
  'unsigned int defer_shift',
  'int order_failed',
];
/** (zone id, order, order failed, considered, shift). */
const assign_defer: Assign = (m, to, id, order, failed, considered, shift) => {
  assign_zone(m, to, id);
  to[2] = order;
  to[3] = considered;
  to[4] = shift;
  to[5] = failed;
};
const print_defer = (e: TraceEntry): string =>
  `node=${e.int(0)} zone=${zone_name(e, 1)} order=${e.int(2)} order_failed=${e.int(5)} ` +
  `consider=${e.uint(3)} limit=${2 ** e.int(4)}`;
const DEFER_FMT =
  '"node=%d zone=%-8s order=%d order_failed=%d consider=%u limit=%lu", REC->nid, ' +
  `${symbolic('idx', ZONE_TYPES)}, REC->order, REC->order_failed, REC->considered, ` +
  '1UL << REC->defer_shift';
const defer = (id: number, name: string): Row => ({
  id,
  name,
  fields: DEFER_FIELDS,
  assign: assign_defer,
  print: print_defer,
  fmt: DEFER_FMT,
});

const KCOMPACTD_FIELDS = ['int nid', 'int order', 'enum zone_type highest_zoneidx'];
const kcompactd = (id: number, name: string): Row => ({
  id,
  name,
  fields: KCOMPACTD_FIELDS,
  print: (e) => `nid=${e.int(0)} order=${e.int(1)} classzone_idx=${zone_name(e, 2)}`,
  fmt:
    '"nid=%d order=%d classzone_idx=%-8s", REC->nid, REC->order, ' +
    symbolic('highest_zoneidx', ZONE_TYPES),
});

const nid_only = (id: number, name: string): Row => ({
  id,
  name,
  fields: ['int nid'],
  print: (e) => `nid=${e.int(0)}`,
  fmt: '"nid=%d", REC->nid',
});

const COMPACTION: readonly Row[] = [
  {
    id: 674,
    name: 'mm_compaction_isolate_migratepages',
    fields: RANGE_FIELDS,
    print: print_range,
    fmt: RANGE_FMT,
  },
  {
    id: 673,
    name: 'mm_compaction_isolate_freepages',
    fields: RANGE_FIELDS,
    print: print_range,
    fmt: RANGE_FMT,
  },
  {
    id: 671,
    name: 'mm_compaction_migratepages',
    fields: ['unsigned long nr_migrated', 'unsigned long nr_failed'],
    print: (e) => `nr_migrated=${e.value(0)} nr_failed=${e.value(1)}`,
    fmt: '"nr_migrated=%lu nr_failed=%lu", REC->nr_migrated, REC->nr_failed',
  },
  {
    id: 670,
    name: 'mm_compaction_begin',
    fields: RUN_FIELDS,
    assign: assign_run,
    print: print_run,
    fmt: `${RUN_FMT}", ${RUN_ARGS}`,
  },
  {
    id: 669,
    name: 'mm_compaction_end',
    fields: [...RUN_FIELDS, 'int status'],
    assign: assign_run,
    print: (e) => `${print_run(e)} status=${symbol(COMPACTION_STATUS, e.int(5))}`,
    fmt: `${RUN_FMT} status=%s", ${RUN_ARGS}, ${symbolic('status', COMPACTION_STATUS)}`,
  },
  {
    id: 668,
    name: 'mm_compaction_try_to_compact_pages',
    fields: ['int order', 'unsigned long gfp_mask', 'int prio'],
    assign: (_m, to, order, gfp, prio) => {
      to[0] = order;
      to[1] = gfp_bits(gfp);
      to[2] = prio;
    },
    print: (e) => `order=${e.int(0)} gfp_mask=${show_gfp_flags(e.int(1))} priority=${e.int(2)}`,
    fmt:
      `"order=%d gfp_mask=%s priority=%d", REC->order, ${gfp_expression('gfp_mask')}, ` +
      'REC->prio',
  },
  {
    id: 667,
    name: 'mm_compaction_finished',
    fields: ORDER_RET_FIELDS,
    assign: assign_order_ret,
    print: print_order_ret,
    fmt: ORDER_RET_FMT,
  },
  {
    id: 666,
    name: 'mm_compaction_suitable',
    fields: ORDER_RET_FIELDS,
    assign: assign_order_ret,
    print: print_order_ret,
    fmt: ORDER_RET_FMT,
  },
  defer(665, 'mm_compaction_deferred'),
  defer(664, 'mm_compaction_defer_compaction'),
  defer(663, 'mm_compaction_defer_reset'),
  nid_only(662, 'mm_compaction_kcompactd_sleep'),
  kcompactd(661, 'mm_compaction_wakeup_kcompactd'),
  kcompactd(660, 'mm_compaction_kcompactd_wake'),
];

// ---- migrate

const MODE_FIELDS = ['enum migrate_mode mode', 'int reason'];
const print_mode = (e: TraceEntry, i: number): string =>
  `mode=${symbol(MIGRATE_MODES, e.int(i))} reason=${symbol(MIGRATE_REASONS, e.int(i + 1))}`;
const MODE_ARGS = `${symbolic('mode', MIGRATE_MODES)}, ${symbolic('reason', MIGRATE_REASONS)}`;
const MIGRATE_COUNTS: readonly (readonly [string, string])[] = [
  ['nr_succeeded', 'succeeded'],
  ['nr_failed', 'failed'],
  ['nr_thp_succeeded', 'thp_succeeded'],
  ['nr_thp_failed', 'thp_failed'],
  ['nr_thp_split', 'thp_split'],
  ['nr_split', 'large_folio_split'],
];

const MIGRATE: readonly Row[] = [
  {
    id: 713,
    name: 'mm_migrate_pages',
    fields: [...MIGRATE_COUNTS.map(([, name]) => `unsigned long ${name}`), ...MODE_FIELDS],
    // (pages that moved, pages that did not, mode, reason)
    assign: (_m, to, succeeded, failed, mode, reason) => {
      to.fill(0, 0, MIGRATE_COUNTS.length);
      to[0] = succeeded;
      to[1] = failed;
      to[MIGRATE_COUNTS.length] = mode;
      to[MIGRATE_COUNTS.length + 1] = reason;
    },
    print: (e) =>
      MIGRATE_COUNTS.map(([label], i) => `${label}=${e.value(i)} `).join('') +
      print_mode(e, MIGRATE_COUNTS.length),
    fmt:
      `"${MIGRATE_COUNTS.map(([label]) => `${label}=%lu `).join('')}mode=%s reason=%s", ` +
      `${MIGRATE_COUNTS.map(([, name]) => `REC->${name}, `).join('')}${MODE_ARGS}`,
  },
  {
    id: 712,
    name: 'mm_migrate_pages_start',
    fields: MODE_FIELDS,
    print: (e) => print_mode(e, 0),
    fmt: `"mode=%s reason=%s", ${MODE_ARGS}`,
  },
];

// ---- vmscan

/** What mm_vmscan_lru_shrink_inactive counts, as it prints them, and the fields. */
const SHRINK_COUNTS: readonly (readonly [string, string])[] = [
  ['nr_scanned', 'unsigned long nr_scanned'],
  ['nr_reclaimed', 'unsigned long nr_reclaimed'],
  ['nr_dirty', 'unsigned long nr_dirty'],
  ['nr_writeback', 'unsigned long nr_writeback'],
  ['nr_congested', 'unsigned long nr_congested'],
  ['nr_immediate', 'unsigned long nr_immediate'],
  ['nr_activate_anon', 'unsigned int nr_activate0'],
  ['nr_activate_file', 'unsigned int nr_activate1'],
  ['nr_ref_keep', 'unsigned long nr_ref_keep'],
  ['nr_unmap_fail', 'unsigned long nr_unmap_fail'],
];
const count_field = (declaration: string): string =>
  declaration.slice(declaration.lastIndexOf(' ') + 1);
const count_format = (declaration: string): string =>
  declaration.startsWith('unsigned long') ? '%ld' : '%d';

function print_reclaim_flags(flags: number): string {
  if (flags === 0) return 'RECLAIM_WB_NONE';
  return RECLAIM_FLAGS.filter(([bit]) => (flags & bit) !== 0)
    .map(([, name]) => name)
    .join('|');
}

const RECLAIM_EXPRESSION =
  '(REC->reclaim_flags) ? __print_flags(REC->reclaim_flags, "|", ' +
  RECLAIM_FLAGS.map(([bit, name]) => `{0x${bit.toString(16).padStart(4, '0')}u, "${name}"}`).join(
    ', ',
  ) +
  ' ) : "RECLAIM_WB_NONE"';

const VMSCAN: readonly Row[] = [
  nid_only(640, 'mm_vmscan_kswapd_sleep'),
  {
    id: 639,
    name: 'mm_vmscan_kswapd_wake',
    fields: ['int nid', 'int zid', 'int order'],
    print: (e) => `nid=${e.int(0)} order=${e.int(2)}`,
    fmt: '"nid=%d order=%d", REC->nid, REC->order',
  },
  {
    id: 638,
    name: 'mm_vmscan_wakeup_kswapd',
    fields: ['int nid', 'int zid', 'int order', 'unsigned long gfp_flags'],
    assign: (_m, to, nid, zid, order, gfp) => {
      to[0] = nid;
      to[1] = zid;
      to[2] = order;
      to[3] = gfp_bits(gfp);
    },
    print: (e) => `nid=${e.int(0)} order=${e.int(2)} gfp_flags=${show_gfp_flags(e.int(3))}`,
    fmt: `"nid=%d order=%d gfp_flags=%s", REC->nid, REC->order, ${gfp_expression('gfp_flags')}`,
  },
  {
    id: 637,
    name: 'mm_vmscan_direct_reclaim_begin',
    fields: ['int order', 'unsigned long gfp_flags'],
    assign: (_m, to, order, gfp) => {
      to[0] = order;
      to[1] = gfp_bits(gfp);
    },
    print: (e) => `order=${e.int(0)} gfp_flags=${show_gfp_flags(e.int(1))}`,
    fmt: `"order=%d gfp_flags=%s", REC->order, ${gfp_expression('gfp_flags')}`,
  },
  {
    id: 634,
    name: 'mm_vmscan_direct_reclaim_end',
    fields: ['unsigned long nr_reclaimed'],
    print: (e) => `nr_reclaimed=${e.value(0)}`,
    fmt: '"nr_reclaimed=%lu", REC->nr_reclaimed',
  },
  {
    id: 629,
    name: 'mm_vmscan_lru_isolate',
    fields: [
      'int highest_zoneidx',
      'int order',
      ...['nr_requested', 'nr_scanned', 'nr_skipped', 'nr_taken'].map((n) => `unsigned long ${n}`),
      'int lru',
    ],
    // (highest zone, order, list, pages taken); pages asked for and looked at in m.trace.values.
    assign: (m, to, highest_zoneidx, order, lru, taken) => {
      to[0] = highest_zoneidx;
      to[1] = order;
      to[2] = m.trace.values[0]!;
      to[3] = m.trace.values[1]!;
      to[4] = 0;
      to[5] = taken;
      to[6] = lru;
    },
    print: (e) =>
      `classzone=${e.int(0)} order=${e.int(1)} nr_requested=${e.value(2)} ` +
      `nr_scanned=${e.value(3)} nr_skipped=${e.value(4)} nr_taken=${e.value(5)} ` +
      `lru=${symbol(LRU_NAMES, e.int(6))}`,
    fmt:
      '"classzone=%d order=%d nr_requested=%lu nr_scanned=%lu nr_skipped=%lu nr_taken=%lu lru=%s", ' +
      'REC->highest_zoneidx, REC->order, REC->nr_requested, REC->nr_scanned, REC->nr_skipped, ' +
      `REC->nr_taken, ${symbolic('lru', LRU_NAMES)}`,
  },
  {
    id: 626,
    name: 'mm_vmscan_lru_shrink_inactive',
    fields: [
      'int nid',
      ...SHRINK_COUNTS.map(([, declaration]) => declaration),
      'int priority',
      'int reclaim_flags',
    ],
    // (node, priority, file); the counts in m.trace.values.
    assign: (m, to, nid, priority, file) => {
      to[0] = nid;
      for (let i = 0; i < SHRINK_COUNTS.length; i++) to[1 + i] = m.trace.values[i]!;
      to[1 + SHRINK_COUNTS.length] = priority;
      to[2 + SHRINK_COUNTS.length] = (file !== 0 ? 0x2 : 0x1) | 0x8;
    },
    print: (e) =>
      `nid=${e.int(0)} ` +
      SHRINK_COUNTS.map(([label], i) => `${label}=${e.value(1 + i)} `).join('') +
      `priority=${e.int(11)} flags=${print_reclaim_flags(e.int(12))}`,
    fmt:
      `"nid=%d ${SHRINK_COUNTS.map(([label, d]) => `${label}=${count_format(d)} `).join('')}` +
      'priority=%d flags=%s", REC->nid, ' +
      SHRINK_COUNTS.map(([, d]) => `REC->${count_field(d)}, `).join('') +
      `REC->priority, ${RECLAIM_EXPRESSION}`,
  },
];

// ---- lines

const IRQ_HELP =
  '#                                _-----=> irqs-off/BH-disabled\n' +
  '#                               / _----=> need-resched\n' +
  '#                              | / _---=> hardirq/softirq\n' +
  '#                              || / _--=> preempt-depth\n' +
  '#                              ||| / _-=> migrate-disable\n' +
  '#                              |||| /     delay\n' +
  '#           TASK-PID     CPU#  |||||  TIMESTAMP  FUNCTION\n' +
  '#              | |         |   |||||     |         |\n';
const FUNC_HELP =
  '#           TASK-PID     CPU#     TIMESTAMP  FUNCTION\n' +
  '#              | |         |         |         |\n';

/** trace.c: trace_default_header, print_event_info. */
function header(m: Machine, t: TraceState): string {
  if (!trace_option(t, 'context-info')) return '';
  let entries = 0;
  let total = 0;
  for (const b of t.buffers) {
    entries += ring_buffer_entries(b);
    total += ring_buffer_entries(b) + b.overrun;
  }
  return (
    `# tracer: ${t.tracer}\n#\n` +
    `# entries-in-buffer/entries-written: ${entries}/${total}   #P:${m.shape.nr_cpus}\n#\n` +
    (trace_option(t, 'irq-info') ? IRQ_HELP : FUNC_HELP)
  );
}

/** trace_output.c: trace_print_context, trace_print_lat_fmt. */
function context(t: TraceState, line: TraceLine): string {
  const usecs = ns2usecs(line.ns);
  const secs = String(Math.floor(usecs / 1e6)).padStart(5);
  const rest = String(usecs % 1e6).padStart(6, '0');
  const who = `${line.comm.padStart(16)}-${String(line.pid).padEnd(7)}`;
  const depth = line.preempt_count === 0 ? '.' : line.preempt_count.toString(16);
  // Nobody waits for the CPU, nothing runs in interrupts, nobody forbids migration.
  const flags = trace_option(t, 'irq-info')
    ? `${(line.flags & 1) !== 0 ? 'd' : '.'}..${depth}. `
    : '';
  return `${who} [${String(line.cpu).padStart(3, '0')}] ${flags}${secs}.${rest}: `;
}

/** What tracing is in this kernel. */
export const trace_6_1: TraceFormat = {
  events: [
    ...MIGRATE.map((row) => event('migrate', row)),
    ...COMPACTION.map((row) => event('compaction', row)),
    ...KMEM.map((row) => event('kmem', row)),
    ...VMSCAN.map((row) => event('vmscan', row)),
  ],
  common_fields: COMMON_FIELDS,
  common_tail: [],
  addresses: () => ({
    vmemmap: [0xffffea00, 0],
    page_offset: [0xffff8880, 0],
    text: [0xffffffff, 0x81000000],
  }),
  options: [
    'print-parent',
    'sym-offset',
    'sym-addr',
    'verbose',
    'raw',
    'hex',
    'bin',
    'block',
    'trace_printk',
    'annotate',
    'userstacktrace',
    'sym-userobj',
    'printk-msg-only',
    'context-info',
    'latency-format',
    'record-cmd',
    'record-tgid',
    'overwrite',
    'disable_on_free',
    'irq-info',
    'markers',
    'event-fork',
    'pause-on-trace',
    'hash-ptr',
  ],
  default_options: [
    'print-parent',
    'trace_printk',
    'annotate',
    'context-info',
    'record-cmd',
    'overwrite',
    'irq-info',
    'markers',
    'hash-ptr',
  ],
  tracers: ['nop'],
  clocks: [
    'local',
    'global',
    'counter',
    'uptime',
    'perf',
    'mono',
    'mono_raw',
    'boot',
    'tai',
    'x86-tsc',
  ],
  mark: 'tracing_mark_write: ',
  header,
  context,
  directories: ['/sys/kernel/tracing', '/sys/kernel/debug/tracing'],
  read_mode: 0o440,
  write_mode: 0o640,
  tracing_enabled: false,
};
