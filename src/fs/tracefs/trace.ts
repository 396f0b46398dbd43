/**
 * Tracing: records of the memory events in a ring buffer, and their text.
 *
 * Enabling an event hangs a listener on its tracepoint (mm/trace.ts); a disabled one costs a load and
 * a branch where it would fire. The listener fills a record as the kernel lays it out, asks the
 * event's filter and writes it to the buffer of the CPU that runs. Files read the buffers merged by
 * time: `trace` leaves the records where they are, `trace_pipe` takes them away.
 * Who runs is the simulated process, else the kernel thread, else init: what host programs do to
 * the mount counts as done by the emulated machine's first process.
 * Which events there are, which options, and how a line begins is the kernel's (TraceFormat).
 * Linux: kernel/trace/{trace,trace_events,trace_output,trace_nop}.c. Differs: no function or scheduler
 * tracing (sched_switch may be chosen and records nothing); the options raw, hex, bin, stacktrace and
 * those of them change nothing; time is the virtual clock's, which in a mount stands still between
 * two ticks.
 */
import { BUG_ON } from '../../lib/bug.ts';
import { EAGAIN, EBUSY, EINVAL, ENOMEM, ERESTARTSYS } from '../../lib/errno.ts';
import {
  buffer_page_header,
  RingBufferIter,
  RingBufferPerCpu,
  ring_buffer_consume,
  ring_buffer_iter_advance,
  ring_buffer_iter_peek,
  ring_buffer_iter_start,
  ring_buffer_peek,
  ring_buffer_reset,
  ring_buffer_write,
} from '../../lib/ring_buffer.ts';
import { __GFP_NORETRY, GFP_KERNEL } from '../../mm/gfp.ts';
import type { Machine, Shape } from '../../mm/mmzone.ts';
import type { pfn_t } from '../../mm/page.ts';
import {
  type AddressSpaceLayout,
  common_words,
  event_by_id,
  type FieldLayout,
  fill_event,
  TraceArch,
  TraceEntry,
  type TraceEventCall,
} from './trace_events.ts';
import { type EventFilter, filter_match_preds } from './trace_events_filter.ts';

const BUFFER_PAGE_SIZE = 4096;
/** Bytes of a CPU's buffer once anything is traced (trace.c: TRACE_BUF_SIZE_DEFAULT). */
const TRACE_BUF_SIZE_DEFAULT = 1441792;
/** Pages of a ring before that. */
const UNEXPANDED_PAGES = 2;
/** Bytes that one write to trace_marker may have, and words of the longest record. */
export const TRACE_BUF_SIZE = 1024;
const ENTRY_WORDS = TRACE_BUF_SIZE / 4 + 16;
/** Processes whose names are remembered (SAVED_CMDLINES). */
const SAVED_CMDLINES = 128;
/** Bytes that one read of trace_pipe gives at most: a page of text less its end. */
const PIPE_BYTES = 4095;
/** Type of the records of trace_marker (trace.h: TRACE_PRINT). */
const TRACE_PRINT = 5;
const INIT = { pid: 1, comm: 'init' };

/** Options that only the nop tracer has (trace_nop.c). */
export const NOP_OPTIONS: readonly string[] = ['test_nop_accept', 'test_nop_refuse'];
/** A record whose line is being printed. */
export interface TraceLine {
  readonly cpu: number;
  readonly comm: string;
  readonly pid: number;
  /** Bits of common_flags and common_preempt_count. */
  readonly flags: number;
  readonly preempt_count: number;
  /** Its time and that of the record behind it, nanoseconds. */
  readonly ns: number;
  readonly next: number;
  /** Number of the line, from 1. */
  readonly idx: number;
}

/** What a kernel decides about tracing. Constant; a saved machine names it. */
export interface TraceFormat {
  /** All events, in the order of available_events. */
  readonly events: readonly TraceEventCall[];
  /** What a record begins with, and the values of its words behind the pid. */
  readonly common_fields: readonly FieldLayout[];
  readonly common_tail: readonly number[];
  addresses(shape: Shape): AddressSpaceLayout;
  /** By bit (trace.c: trace_options), and which of them are on at first. */
  readonly options: readonly string[];
  readonly default_options: readonly string[];
  readonly tracers: readonly string[];
  /** The first is used until another is chosen. */
  readonly clocks: readonly string[];
  /** What the text of a trace_marker's record begins with. */
  readonly mark: string;
  /** What `trace` begins with. */
  header(m: Machine, t: TraceState): string;
  /** What a line begins with while context-info is on. */
  context(t: TraceState, line: TraceLine): string;
  /** Where the files are, and the modes of those that are read and of those that are written too. */
  readonly directories: readonly string[];
  readonly read_mode: number;
  readonly write_mode: number;
  /** The switch that stops the tracer too, which later kernels have not. */
  readonly tracing_enabled: boolean;
}

/** Whether an option is on; false where the kernel has none of that name. */
export function trace_option(t: TraceState, name: string): boolean {
  const at = t.format.options.indexOf(name);
  return at >= 0 && ((t.trace_flags >>> at) & 1) === 1;
}

/** All state of tracing. Listeners are no state: restore_tracing hangs them up again. */
export class TraceState {
  readonly format: TraceFormat;
  readonly arch: TraceArch;
  buffers: RingBufferPerCpu[] = [];
  /** Frames that the buffers occupy beyond those of boot. */
  pages: pfn_t[] = [];
  /** False until something is traced: the buffers are two pages each (ring_buffer_expanded). */
  expanded = false;
  /** Bytes of a CPU's buffer now. */
  entries = 0;
  /** What buffer_size_kb shows as expanded size. */
  readonly buf_size = TRACE_BUF_SIZE_DEFAULT;
  tracing_on = true;
  tracer_enabled = true;
  /** Open `trace` files and resizes: nothing is recorded meanwhile. */
  stop_count = 0;
  /** 1 for each event that is on, in the order of the kernel's table. */
  readonly enabled: Uint8Array;
  readonly filters: EventFilter[];
  /** By the name of the system. */
  readonly system_filters: Map<string, EventFilter> = new Map();
  trace_flags = 0;
  /** Options of the nop tracer: bits by NOP_OPTIONS. */
  nop_flags = 0;
  tracer = 'nop';
  clock: string;
  /** tracing_thresh, nanoseconds. */
  thresh = 0;
  /** 1 for each CPU that records (tracing_cpumask). */
  readonly cpu_on: Uint8Array;
  /** Clock at the last reset, nanoseconds: where latency-format counts from. */
  time_start = 0;
  /** Names of the processes that were traced, by slot; and the slot of a pid. */
  readonly cmdline_pid: Int32Array = new Int32Array(SAVED_CMDLINES).fill(-1);
  readonly cmdlines: string[] = [];
  readonly cmdline_slots: Map<number, number> = new Map();
  cmdline_next = 0;
  /** Changes whenever records go otherwise than by being overwritten. */
  generation = 0;
  /** Readers of pipes: bit 64 for the one of all CPUs. */
  pipe_readers = 0n;

  // Scratch of the listener.
  readonly values: Float64Array = new Float64Array(16);
  readonly entry: Int32Array = new Int32Array(ENTRY_WORDS);

  constructor(m: Machine, format: TraceFormat) {
    this.format = format;
    this.arch = new TraceArch(format, m.shape);
    this.enabled = new Uint8Array(format.events.length);
    this.filters = format.events.map(() => ({ preds: [], text: null }));
    for (const { system } of format.events) {
      this.system_filters.set(system, { preds: [], text: null });
    }
    for (const name of format.default_options) {
      this.trace_flags |= 1 << format.options.indexOf(name);
    }
    this.clock = format.clocks[0]!;
    this.cpu_on = new Uint8Array(m.shape.nr_cpus).fill(1);
    make_buffers(this, m.shape.nr_cpus, UNEXPANDED_PAGES);
    this.entries = UNEXPANDED_PAGES * page_data_size(this);
  }
}

/** Makes the small buffers of a machine that boots (tracer_alloc_buffers). */
export function trace_init(m: Machine, format: TraceFormat): void {
  m.kernel_state.set('tracing', new TraceState(m, format));
}

/** Tracing of a machine that has booted. */
export function trace_state(m: Machine): TraceState {
  const t = m.kernel_state.get('tracing') as TraceState | undefined;
  if (t === undefined) BUG_ON(true, 'trace: the machine has not booted');
  return t!;
}

/** Bytes of a buffer page that hold records (BUF_PAGE_SIZE). */
export function page_data_size(t: TraceState): number {
  return BUFFER_PAGE_SIZE - buffer_page_header(t.arch.long_size);
}

function make_buffers(t: TraceState, nr_cpus: number, nr_pages: number): void {
  t.buffers = [];
  t.generation++;
  for (let cpu = 0; cpu < nr_cpus; cpu++) {
    t.buffers.push(new RingBufferPerCpu(nr_pages, page_data_size(t)));
  }
}

/**
 * Gives each CPU's buffer `bytes`, which empties it: 0, or -ENOMEM and nothing changed. Its pages
 * are taken from the emulated memory (ring_buffer_resize).
 */
export function tracing_resize_ring_buffer(m: Machine, bytes: number): number {
  const t = trace_state(m);
  const nr_pages = Math.max(2, Math.ceil(bytes / page_data_size(t)));
  const wanted = (nr_pages - UNEXPANDED_PAGES) * m.shape.nr_cpus;
  const page_order = Math.max(0, m.shape.page_shift - 12);
  const frames = Math.ceil(wanted / 2 ** page_order);
  if (frames > m.totalram_pages) return -ENOMEM;
  t.expanded = true;
  t.stop_count++;
  const had = t.pages.length;
  let err = 0;
  while (t.pages.length < frames) {
    // Without the OOM killer, unlike Linux: a typing error should not end every process.
    const pfn = m.kernel.alloc_pages(m, GFP_KERNEL | __GFP_NORETRY, 0);
    if (pfn < 0) {
      err = -ENOMEM;
      break;
    }
    t.pages.push(pfn);
  }
  const keep = err === 0 ? frames : had;
  while (t.pages.length > keep) m.kernel.__free_pages(m, t.pages.pop()!, 0);
  if (err === 0) {
    make_buffers(t, m.shape.nr_cpus, nr_pages);
    t.entries = bytes;
  }
  t.stop_count--;
  return err;
}

/** The first use makes the buffers as large as they are meant to be (tracing_update_buffers). */
export function tracing_update_buffers(m: Machine): number {
  const t = trace_state(m);
  return t.expanded ? 0 : tracing_resize_ring_buffer(m, t.buf_size);
}

/** Nanoseconds of the virtual clock. */
function trace_clock(m: Machine): number {
  return Math.floor(m.clock.now_ms * 1e6);
}

/** Forgets all records (tracing_reset_online_cpus). */
export function tracing_reset(m: Machine): void {
  const t = trace_state(m);
  for (const b of t.buffers) ring_buffer_reset(b);
  t.generation++;
  t.time_start = trace_clock(m);
}

// ---- recording

/** Who runs: what a record's pid says. */
function trace_current(m: Machine): { readonly pid: number; readonly comm: string } {
  return m.current ?? m.kthread ?? INIT;
}

/** Remembers the name of a process for its records (trace_save_cmdline). */
function save_cmdline(t: TraceState, pid: number, comm: string): void {
  let slot = t.cmdline_slots.get(pid);
  if (slot === undefined) {
    slot = t.cmdline_next;
    t.cmdline_next = (slot + 1) % SAVED_CMDLINES;
    t.cmdline_slots.delete(t.cmdline_pid[slot]!);
    t.cmdline_pid[slot] = pid;
    t.cmdline_slots.set(pid, slot);
  }
  t.cmdlines[slot] = comm;
}

/** trace_find_cmdline */
function find_cmdline(t: TraceState, pid: number): string {
  if (pid === 0) return '<idle>';
  const slot = t.cmdline_slots.get(pid);
  return slot === undefined ? '<...>' : t.cmdlines[slot]!;
}

function is_recording(m: Machine, t: TraceState): boolean {
  if (!t.tracing_on || !t.tracer_enabled || t.stop_count > 0) return false;
  return t.cpu_on[m.this_cpu] === 1;
}

/**
 * Writes t.entry, with a record of `words` words behind its head, to this CPU's buffer, unless
 * `filter` keeps it out. `head`: type, flags and preempt count.
 */
function commit_entry(
  m: Machine,
  t: TraceState,
  head: number,
  words: number,
  filter: EventFilter | null,
): void {
  const who = trace_current(m);
  t.entry[0] = head;
  t.entry[1] = who.pid;
  const { common_tail } = t.format;
  for (let i = 0; i < common_tail.length; i++) t.entry[2 + i] = common_tail[i]!;
  if (filter !== null && filter.preds.length > 0) {
    if (!filter_match_preds(filter.preds, t.entry)) return;
  }
  save_cmdline(t, who.pid, who.comm);
  ring_buffer_write(t.buffers[m.this_cpu]!, trace_clock(m), t.entry, words);
}

/** A tracepoint has fired (ftrace_raw_event_*). */
function trace_event_raw(
  m: Machine,
  t: TraceState,
  event: number,
  a: number,
  b: number,
  c: number,
  d: number,
  e: number,
): void {
  if (!is_recording(m, t)) return;
  const call = t.format.events[event]!;
  call.assign(m, t.values, a, b, c, d, e);
  const words = fill_event(t.arch, event, t.values, t.entry);
  commit_entry(m, t, call.id | ((call.context ?? 0) << 16), words, t.filters[event]!);
}

/** Hangs up the listener of an event, or takes it off. */
function set_listener(m: Machine, t: TraceState, event: number, on: boolean): void {
  const call = t.format.events[event]!;
  const point = call.point(m);
  const listener = m.trace.listeners.get(call.name);
  if (on && listener === undefined) {
    const fresh = (a: number, b: number, c: number, d: number, e: number): void =>
      trace_event_raw(m, t, event, a, b, c, d, e);
    m.trace.listeners.set(call.name, fresh);
    point.subscribe(fresh);
  } else if (!on && listener !== undefined) {
    m.trace.listeners.delete(call.name);
    point.unsubscribe(listener);
  }
}

/** ftrace_event_enable_disable */
export function event_enable_disable(m: Machine, event: number, on: boolean): void {
  const t = trace_state(m);
  t.enabled[event] = on ? 1 : 0;
  set_listener(m, t, event, on);
}

/** To be called for a machine whose state was restored: its tracepoints have no listeners yet. */
export function restore_tracing(m: Machine): void {
  if (!m.kernel_state.has('tracing')) return;
  const t = trace_state(m);
  for (let event = 0; event < t.format.events.length; event++) {
    set_listener(m, t, event, t.enabled[event] === 1);
  }
}

/**
 * Enables or disables the events that a text names: NAME, SYSTEM, SYSTEM:NAME, SYSTEM:*, *:NAME.
 * 0, or -EINVAL when there is none (ftrace_set_clr_event).
 */
export function ftrace_set_clr_event(m: Machine, text: string, on: boolean): number {
  const colon = text.indexOf(':');
  const any = (part: string): boolean => part === '' || part === '*';
  const system = text.slice(0, colon);
  const name = text.slice(colon + 1);
  let ret = -EINVAL;
  const { events } = trace_state(m).format;
  for (let event = 0; event < events.length; event++) {
    const call = events[event]!;
    const match =
      colon < 0
        ? text === call.name || text === call.system
        : (any(system) || system === call.system) && (any(name) || name === call.name);
    if (!match) continue;
    event_enable_disable(m, event, on);
    ret = 0;
  }
  return ret;
}

/** A line of text from user space (tracing_mark_write). Returns the bytes written. */
export function trace_mark(m: Machine, text: string): number {
  const t = trace_state(m);
  let line = text.slice(0, TRACE_BUF_SIZE);
  const nul = line.indexOf('\0');
  if (nul >= 0) line = line.slice(0, nul);
  if (!line.endsWith('\n')) line = line.slice(0, TRACE_BUF_SIZE - 1) + '\n';
  if (!is_recording(m, t)) return line.length;
  // Head, instruction pointer (0: user space), text, NUL.
  const common = common_words(t.format);
  const start = Math.ceil((common * 4) / t.arch.long_size) * t.arch.long_size;
  const at = (start + t.arch.long_size) >>> 2;
  const words = at + ((line.length + 4) >>> 2);
  t.entry.fill(0, common, words);
  for (let i = 0; i < line.length; i++) {
    t.entry[at + (i >>> 2)]! |= line.charCodeAt(i) << ((i & 3) * 8);
  }
  commit_entry(m, t, TRACE_PRINT, words, null);
  return line.length;
}

// ---- text

/** Milliseconds and microseconds of nanoseconds, rounded (ns2usecs). */
export function ns2usecs(ns: number): number {
  return Math.floor((ns + 500) / 1000);
}

/** Prints records; kept while a file is printed. */
class TracePrinter {
  private readonly t: TraceState;
  private readonly entry: TraceEntry;
  private readonly context_info: boolean;
  private readonly msg_only: boolean;
  /** Records printed so far. */
  idx = 0;

  constructor(t: TraceState) {
    this.t = t;
    this.entry = new TraceEntry(t.arch);
    this.context_info = trace_option(t, 'context-info');
    this.msg_only = trace_option(t, 'printk-msg-only') && trace_option(t, 'trace_printk');
  }

  /** One record as a line; `next` is the time of the record behind it. (print_trace_line) */
  line(
    cpu: number,
    words: Int32Array,
    at: number,
    length: number,
    ns: number,
    next: number,
  ): string {
    const { t } = this;
    const head = words[at]!;
    const type = head & 0xffff;
    this.idx++;
    const text = this.text(type, words, at, length);
    if (type === TRACE_PRINT && this.msg_only) return text.slice(t.format.mark.length);
    if (!this.context_info) return text;
    const pid = words[at + 1]!;
    const context = t.format.context(t, {
      cpu,
      comm: find_cmdline(t, pid),
      pid,
      flags: (head >>> 16) & 0xff,
      preempt_count: head >>> 24,
      ns,
      next,
      idx: this.idx,
    });
    return context + text;
  }

  private text(type: number, words: Int32Array, at: number, length: number): string {
    if (type !== TRACE_PRINT) {
      const event = event_by_id(this.t.format, type);
      BUG_ON(event < 0, 'trace: a record of an unknown type');
      const call = this.t.format.events[event]!;
      return `${call.name}: ${call.print(this.entry.set(words, at, event))}\n`;
    }
    const { long_size } = this.t.arch;
    const start =
      (Math.ceil((common_words(this.t.format) * 4) / long_size) * long_size + long_size) >>> 2;
    let text = '';
    for (let i = start * 4; i < length * 4; i++) {
      const c = (words[at + (i >>> 2)]! >>> ((i & 3) * 8)) & 0xff;
      if (c === 0) break;
      text += String.fromCharCode(c);
    }
    return this.t.format.mark + text;
  }
}

/** Which CPU's event is the oldest: -1 when none has any (__find_next_entry). */
function oldest(found: readonly boolean[], iters: readonly RingBufferIter[]): number {
  let best = -1;
  for (let cpu = 0; cpu < iters.length; cpu++) {
    if (found[cpu] && (best < 0 || iters[cpu]!.time < iters[best]!.time)) best = cpu;
  }
  return best;
}

/**
 * The text of `trace` piece by piece: the header, then all records by time; `only` one CPU's (-1:
 * all). The records stay. It ends early when records are taken away or forgotten meanwhile.
 */
function* trace_lines(m: Machine, only: number): Generator<string, void, void> {
  const t = trace_state(m);
  const { generation } = t;
  yield t.format.header(m, t);
  const cpus = t.buffers.map((_, cpu) => cpu).filter((cpu) => only < 0 || cpu === only);
  const iters = cpus.map((cpu) => ring_buffer_iter_start(t.buffers[cpu]!));
  const found = cpus.map((cpu, i) => ring_buffer_iter_peek(t.buffers[cpu]!, iters[i]!));
  const overrun = t.buffers.some((b) => b.overrun > 0);
  const annotate = overrun && trace_option(t, 'annotate');
  const started = new Set<number>();
  const printer = new TracePrinter(t);
  for (let i = oldest(found, iters); i >= 0 && t.generation === generation; ) {
    const cpu = cpus[i]!;
    const b = t.buffers[cpu]!;
    const { data, length, time } = iters[i]!;
    ring_buffer_iter_advance(b, iters[i]!);
    found[i] = ring_buffer_iter_peek(b, iters[i]!);
    const next = oldest(found, iters);
    const next_time = next < 0 ? time : iters[next]!.time;
    if (annotate && !started.has(cpu)) {
      started.add(cpu);
      if (printer.idx > 0) yield `##### CPU ${cpu} buffer started ####\n`;
    }
    yield printer.line(cpu, b.words, data, length, time, next_time);
    i = next;
  }
}

/** What an open `trace` remembers: where in the text it is, and a piece of it. */
export class TraceReader {
  private readonly cpu: number;
  private lines: Generator<string, void, void> | null = null;
  /** The text from offset `start` on, as far as it was made. */
  private text = '';
  private start = 0;

  constructor(cpu: number) {
    this.cpu = cpu;
  }

  /** As OpenFile.read: text is made as it is read, and anew by a read at offset 0. */
  read(m: Machine, pos: number, buf: Uint8Array): number {
    if (this.lines === null || pos === 0 || pos < this.start) {
      this.lines = trace_lines(m, this.cpu);
      this.text = '';
      this.start = 0;
    }
    while (this.start + this.text.length < pos + buf.length) {
      const { value, done } = this.lines.next();
      if (done) break;
      this.text += value;
      // What lies before the offset is not asked for any more.
      const behind = Math.min(this.text.length, pos - this.start);
      if (behind === 0) continue;
      this.text = this.text.slice(behind);
      this.start += behind;
    }
    const from = pos - this.start;
    const count = Math.max(0, Math.min(buf.length, this.text.length - from));
    for (let i = 0; i < count; i++) buf[i] = this.text.charCodeAt(from + i);
    return count;
  }
}

/** What an open trace_pipe remembers. */
export interface PipeReader {
  /** -1: all CPUs. */
  readonly cpu: number;
  readonly nonblock: boolean;
  /** Text that a short read left. */
  rest: string;
  has_read: boolean;
}

/** Opens trace_pipe; -EBUSY while another reader has it (tracing_open_pipe). */
export function pipe_open(m: Machine, cpu: number, nonblock: boolean): PipeReader | number {
  const t = trace_state(m);
  const mask = cpu < 0 ? 1n << 64n : 1n << BigInt(cpu);
  const conflict = cpu < 0 ? t.pipe_readers !== 0n : (t.pipe_readers & (mask | (1n << 64n))) !== 0n;
  if (conflict) return -EBUSY;
  t.pipe_readers |= mask;
  return { cpu, nonblock, rest: '', has_read: false };
}

export function pipe_release(m: Machine, reader: PipeReader): void {
  const mask = reader.cpu < 0 ? 1n << 64n : 1n << BigInt(reader.cpu);
  trace_state(m).pipe_readers &= ~mask;
}

/**
 * Takes records away as whole lines, a page of text at most: the bytes read; 0 at the end, which
 * comes when tracing_enabled is 0 after something was read; -EAGAIN for who will not wait;
 * -ERESTARTSYS while there is nothing: to be asked again. (tracing_read_pipe)
 */
export function pipe_read(m: Machine, reader: PipeReader, buf: Uint8Array): number {
  const t = trace_state(m);
  if (reader.rest === '') {
    reader.rest = take_lines(t, reader.cpu, Math.min(buf.length, PIPE_BYTES));
    if (reader.rest === '') {
      if (reader.nonblock) return -EAGAIN;
      return reader.has_read && !t.tracer_enabled ? 0 : -ERESTARTSYS;
    }
    reader.has_read = true;
  }
  const count = Math.min(buf.length, reader.rest.length);
  for (let i = 0; i < count; i++) buf[i] = reader.rest.charCodeAt(i);
  reader.rest = reader.rest.slice(count);
  return count;
}

function take_lines(t: TraceState, only: number, wanted: number): string {
  const cpus = t.buffers.map((_, cpu) => cpu).filter((cpu) => only < 0 || cpu === only);
  const iters = cpus.map(() => new RingBufferIter());
  const found = cpus.map((cpu, i) => ring_buffer_peek(t.buffers[cpu]!, iters[i]!));
  const printer = new TracePrinter(t);
  t.generation++;
  let text = '';
  while (text.length < wanted) {
    const i = oldest(found, iters);
    if (i < 0) break;
    const cpu = cpus[i]!;
    const b = t.buffers[cpu]!;
    const { data, length, time } = iters[i]!;
    const lost = b.lost_events > 0 ? `CPU:${cpu} [LOST ${b.lost_events} EVENTS]\n` : '';
    const line = lost + printer.line(cpu, b.words, data, length, time, time);
    if (text !== '' && text.length + line.length > PIPE_BYTES) break;
    text += line;
    ring_buffer_consume(b, iters[i]!);
    found[i] = ring_buffer_peek(b, iters[i]!);
  }
  return text;
}
