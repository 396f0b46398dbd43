/**
 * Trace events: fields, the layout of their records, their text and format files.
 *
 * An event is a row of a kernel's table: fields in the order of its record, and a function that prints
 * them. The layout of a record follows from the fields as the C compiler would have it on the emulated
 * machine; `format` files print that layout. Addresses of pages and objects are those that the real
 * kernel would have: its map of the frame's number.
 * Linux: include/trace/trace_events.h, kernel/trace/trace_events.c (f_show),
 * kernel/trace/trace_output.c (trace_print_flags_seq).
 */
import type { Tracepoint } from '../../lib/tracepoint.ts';
import type { Machine, Shape } from '../../mm/mmzone.ts';
import type { TraceFormat } from './trace.ts';

/** What a field's value stands for, and so how many bytes it has and how it is written. */
type FieldKind = 'page' | 'pointer' | 'text address' | 'long' | 'int' | 'uint' | 'bool';

export interface FieldSpec {
  /** Declaration as format files print it. */
  readonly declaration: string;
  readonly name: string;
  readonly kind: FieldKind;
}

export interface TraceEventCall {
  readonly name: string;
  readonly system: string;
  readonly id: number;
  readonly fields: readonly FieldSpec[];
  /** common_flags, and common_preempt_count eight bits higher, where it fires; 0 without it. */
  readonly context?: number;
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

/** An address as two words, the high one first. */
export type Address = readonly [number, number];

/** Where things lie in a kernel's address space. */
export interface AddressSpaceLayout {
  /** Start of the memmap, of the direct map of memory, of the kernel's text. */
  readonly vmemmap: Address;
  readonly page_offset: Address;
  readonly text: Address;
}

/** How a machine's records are laid out, and where its addresses begin. */
export class TraceArch {
  readonly format: TraceFormat;
  readonly shape: Shape;
  readonly long_size: number;
  readonly vmemmap: Address;
  readonly page_offset: Address;
  readonly text: Address;
  /** By event, in the order of the kernel's table. */
  readonly layouts: readonly (readonly FieldLayout[])[];
  /** Bytes of a record. */
  readonly sizes: readonly number[];

  constructor(format: TraceFormat, shape: Shape) {
    this.format = format;
    this.shape = shape;
    this.long_size = shape.machine === 'x86' ? 4 : 8;
    const { vmemmap, page_offset, text } = format.addresses(shape);
    this.vmemmap = vmemmap;
    this.page_offset = page_offset;
    this.text = text;
    this.layouts = format.events.map((call) =>
      lay_out(call.fields, format.common_fields, this.long_size),
    );
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

/** What every record begins with in all kernels (trace_entry). */
export const COMMON_FIELDS: readonly FieldLayout[] = [
  common_field('unsigned short', 'common_type', 0, 2, false),
  common_field('unsigned char', 'common_flags', 2, 1, false),
  common_field('unsigned char', 'common_preempt_count', 3, 1, false),
  common_field('int', 'common_pid', 4, 4, true),
];

export function common_field(
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

/** 32-bit words of the common fields. */
export function common_words(format: TraceFormat): number {
  const last = format.common_fields[format.common_fields.length - 1]!;
  return (last.offset + last.size) >>> 2;
}

const KIND_SIZES: { readonly [kind in FieldKind]?: number } = { int: 4, uint: 4, bool: 1 };

function lay_out(
  fields: readonly FieldSpec[],
  common: readonly FieldLayout[],
  long_size: number,
): FieldLayout[] {
  const layout: FieldLayout[] = [];
  const head = common[common.length - 1]!;
  let offset = head.offset + head.size;
  for (const spec of fields) {
    const size = KIND_SIZES[spec.kind] ?? long_size;
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
    arch.format.common_fields.find((f) => f.name === name) ??
    arch.layouts[event]!.find((f) => f.name === name)
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
  entry.fill(0, common_words(arch.format), words);
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

const ZERO: Address = [0, 0];

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
    return this.layout[i]!.size < 8 ? low : (BigInt(this.words[at + 1]! >>> 0) << 32n) | low;
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

/** The event of this name, or -1. */
export function event_by_name(format: TraceFormat, name: string): number {
  return format.events.findIndex((call) => call.name === name);
}

/** The event whose records carry this type, or -1. */
export function event_by_id(format: TraceFormat, id: number): number {
  return format.events.findIndex((call) => call.id === id);
}

/** Reused by the two below: nothing survives a call. */
const scratch_values = new Float64Array(16);
const scratch_entry = new Int32Array(32);

/** What an event prints for its fields' values, without its name. */
export function values_text(arch: TraceArch, event: number, values: Float64Array): string {
  fill_event(arch, event, values, scratch_entry);
  return arch.format.events[event]!.print(new TraceEntry(arch).set(scratch_entry, 0, event));
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
  arch.format.events[event]!.assign(m, scratch_values, a, b, c, d, e);
  return values_text(arch, event, scratch_values);
}

/** The text of events/SYSTEM/NAME/format (trace_events.c: event_format_read). */
export function event_format(arch: TraceArch, event: number): string {
  const call = arch.format.events[event]!;
  const line = (f: FieldLayout): string =>
    `\tfield:${f.declaration};\toffset:${f.offset};\tsize:${f.size};\tsigned:${f.signed ? 1 : 0};\n`;
  return (
    `name: ${call.name}\nID: ${call.id}\nformat:\n${arch.format.common_fields.map(line).join('')}\n` +
    `${arch.layouts[event]!.map(line).join('')}\nprint fmt: ${call.print_fmt(arch.shape)}\n`
  );
}
