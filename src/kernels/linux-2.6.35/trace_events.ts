/**
 * Tracing of 2.6.35: the events that memory management fires, what they print, its options and texts.
 *
 * fs/tracefs has the mechanics. Call sites have no counterpart here: each cache has one address in
 * the kernel's text. Linux: include/trace/events/kmem.h, kernel/trace/{trace,trace_output}.c
 * (v2.6.35). Differs: x86 (flat memory) places mem_map at a fixed address; formats of x86 and ppc64
 * follow from the rules, not from recordings; of the events only kmem's are there; the text of
 * latency-format was compared with no recording.
 */

import {
  ns2usecs,
  type TraceFormat,
  type TraceLine,
  type TraceState,
  trace_option,
} from '../../fs/tracefs/trace.ts';
import {
  type AddressSpaceLayout,
  COMMON_FIELDS,
  common_field,
  type FieldSpec,
  type TraceEntry,
  type TraceEventCall,
} from '../../fs/tracefs/trace_events.ts';
import { ring_buffer_entries } from '../../lib/ring_buffer.ts';
import type { Machine, Shape } from '../../mm/mmzone.ts';
import type { MmTrace } from '../../mm/trace.ts';

type EventName = Exclude<keyof MmTrace, 'listeners' | 'values'>;

// ---- names of allocation flags (include/trace/events/kmem.h: show_gfp_flags)

/** Name, bits, and whether the kernel's macro has parentheses of its own. */
const GFP_FLAGS: readonly [string, readonly number[], boolean][] = [
  ['GFP_HIGHUSER_MOVABLE', [0x10, 0x40, 0x80, 0x20000, 0x02, 0x08], true],
  ['GFP_HIGHUSER', [0x10, 0x40, 0x80, 0x20000, 0x02], true],
  ['GFP_USER', [0x10, 0x40, 0x80, 0x20000], true],
  ['GFP_TEMPORARY', [0x10, 0x40, 0x80, 0x80000], true],
  ['GFP_KERNEL', [0x10, 0x40, 0x80], true],
  ['GFP_NOFS', [0x10, 0x40], true],
  ['GFP_ATOMIC', [0x20], true],
  ['GFP_NOIO', [0x10], true],
  ['GFP_HIGH', [0x20], false],
  ['GFP_WAIT', [0x10], false],
  ['GFP_IO', [0x40], false],
  ['GFP_COLD', [0x100], false],
  ['GFP_NOWARN', [0x200], false],
  ['GFP_REPEAT', [0x400], false],
  ['GFP_NOFAIL', [0x800], false],
  ['GFP_NORETRY', [0x1000], false],
  ['GFP_COMP', [0x4000], false],
  ['GFP_ZERO', [0x8000], false],
  ['GFP_NOMEMALLOC', [0x10000], false],
  ['GFP_HARDWALL', [0x20000], false],
  ['GFP_THISNODE', [0x40000], false],
  ['GFP_RECLAIMABLE', [0x80000], false],
  ['GFP_MOVABLE', [0x08], false],
];
const GFP_MASKS: readonly number[] = GFP_FLAGS.map(([, bits]) => bits.reduce((a, b) => a | b, 0));

/** `GFP_USER|GFP_NOWARN`; what has no name is left as hex; no flag at all is GFP_NOWAIT. */
export function show_gfp_flags(gfp: number): string {
  if (gfp === 0) return 'GFP_NOWAIT';
  const names: string[] = [];
  let left = gfp;
  for (let i = 0; i < GFP_FLAGS.length && left !== 0; i++) {
    const mask = GFP_MASKS[i]!;
    if ((left & mask) !== mask) continue;
    names.push(GFP_FLAGS[i]![0]);
    left &= ~mask;
  }
  if (left !== 0) names.push('0x' + (left >>> 0).toString(16));
  return names.join('|');
}

/** The bits of such a text; -1 when a name is unknown. */
export function parse_gfp_flags(text: string): number {
  let gfp = 0;
  for (const name of text.split('|')) {
    if (name === 'GFP_NOWAIT') continue;
    const at = GFP_FLAGS.findIndex((row) => row[0] === name);
    const bits = at < 0 ? Number(name) : GFP_MASKS[at]!;
    if (!Number.isInteger(bits)) return -1;
    gfp |= bits;
  }
  return gfp;
}

/** The C expression that format files show for it. */
const GFP_EXPRESSION = (() => {
  const rows = GFP_FLAGS.map(([name, bits, macro]) => {
    const parts = bits.map((bit) => `(( gfp_t)0x${bit.toString(16).padStart(2, '0')}u)`);
    const value = macro ? `(${parts.join(' | ')})` : parts[0];
    return `{(unsigned long)${value}, "${name}"}`;
  });
  return `(REC->gfp_flags) ? __print_flags(REC->gfp_flags, "|", ${rows.join(', ')} ) : "GFP_NOWAIT"`;
})();

// ---- the events

function page_to_pfn_expression(shape: Shape): string {
  if (shape.flatmem) return '((unsigned long)((REC->page) - mem_map) + (0UL))';
  const base = shape.machine === 'ppc64' ? '0xf000000000000000UL' : '0xffffea0000000000UL';
  return `(unsigned long)((REC->page) - ((struct page *)(${base})))`;
}

/** pageblock_order after the preprocessor: of huge pages whose size is fixed, or a variable. */
function pageblock_order_expression(shape: Shape): string {
  if (shape.machine === 'ppc64') return 'pageblock_order';
  return `(${shape.pageblock_order + shape.page_shift} - ${shape.page_shift})`;
}

const PAGE: FieldSpec = { declaration: 'struct page * page', name: 'page', kind: 'page' };
const PTR: FieldSpec = { declaration: 'const void * ptr', name: 'ptr', kind: 'pointer' };
const CALL_SITE: FieldSpec = {
  declaration: 'unsigned long call_site',
  name: 'call_site',
  kind: 'text address',
};
const BYTES_REQ: FieldSpec = { declaration: 'size_t bytes_req', name: 'bytes_req', kind: 'long' };
const BYTES_ALLOC: FieldSpec = {
  declaration: 'size_t bytes_alloc',
  name: 'bytes_alloc',
  kind: 'long',
};
const GFP: FieldSpec = { declaration: 'gfp_t gfp_flags', name: 'gfp_flags', kind: 'uint' };
const int = (name: string): FieldSpec => ({ declaration: `int ${name}`, name, kind: 'int' });
const uint = (name: string): FieldSpec => ({
  declaration: `unsigned int ${name}`,
  name,
  kind: 'uint',
});

/** A page event: most differ in what follows the page only. */
function page_event(
  id: number,
  name: EventName,
  fields: readonly FieldSpec[],
  /** Which argument of the tracepoint each field takes; the page is the first. */
  args: readonly number[],
  print: (e: TraceEntry) => string,
  fmt: string,
  values: (shape: Shape) => string,
): TraceEventCall {
  return {
    name,
    system: 'kmem',
    id,
    fields: [PAGE, ...fields],
    point: (m) => m.trace[name],
    assign(_m, to, a, ...rest) {
      to[0] = a;
      for (let i = 0; i < args.length; i++) to[1 + i] = rest[args[i]!]!;
    },
    print: (e) => `page=${e.pointer(0)} pfn=${e.pfn(0)} ${print(e)}`,
    print_fmt: (shape) =>
      `"page=%p pfn=%lu ${fmt}", REC->page, ${page_to_pfn_expression(shape)}, ${values(shape)}`,
  };
}

/** Where an object lies: byte of physical memory, -1 for none. */
function object_address(m: Machine, cache: number, object: number, pfn: number): number {
  const page_size = 2 ** m.shape.page_shift;
  if (cache < 0) return object < 0 ? -1 : object * page_size;
  if (object === 0) return -1;
  const s = m.slab.caches[cache]!;
  return pfn * page_size + ((object - 1) % s.objects) * s.size;
}

/** Offset in the kernel's text that stands for the callers of a cache. */
function call_site(cache: number): number {
  return 0x100000 + (cache + 1) * 0x100;
}

function alloc_event(id: number, name: EventName, node: boolean): TraceEventCall {
  return {
    name,
    system: 'kmem',
    id,
    fields: [CALL_SITE, PTR, BYTES_REQ, BYTES_ALLOC, GFP, ...(node ? [int('node')] : [])],
    point: (m) => m.trace[name],
    assign(m, to, cache, object, bytes, gfp, nid_or_order) {
      const s = m.slab.caches[cache];
      const pfn = s !== undefined && object > 0 ? s.object_pfn(object) : -1;
      to[0] = call_site(cache);
      to[1] = object_address(m, cache, object, pfn);
      to[2] = bytes;
      to[3] = s === undefined ? 2 ** (m.shape.page_shift + nid_or_order) : s.size;
      to[4] = gfp;
      to[5] = nid_or_order;
    },
    print(e) {
      const text =
        `call_site=${e.hex(0)} ptr=${e.pointer(1)} bytes_req=${e.value(2)} ` +
        `bytes_alloc=${e.value(3)} gfp_flags=${show_gfp_flags(e.int(4))}`;
      return node ? `${text} node=${e.int(5)}` : text;
    },
    print_fmt: () =>
      '"call_site=%lx ptr=%p bytes_req=%zu bytes_alloc=%zu gfp_flags=%s' +
      (node ? ' node=%d' : '') +
      '", REC->call_site, REC->ptr, REC->bytes_req, REC->bytes_alloc, ' +
      GFP_EXPRESSION +
      (node ? ', REC->node' : ''),
  };
}

function free_event(id: number, name: EventName): TraceEventCall {
  return {
    name,
    system: 'kmem',
    id,
    fields: [CALL_SITE, PTR],
    point: (m) => m.trace[name],
    assign(m, to, cache, object, pfn) {
      to[0] = call_site(cache);
      to[1] = object_address(m, cache, object, pfn);
    },
    print: (e) => `call_site=${e.hex(0)} ptr=${e.pointer(1)}`,
    print_fmt: () => '"call_site=%lx ptr=%p", REC->call_site, REC->ptr',
  };
}

/** All events, in the order of available_events. */
const TRACE_EVENTS: readonly TraceEventCall[] = [
  alloc_event(76, 'kmalloc', false),
  alloc_event(75, 'kmem_cache_alloc', false),
  alloc_event(74, 'kmalloc_node', true),
  alloc_event(73, 'kmem_cache_alloc_node', true),
  free_event(72, 'kfree'),
  free_event(71, 'kmem_cache_free'),
  page_event(
    70,
    'mm_page_free_direct',
    [uint('order')],
    [0],
    (e) => `order=${e.int(1)}`,
    'order=%d',
    () => 'REC->order',
  ),
  page_event(
    69,
    'mm_pagevec_free',
    [int('cold')],
    [1],
    (e) => `order=0 cold=${e.int(1)}`,
    'order=0 cold=%d',
    () => 'REC->cold',
  ),
  page_event(
    68,
    'mm_page_alloc',
    [uint('order'), GFP, int('migratetype')],
    [0, 1, 2],
    (e) => `order=${e.int(1)} migratetype=${e.int(3)} gfp_flags=${show_gfp_flags(e.int(2))}`,
    'order=%d migratetype=%d gfp_flags=%s',
    () => `REC->order, REC->migratetype, ${GFP_EXPRESSION}`,
  ),
  page_event(
    67,
    'mm_page_alloc_zone_locked',
    [uint('order'), int('migratetype')],
    [0, 1],
    (e) => `order=${e.uint(1)} migratetype=${e.int(2)} percpu_refill=${e.int(1) === 0 ? 1 : 0}`,
    'order=%u migratetype=%d percpu_refill=%d',
    () => 'REC->order, REC->migratetype, REC->order == 0',
  ),
  page_event(
    66,
    'mm_page_pcpu_drain',
    [uint('order'), int('migratetype')],
    [0, 1],
    (e) => `order=${e.int(1)} migratetype=${e.int(2)}`,
    'order=%d migratetype=%d',
    () => 'REC->order, REC->migratetype',
  ),
  page_event(
    65,
    'mm_page_alloc_extfrag',
    [
      int('alloc_order'),
      int('fallback_order'),
      int('alloc_migratetype'),
      int('fallback_migratetype'),
    ],
    [0, 1, 2, 3],
    (e) => {
      const block = e.arch.shape.pageblock_order;
      return (
        `alloc_order=${e.int(1)} fallback_order=${e.int(2)} pageblock_order=${block} ` +
        `alloc_migratetype=${e.int(3)} fallback_migratetype=${e.int(4)} ` +
        `fragmenting=${e.int(2) < block ? 1 : 0} change_ownership=${e.int(3) === e.int(4) ? 1 : 0}`
      );
    },
    'alloc_order=%d fallback_order=%d pageblock_order=%d alloc_migratetype=%d ' +
      'fallback_migratetype=%d fragmenting=%d change_ownership=%d',
    (shape) => {
      const block = pageblock_order_expression(shape);
      return (
        `REC->alloc_order, REC->fallback_order, ${block}, REC->alloc_migratetype, ` +
        `REC->fallback_migratetype, REC->fallback_order < ${block}, ` +
        'REC->alloc_migratetype == REC->fallback_migratetype'
      );
    },
  ),
];

// ---- lines

const UTS_RELEASE = '2.6.35';

const FUNC_HELP =
  '#           TASK-PID    CPU#    TIMESTAMP  FUNCTION\n' +
  '#              | |       |          |         |\n';
const LAT_HELP =
  '#                  _------=> CPU#            \n' +
  '#                 / _-----=> irqs-off        \n' +
  '#                | / _----=> need-resched    \n' +
  '#                || / _---=> hardirq/softirq \n' +
  '#                ||| / _--=> preempt-depth   \n' +
  '#                |||| /_--=> lock-depth       \n' +
  '#                |||||/     delay             \n' +
  '#  cmd     pid   |||||| time  |   caller      \n' +
  '#     \\   /      ||||||   \\   |   /           \n';

/** What `trace` begins with (trace_default_header). */
function trace_header(m: Machine, t: TraceState): string {
  const head = `# tracer: ${t.tracer}\n#\n`;
  if (!trace_option(t, 'context-info')) return head;
  const verbose = trace_option(t, 'verbose');
  if (!trace_option(t, 'latency-format')) return verbose ? head : head + FUNC_HELP;
  let entries = 0;
  let total = 0;
  for (const b of t.buffers) {
    entries += ring_buffer_entries(b);
    total += ring_buffer_entries(b) + b.overrun;
  }
  if (entries === 0) return head;
  return (
    `${head}# ${t.tracer} latency trace v1.1.5 on ${UTS_RELEASE}\n` +
    '# --------------------------------------------------------------------\n' +
    `# latency: 0 us, #${entries}/${total}, CPU#0 | (M:desktop VP:0, KP:0, SP:0 HP:0` +
    ` #P:${m.shape.nr_cpus})\n` +
    '#    -----------------\n' +
    '#    | task: -0 (uid:0 nice:0 policy:0 rt_prio:0)\n' +
    '#    -----------------\n#\n' +
    (verbose ? '' : LAT_HELP)
  );
}

/** trace_print_lat_context: processes are never in interrupts and hold no locks here. */
function latency_context(t: TraceState, { cpu, comm, pid, ns, next, idx }: TraceLine): string {
  const abs = ns2usecs(ns - t.time_start);
  const rel = ns2usecs(next - ns);
  if (trace_option(t, 'verbose')) {
    const ms = (us: number): string =>
      `${Math.floor(us / 1000)}.${String(us % 1000).padStart(3, '0')}ms`;
    const hex = (n: number): string => n.toString(16).padStart(8, '0');
    return (
      `${comm.padStart(16)} ${String(pid).padStart(5)} ${String(cpu).padStart(3)} 0 ` +
      `${hex(0)} ${hex(idx)} [${hex(ns2usecs(ns))}] ${ms(abs)} (+${ms(rel)}): `
    );
  }
  const mark = rel > 100 ? '!' : rel > 1 ? '+' : ' ';
  const who = `${comm.slice(0, 8).padStart(8)}-${String(pid).padEnd(5)}`;
  return `${who} ${String(cpu).padStart(3)}..... ${String(abs).padStart(4)}us${mark}: `;
}

/** trace_print_context */
function context(t: TraceState, line: TraceLine): string {
  if (trace_option(t, 'latency-format')) return latency_context(t, line);
  const usecs = ns2usecs(line.ns);
  const secs = String(Math.floor(usecs / 1e6)).padStart(5);
  const rest = String(usecs % 1e6).padStart(6, '0');
  const who = `${line.comm.padStart(16)}-${String(line.pid).padEnd(5)}`;
  return `${who} [${String(line.cpu).padStart(3, '0')}] ${secs}.${rest}: `;
}

function addresses(shape: Shape): AddressSpaceLayout {
  if (shape.machine === 'x86') {
    return { vmemmap: [0, 0xc1400000], page_offset: [0, 0xc0000000], text: [0, 0xc1000000] };
  }
  if (shape.machine === 'ppc64') {
    return { vmemmap: [0xf0000000, 0], page_offset: [0xc0000000, 0], text: [0xc0000000, 0] };
  }
  return {
    vmemmap: [0xffffea00, 0],
    page_offset: [0xffff8800, 0],
    text: [0xffffffff, 0x81000000],
  };
}

/** By bit (trace.c: trace_options). */
const TRACE_OPTIONS: readonly string[] = [
  'print-parent',
  'sym-offset',
  'sym-addr',
  'verbose',
  'raw',
  'hex',
  'bin',
  'block',
  'stacktrace',
  'trace_printk',
  'ftrace_preempt',
  'branch',
  'annotate',
  'userstacktrace',
  'sym-userobj',
  'printk-msg-only',
  'context-info',
  'latency-format',
  'sleep-time',
  'graph-time',
];
/** What tracing is in this kernel. */
export const trace_2_6_35: TraceFormat = {
  events: TRACE_EVENTS,
  common_fields: [...COMMON_FIELDS, common_field('int', 'common_lock_depth', 8, 4, true)],
  common_tail: [-1], // nobody holds the big kernel lock
  addresses,
  options: TRACE_OPTIONS,
  default_options: [
    'print-parent',
    'trace_printk',
    'annotate',
    'context-info',
    'sleep-time',
    'graph-time',
  ],
  tracers: ['sched_switch', 'nop'],
  clocks: ['local', 'global'],
  mark: '0: ',
  header: trace_header,
  context,
  directories: ['/sys/kernel/debug/tracing'],
  read_mode: 0o444,
  write_mode: 0o644,
  tracing_enabled: true,
};
