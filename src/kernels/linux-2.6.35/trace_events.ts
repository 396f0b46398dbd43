/**
 * The trace events of 2.6.35 that memory management fires: their fields, text and format files.
 *
 * An event is a row: fields in the order of its record, and a function that prints them. The layout
 * of a record follows from the fields as the C compiler would have it on the emulated machine;
 * `format` files print that layout. Addresses of pages and objects are those that the real kernel
 * would have: its map of the frame's number. Call sites have no counterpart here: each cache has
 * one address in the kernel's text.
 * Linux: include/trace/events/kmem.h, include/trace/ftrace.h, kernel/trace/trace_events.c (f_show),
 * kernel/trace/trace_output.c (ftrace_print_flags_seq). Differs: x86 (flat memory) places mem_map at
 * a fixed address; formats of x86 and ppc64 follow from the rules, not from recordings.
 */
import type { Tracepoint } from '../../lib/tracepoint.ts';
import type { Machine, Shape } from '../../mm/mmzone.ts';
import type { MmTrace } from '../../mm/trace.ts';

/** What a field's value stands for, and so how many bytes it has and how it is written. */
type FieldKind = 'page' | 'pointer' | 'text address' | 'long' | 'int' | 'uint';

interface FieldSpec {
  /** Declaration as format files print it. */
  readonly declaration: string;
  readonly name: string;
  readonly kind: FieldKind;
}

type EventName = Exclude<keyof MmTrace, 'listeners'>;

export interface TraceEventCall {
  readonly name: string;
  readonly system: string;
  readonly id: number;
  readonly fields: readonly FieldSpec[];
  readonly point: (m: Machine) => Tracepoint;
  /** Field values from the tracepoint's arguments. A page is its pfn, a pointer a physical byte. */
  assign(m: Machine, to: Float64Array, a: number, b: number, c: number, d: number, e: number): void;
  print(e: TraceEntry): string;
  /** The format and arguments of format files. */
  print_fmt(shape: Shape): string;
}

/** One field in a record. */
export interface FieldLayout {
  readonly name: string;
  readonly declaration: string;
  readonly kind: FieldKind;
  readonly offset: number;
  readonly size: number;
  readonly signed: boolean;
}

/** Where addresses of a machine begin, and how its records are laid out. */
export class TraceArch {
  readonly shape: Shape;
  readonly long_size: number;
  /** Start of the memmap, of the direct map of memory, of the kernel's text: [high, low] words. */
  readonly vmemmap: readonly [number, number];
  readonly page_offset: readonly [number, number];
  readonly text: readonly [number, number];
  /** By event, in the order of TRACE_EVENTS. */
  readonly layouts: readonly (readonly FieldLayout[])[];
  /** Bytes of a record. */
  readonly sizes: readonly number[];

  constructor(shape: Shape) {
    this.shape = shape;
    this.long_size = shape.machine === 'x86' ? 4 : 8;
    if (shape.machine === 'x86') {
      this.vmemmap = [0, 0xc1400000];
      this.page_offset = [0, 0xc0000000];
      this.text = [0, 0xc1000000];
    } else if (shape.machine === 'ppc64') {
      this.vmemmap = [0xf0000000, 0];
      this.page_offset = [0xc0000000, 0];
      this.text = [0xc0000000, 0];
    } else {
      this.vmemmap = [0xffffea00, 0];
      this.page_offset = [0xffff8800, 0];
      this.text = [0xffffffff, 0x81000000];
    }
    this.layouts = TRACE_EVENTS.map((call) => lay_out(call.fields, this.long_size));
    this.sizes = this.layouts.map((layout) => {
      const last = layout[layout.length - 1]!;
      return Math.ceil((last.offset + last.size) / this.long_size) * this.long_size;
    });
  }

  /** pointers as a bigint, for filters and for printing without a page. */
  address(base: readonly [number, number]): bigint {
    return (BigInt(base[0]) << 32n) | BigInt(base[1]);
  }
}

/** Every record begins with these (trace_entry). */
const COMMON_FIELDS: readonly FieldLayout[] = [
  field('unsigned short', 'common_type', 0, 2, false),
  field('unsigned char', 'common_flags', 2, 1, false),
  field('unsigned char', 'common_preempt_count', 3, 1, false),
  field('int', 'common_pid', 4, 4, true),
  field('int', 'common_lock_depth', 8, 4, true),
];
export const COMMON_WORDS = 3;

function field(
  type: string,
  name: string,
  offset: number,
  size: number,
  signed: boolean,
): FieldLayout {
  return {
    name,
    declaration: `${type} ${name}`,
    kind: signed ? 'int' : 'uint',
    offset,
    size,
    signed,
  };
}

function lay_out(fields: readonly FieldSpec[], long_size: number): FieldLayout[] {
  const layout: FieldLayout[] = [];
  let offset = COMMON_WORDS * 4;
  for (const spec of fields) {
    const size = spec.kind === 'int' || spec.kind === 'uint' ? 4 : long_size;
    offset = Math.ceil(offset / size) * size;
    layout.push({ ...spec, offset, size, signed: spec.kind === 'int' });
    offset += size;
  }
  return layout;
}

/** The field of an event by name, common ones too; undefined when it has none of that name. */
export function find_event_field(
  arch: TraceArch,
  event: number,
  name: string,
): FieldLayout | undefined {
  return (
    COMMON_FIELDS.find((f) => f.name === name) ?? arch.layouts[event]!.find((f) => f.name === name)
  );
}

/** Fills the record of an event with its fields' values; returns its words. The head is not set. */
export function fill_event(
  arch: TraceArch,
  event: number,
  values: Float64Array,
  entry: Int32Array,
): number {
  const layout = arch.layouts[event]!;
  const words = arch.sizes[event]! >>> 2;
  entry.fill(0, COMMON_WORDS, words);
  for (let i = 0; i < layout.length; i++) {
    const { kind, offset, size } = layout[i]!;
    const value = values[i]!;
    let base = ZERO;
    let bytes = value;
    if (kind === 'page') {
      base = value < 0 ? ZERO : arch.vmemmap;
      bytes = value < 0 ? 0 : value * arch.shape.sizeof_struct_page;
    } else if (kind === 'pointer') {
      base = value < 0 ? ZERO : arch.page_offset;
      bytes = Math.max(0, value);
    } else if (kind === 'text address') {
      base = arch.text;
    }
    const low = base[1] + (bytes % 2 ** 32);
    entry[offset >>> 2] = low;
    if (size === 8) {
      entry[(offset >>> 2) + 1] = base[0] + Math.floor(bytes / 2 ** 32) + (low >= 2 ** 32 ? 1 : 0);
    }
  }
  return words;
}

const ZERO: readonly [number, number] = [0, 0];

/** A record that is being read: fields by their position in the event's row. */
export class TraceEntry {
  readonly arch: TraceArch;
  private words: Int32Array = new Int32Array(0);
  private at = 0;
  private layout: readonly FieldLayout[] = [];

  constructor(arch: TraceArch) {
    this.arch = arch;
  }

  /** Points it to a record of `event` that begins at word `at`. */
  set(words: Int32Array, at: number, event: number): this {
    this.words = words;
    this.at = at;
    this.layout = this.arch.layouts[event]!;
    return this;
  }

  int(i: number): number {
    return this.words[this.at + (this.layout[i]!.offset >>> 2)]!;
  }

  uint(i: number): number {
    return this.int(i) >>> 0;
  }

  /** An unsigned field of either size. */
  value(i: number): bigint {
    const at = this.at + (this.layout[i]!.offset >>> 2);
    const low = BigInt(this.words[at]! >>> 0);
    return this.layout[i]!.size === 4 ? low : (BigInt(this.words[at + 1]! >>> 0) << 32n) | low;
  }

  /** `%lx` */
  hex(i: number): string {
    return this.value(i).toString(16);
  }

  /** `%p`: as many digits as the machine's pointers have (lib/vsprintf.c: pointer). */
  pointer(i: number): string {
    const value = this.value(i);
    if (value === 0n) return '(null)';
    return value.toString(16).padStart(this.arch.long_size * 2, '0');
  }

  /** page_to_pfn of a page; of none it is what the compiled division makes of it (C11). */
  pfn(i: number): string {
    const { arch } = this;
    const bits = arch.long_size * 8;
    const address = this.value(i);
    const diff = BigInt.asIntN(bits, address - arch.address(arch.vmemmap));
    const size = BigInt(arch.shape.sizeof_struct_page);
    if (address !== 0n) return String(diff / size);
    // Exact division by an odd number is a multiplication by its inverse, once it is not exact.
    let shift = 0n;
    while (((size >> shift) & 1n) === 0n) shift++;
    const odd = size >> shift;
    let inverse = odd;
    for (let i = 0; i < 6; i++) inverse = BigInt.asUintN(bits, inverse * (2n - odd * inverse));
    return String(BigInt.asUintN(bits, (diff >> shift) * inverse));
  }
}

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
export const TRACE_EVENTS: readonly TraceEventCall[] = [
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

/** The event of this name, or -1. */
export function event_by_name(name: string): number {
  return TRACE_EVENTS.findIndex((call) => call.name === name);
}

/** The event whose records carry this type, or -1. */
export function event_by_id(id: number): number {
  return TRACE_EVENTS.findIndex((call) => call.id === id);
}

/** Reused by the two below: nothing survives a call. */
const scratch_values = new Float64Array(8);
const scratch_entry = new Int32Array(32);

/** What an event prints for its fields' values, without its name. */
export function values_text(arch: TraceArch, event: number, values: Float64Array): string {
  fill_event(arch, event, values, scratch_entry);
  return TRACE_EVENTS[event]!.print(new TraceEntry(arch).set(scratch_entry, 0, event));
}

/** What an event prints for a tracepoint's arguments, without its name. */
export function event_text(
  m: Machine,
  arch: TraceArch,
  event: number,
  a: number,
  b: number,
  c: number,
  d: number,
  e: number,
): string {
  TRACE_EVENTS[event]!.assign(m, scratch_values, a, b, c, d, e);
  return values_text(arch, event, scratch_values);
}

/** The text of events/SYSTEM/NAME/format (trace_events.c: event_format_read). */
export function event_format(arch: TraceArch, event: number): string {
  const call = TRACE_EVENTS[event]!;
  const line = (f: FieldLayout): string =>
    `\tfield:${f.declaration};\toffset:${f.offset};\tsize:${f.size};\tsigned:${f.signed ? 1 : 0};\n`;
  return (
    `name: ${call.name}\nID: ${call.id}\nformat:\n${COMMON_FIELDS.map(line).join('')}\n` +
    `${arch.layouts[event]!.map(line).join('')}\nprint fmt: ${call.print_fmt(arch.shape)}\n`
  );
}
