/**
 * The directory of tracing: which files there are, what they print and take.
 *
 * Linux: kernel/trace/trace.c, trace_events.c, ring_buffer.c. Differs: the README is our own text; the
 * binary trace_pipe_raw is absent; a trace that is read while records are taken from it ends early.
 */

import { bitmap_mask } from '../../lib/bitmap.ts';
import { EINVAL } from '../../lib/errno.ts';
import type { FileRow, RowContext } from '../../lib/file_row.ts';
import { isspace, strict_strtoul } from '../../lib/kstrto.ts';
import { RINGBUF_TYPE_DATA_TYPE_LEN_MAX, ring_buffer_entries } from '../../lib/ring_buffer.ts';
import type { SeqFile } from '../../lib/seq_file.ts';
import type { Machine } from '../../mm/mmzone.ts';
import {
  event_enable_disable,
  ftrace_set_clr_event,
  NOP_OPTIONS,
  type PipeReader,
  page_data_size,
  pipe_open,
  pipe_read,
  pipe_release,
  type TraceFormat,
  TraceReader,
  trace_mark,
  trace_state,
  tracing_reset,
  tracing_resize_ring_buffer,
  tracing_update_buffers,
} from './trace.ts';
import { event_format, type TraceEventCall } from './trace_events.ts';
import { apply_event_filter, apply_subsystem_event_filter } from './trace_events_filter.ts';

/** Buffers on the stack of the kernel's write functions. */
const NUMBER_BUFFER = 64;
const MAX_TRACER_SIZE = 100;
const EVENT_BUF_SIZE = 127;

const O_WRONLY = 0o1;
const O_ACCMODE = 0o3;
const O_NONBLOCK = 0o4000;
const O_TRUNC = 0o1000;

function opened_for_read(ctx: RowContext): boolean {
  return ((ctx.flags ?? 0) & O_ACCMODE) !== O_WRONLY;
}

function opened_with_truncation(ctx: RowContext): boolean {
  const flags = ctx.flags ?? 0;
  return (flags & O_ACCMODE) !== 0 && (flags & O_TRUNC) !== 0;
}

/** A written number, base 10; -EINVAL for anything else. */
function number_of(text: string): bigint | number {
  return text.length >= NUMBER_BUFFER ? -EINVAL : strict_strtoul(text, 10);
}

/** `strstrip` */
function strip(text: string): string {
  let start = 0;
  let end = text.length;
  while (end > start && isspace(text.charCodeAt(end - 1))) end--;
  while (start < end && isspace(text.charCodeAt(start))) start++;
  return text.slice(start, end);
}

// ---- enabling

/** What an `enable` file of several events shows: 0, 1, or X when they differ. */
function enabled_summary(m: Machine, events: readonly number[]): string {
  const { enabled } = trace_state(m);
  const on = events.reduce((sum, event) => sum + enabled[event]!, 0);
  if (on === 0) return '0';
  return on === events.length ? '1' : 'X';
}

function enable_row(path: string, events: readonly number[], doc: string): FileRow<Machine> {
  return {
    path,
    mode: 0o644,
    show(seq, m) {
      seq.puts(enabled_summary(m, events)).puts('\n');
    },
    store(m, text) {
      const value = number_of(text);
      if (value !== 0n && value !== 1n) return -EINVAL;
      const err = tracing_update_buffers(m);
      if (err < 0) return err;
      for (const event of events) event_enable_disable(m, event, value === 1n);
      return text.length;
    },
    doc,
  };
}

/** The first word of a write from `start` on, and where reading ended (trace_get_user). */
function next_word(text: string, start: number): { word: string; end: number } {
  let i = start;
  while (i < text.length && isspace(text.charCodeAt(i))) i++;
  const from = i;
  while (i < text.length && !isspace(text.charCodeAt(i))) i++;
  // The blank that ends a word is read with it.
  return { word: text.slice(from, i), end: Math.min(i + 1, text.length) };
}

/** One word a write: the caller writes the rest again (ftrace_event_write). */
function set_event_store(m: Machine, text: string): number {
  if (text.length === 0) return 0;
  const err = tracing_update_buffers(m);
  if (err < 0) return err;
  const { word, end } = next_word(text, 0);
  if (word.length > EVENT_BUF_SIZE) return -EINVAL;
  if (word === '') return end;
  const on = !word.startsWith('!');
  const ret = ftrace_set_clr_event(m, on ? word : word.slice(1), on);
  return ret < 0 ? ret : end;
}

// ---- options

function option_bits(m: Machine): { name: string; on: boolean }[] {
  const t = trace_state(m);
  const list = t.format.options.map((name, i) => ({ name, on: (t.trace_flags & (1 << i)) !== 0 }));
  if (t.tracer !== 'nop') return list;
  return [...list, ...NOP_OPTIONS.map((name, i) => ({ name, on: (t.nop_flags & (1 << i)) !== 0 }))];
}

/** Sets or clears an option: 0 or -EINVAL (tracing_trace_options_write). */
function set_option(m: Machine, name: string, on: boolean): number {
  const t = trace_state(m);
  const at = t.format.options.indexOf(name);
  if (at >= 0) {
    t.trace_flags = on ? t.trace_flags | (1 << at) : t.trace_flags & ~(1 << at);
    return 0;
  }
  // The nop tracer has one option that it accepts and one that it does not.
  if (t.tracer !== 'nop' || name !== NOP_OPTIONS[0]) return -EINVAL;
  t.nop_flags = on ? 1 : 0;
  return 0;
}

function option_row(name: string): FileRow<Machine> {
  return {
    path: `/options/${name}`,
    mode: 0o644,
    show(seq, m) {
      seq.puts(option_bits(m).find((option) => option.name === name)?.on ? '1\n' : '0\n');
    },
    store(m, text) {
      const value = number_of(text);
      if (value !== 0n && value !== 1n) return -EINVAL;
      const err = set_option(m, name, value === 1n);
      return err < 0 ? err : text.length;
    },
    doc: `trace option ${name}: 0 or 1`,
  };
}

// ---- small files

/** A switch that takes any number. */
function switch_row(name: string, field: 'tracing_on' | 'tracer_enabled', doc: string) {
  const row: FileRow<Machine> = {
    path: `/${name}`,
    mode: 0o644,
    show: (seq, m) => void seq.puts(trace_state(m)[field] ? '1\n' : '0\n'),
    store(m, text) {
      const value = number_of(text);
      if (typeof value === 'number') return value;
      trace_state(m)[field] = value !== 0n;
      return text.length;
    },
    doc,
  };
  return row;
}

function current_tracer_store(m: Machine, text: string): number {
  const t = trace_state(m);
  let name = text.slice(0, MAX_TRACER_SIZE);
  while (name !== '' && isspace(name.charCodeAt(name.length - 1))) name = name.slice(0, -1);
  const err = tracing_update_buffers(m);
  if (err < 0) return err;
  if (!t.format.tracers.includes(name)) return -EINVAL;
  if (name !== t.tracer) {
    t.tracer = name;
    tracing_reset(m);
  }
  return text.length;
}

function trace_clock_store(m: Machine, text: string): number {
  if (text.length >= NUMBER_BUFFER) return -EINVAL;
  const name = strip(text);
  const t = trace_state(m);
  if (!t.format.clocks.includes(name)) return -EINVAL;
  t.clock = name;
  return text.length;
}

function buffer_size_show(seq: SeqFile, m: Machine): void {
  const t = trace_state(m);
  seq.put_dec(Math.floor(t.entries / 1024));
  if (!t.expanded)
    seq
      .puts(' (expanded: ')
      .put_dec(Math.floor(t.buf_size / 1024))
      .puts(')');
  seq.puts('\n');
}

function buffer_size_store(m: Machine, text: string): number {
  const value = number_of(text);
  if (typeof value === 'number') return value;
  if (value === 0n) return -EINVAL;
  const err = tracing_resize_ring_buffer(m, Number(value) * 1024);
  return err < 0 ? err : text.length;
}

/** Hexadecimal words with commas between them (lib/bitmap.c: bitmap_parse). */
function cpumask_store(m: Machine, text: string): number {
  const body = strip(text);
  if (!/^[0-9a-fA-F]{1,8}(,[0-9a-fA-F]{1,8})*$/.test(body)) return -EINVAL;
  let mask = 0n;
  for (const word of body.split(',')) mask = (mask << 32n) | BigInt('0x' + word);
  const t = trace_state(m);
  for (let cpu = 0; cpu < t.cpu_on.length; cpu++) {
    t.cpu_on[cpu] = Number((mask >> BigInt(cpu)) & 1n);
  }
  return text.length;
}

const README = `Tracing of the emulated kernel.

  cat available_events             which events there are
  echo 1 > events/kmem/enable      traces all of them
  echo kmem:mm_page_alloc > set_event
  echo 'order > 0' > events/kmem/mm_page_alloc/filter
  cat trace                        what was traced, and it stays
  cat trace_pipe                   the same, taken away as it is read, and what follows
  echo 0 > tracing_on              stops recording
  echo > trace                     forgets what was traced
  echo text > trace_marker         a line of your own in the trace
`;

/** ring_buffer.c: ring_buffer_print_page_header. */
function header_page(m: Machine): string {
  const { long_size } = trace_state(m).arch;
  const line = (name: string, offset: number, size: number, signed: number): string =>
    `\tfield: ${name};\toffset:${offset};\tsize:${size};\tsigned:${signed};\n`;
  return (
    line('u64 timestamp', 0, 8, 0) +
    line('local_t commit', 8, long_size, 1) +
    line('int overwrite', 8, 1, 1) +
    line('char data', 8 + long_size, page_data_size(trace_state(m)), 1)
  );
}

/** ring_buffer.c: ring_buffer_print_entry_header. */
const HEADER_EVENT =
  '# compressed entry header\n' +
  '\ttype_len    :    5 bits\n' +
  '\ttime_delta  :   27 bits\n' +
  '\tarray       :   32 bits\n' +
  '\n' +
  '\tpadding     : type == 29\n' +
  '\ttime_extend : type == 30\n' +
  `\tdata max type_len  == ${RINGBUF_TYPE_DATA_TYPE_LEN_MAX}\n`;

function text_row(name: string, text: (m: Machine) => string, doc: string): FileRow<Machine> {
  return {
    path: `/${name}`,
    mode: 0o444,
    show: (seq, m) => void seq.puts(text(m)),
    doc,
  };
}

// ---- the trace

/** Recording stands still while `trace` is open for reading (tracing_open). */
function trace_open(m: Machine, ctx: RowContext): void {
  const t = trace_state(m);
  if (opened_with_truncation(ctx)) tracing_reset(m);
  if (!opened_for_read(ctx)) return;
  t.stop_count++;
  ctx.data = new TraceReader(ctx.id);
}

function trace_release(m: Machine, ctx: RowContext): void {
  if (opened_for_read(ctx)) trace_state(m).stop_count--;
}

function trace_row(path: string, mode: number, doc: string): FileRow<Machine> {
  return {
    path,
    mode,
    open: trace_open,
    release: trace_release,
    read_at: (m, pos, buf, ctx) => (ctx.data as TraceReader).read(m, pos, buf),
    store: (_m, text) => text.length,
    doc,
  };
}

function pipe_row(path: string, doc: string): FileRow<Machine> {
  return {
    path,
    mode: 0o444,
    open(m, ctx) {
      const reader = pipe_open(m, ctx.id, ((ctx.flags ?? 0) & O_NONBLOCK) !== 0);
      if (typeof reader === 'number') return reader;
      ctx.data = reader;
      return 0;
    },
    release: (m, ctx) => pipe_release(m, ctx.data as PipeReader),
    read_at: (m, _pos, buf, ctx) => pipe_read(m, ctx.data as PipeReader, buf),
    doc,
  };
}

// ---- events

function event_rows(call: TraceEventCall, event: number): FileRow<Machine>[] {
  const dir = `/events/${call.system}/${call.name}`;
  return [
    enable_row(`${dir}/enable`, [event], `traces ${call.name}: 0 or 1`),
    {
      path: `${dir}/id`,
      mode: 0o444,
      show: (seq) => void seq.put_dec(call.id).puts('\n'),
      doc: `type of ${call.name} in binary records`,
    },
    {
      path: `${dir}/filter`,
      mode: 0o644,
      show: (seq, m) => void seq.puts(trace_state(m).filters[event]!.text ?? 'none').puts('\n'),
      store(m, text) {
        if (text.length >= 4096) return -EINVAL;
        const t = trace_state(m);
        const err = apply_event_filter(t.arch, event, t.filters[event]!, text);
        return err < 0 ? err : text.length;
      },
      doc: `which records of ${call.name} are kept, as an expression; 0 clears`,
    },
    {
      path: `${dir}/format`,
      mode: 0o444,
      show: (seq, m) => void seq.puts(event_format(trace_state(m).arch, event)),
      doc: `fields and text of ${call.name}`,
    },
  ];
}

/** The files of a system's directory, in which `events` are. */
function system_rows(system: string, events: readonly number[]): FileRow<Machine>[] {
  return [
    enable_row(`/events/${system}/enable`, events, `traces all ${system} events: 0, 1, X for some`),
    {
      path: `/events/${system}/filter`,
      mode: 0o644,
      show(seq, m) {
        seq.puts(trace_state(m).system_filters.get(system)!.text ?? 'none').puts('\n');
      },
      store(m, text) {
        if (text.length >= 4096) return -EINVAL;
        const { arch, filters, system_filters } = trace_state(m);
        const filter = system_filters.get(system)!;
        const err = apply_subsystem_event_filter(arch, events, filters, filter, text);
        return err < 0 ? err : text.length;
      },
      doc: `one filter for all ${system} events that have its fields; 0 clears`,
    },
  ];
}

function event_files({ events }: TraceFormat): FileRow<Machine>[] {
  const all = events.map((_, event) => event);
  const systems = [...new Set(events.map(({ system }) => system))];
  return [
    enable_row('/events/enable', all, 'traces all events: 0, 1, X for some'),
    text_row('events/header_event', () => HEADER_EVENT, "head of each record in a buffer's page"),
    text_row('events/header_page', header_page, "head of a buffer's page"),
    ...systems.flatMap((system) => {
      const here = all.filter((event) => events[event]!.system === system);
      return [
        ...system_rows(system, here),
        ...here.flatMap((event) => event_rows(events[event]!, event)),
      ];
    }),
  ];
}

/** The files of the directory, with the modes that 2.6.35 gives them. */
const tracing_files = (format: TraceFormat): FileRow<Machine>[] => [
  text_row('README', () => README, 'how to trace'),
  text_row(
    'available_events',
    () => format.events.map((call) => `${call.system}:${call.name}\n`).join(''),
    'events that can be traced',
  ),
  text_row('available_tracers', () => format.tracers.join(' ') + '\n', 'tracers; events need none'),
  {
    path: `/buffer_size_kb`,
    mode: 0o644,
    show: buffer_size_show,
    store: buffer_size_store,
    doc: "KiB of each CPU's buffer; writing empties it",
  },
  {
    path: `/current_tracer`,
    mode: 0o644,
    show: (seq, m) => void seq.puts(trace_state(m).tracer).puts('\n'),
    store: current_tracer_store,
    doc: 'tracer in use',
  },
  ...event_files(format),
  ...format.options.map(option_row),
  ...NOP_OPTIONS.map(option_row),
  {
    path: `/per_cpu/cpu{cpu}/stats`,
    mode: 0o444,
    show(seq, m, ctx) {
      const b = trace_state(m).buffers[ctx.id]!;
      seq.puts('entries: ').put_dec(ring_buffer_entries(b)).puts('\n');
      seq.puts('overrun: ').put_dec(b.overrun).puts('\ncommit overrun: 0\n');
    },
    doc: "records in a CPU's buffer, and lost ones",
  },
  trace_row(`/per_cpu/cpu{cpu}/trace`, 0o444, "one CPU's trace"),
  pipe_row(`/per_cpu/cpu{cpu}/trace_pipe`, "one CPU's trace_pipe"),
  text_row('printk_formats', () => '', 'formats of bprintk: none'),
  text_row(
    'saved_cmdlines',
    (m) => {
      const t = trace_state(m);
      return t.cmdlines.map((comm, slot) => `${t.cmdline_pid[slot]} ${comm}\n`).join('');
    },
    'names of traced processes',
  ),
  {
    path: `/set_event`,
    mode: 0o644,
    open(m, ctx) {
      if (!opened_with_truncation(ctx)) return;
      for (let event = 0; event < format.events.length; event++)
        event_enable_disable(m, event, false);
    },
    show(seq, m) {
      const { enabled } = trace_state(m);
      format.events.forEach((call, event) => {
        if (enabled[event] === 1) seq.puts(`${call.system}:${call.name}\n`);
      });
    },
    store: set_event_store,
    doc: 'events that are traced; SYSTEM:NAME adds, !SYSTEM:NAME takes away, > clears first',
  },
  trace_row(`/trace`, 0o644, 'what was traced; opening it with > forgets it'),
  {
    path: `/trace_clock`,
    mode: 0o644,
    show(seq, m) {
      const { clock } = trace_state(m);
      seq.puts(format.clocks.map((name) => (name === clock ? `[${name}]` : name)).join(' ') + '\n');
    },
    store: trace_clock_store,
    doc: 'clock of the records; both are the virtual one',
  },
  {
    path: `/trace_marker`,
    mode: 0o220,
    store: (m, text) => (text.length === 0 ? 0 : trace_mark(m, text)),
    doc: 'writes a line into the trace',
  },
  {
    path: `/trace_options`,
    mode: 0o644,
    show(seq, m) {
      for (const { name, on } of option_bits(m))
        seq
          .puts(on ? '' : 'no')
          .puts(name)
          .puts('\n');
    },
    store(m, text) {
      if (text.length >= NUMBER_BUFFER) return -EINVAL;
      const name = strip(text);
      const no = name.startsWith('no');
      const err = set_option(m, no ? name.slice(2) : name, !no);
      return err < 0 ? err : text.length;
    },
    doc: 'how the trace is printed: NAME or noNAME',
  },
  pipe_row(`/trace_pipe`, 'the trace, taken away as it is read; waits for more'),
  {
    path: `/tracing_cpumask`,
    mode: 0o644,
    show(seq, m) {
      const { cpu_on } = trace_state(m);
      const on = [...cpu_on.keys()].filter((cpu) => cpu_on[cpu] === 1);
      seq.puts(bitmap_mask(on, cpu_on.length)).puts('\n');
    },
    store: cpumask_store,
    doc: 'CPUs that record, as a mask',
  },
  ...(format.tracing_enabled
    ? [switch_row('tracing_enabled', 'tracer_enabled', 'the tracer and recording: 0 stops both')]
    : []),
  switch_row('tracing_on', 'tracing_on', 'recording: 0 stops it'),
  {
    path: `/tracing_thresh`,
    mode: 0o644,
    show: (seq, m) => void seq.put_dec(Math.floor(trace_state(m).thresh / 1000)).puts('\n'),
    store(m, text) {
      const value = number_of(text);
      if (typeof value === 'number') return value;
      trace_state(m).thresh = Number(value) * 1000;
      return text.length;
    },
    doc: 'threshold of latency tracers, microseconds: none is there',
  },
];

/** All files of tracing, in each directory where the kernel has them. */
export function trace_files(
  format: TraceFormat,
  more: readonly FileRow<Machine>[] = [],
): readonly FileRow<Machine>[] {
  const mode = (bits: number): number =>
    bits === 0o444 ? format.read_mode : bits === 0o644 ? format.write_mode : bits;
  const files = [...tracing_files(format), ...more];
  return format.directories.flatMap((dir) =>
    files.map((row) => ({ ...row, path: dir + row.path, mode: mode(row.mode) })),
  );
}
