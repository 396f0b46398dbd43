/**
 * Tracing: records of the memory events in a ring buffer, and their text.
 *
 * Enabling an event hangs a listener on its tracepoint (mm/trace.ts); a disabled one costs a load and
 * a branch where it would fire. The listener fills a record as the kernel lays it out, asks the
 * event's filter and writes it to the buffer of the CPU that runs. Files read the buffers merged by
 * time: `trace` leaves the records where they are, `trace_pipe` takes them away.
 * Who runs is the simulated process, else the kernel thread, else init: what host programs do to
 * the mount counts as done by the emulated machine's first process.
 * Linux: kernel/trace/{trace,trace_events,trace_output,trace_nop}.c of 2.6.35. Differs: no function
 * or scheduler tracing (sched_switch may be chosen and records nothing); the options raw, hex, bin,
 * stacktrace and those of them change nothing; the text of latency-format was compared with no
 * recording; time is the virtual clock's, which in a mount stands still between two ticks.
 */
import { BUG_ON } from '../../lib/bug.ts';
import { EAGAIN, EBUSY, EINVAL, ENOMEM, ERESTARTSYS } from '../../lib/errno.ts';
import {
  buffer_page_header,
  RingBufferIter,
  RingBufferPerCpu,
  ring_buffer_consume,
  ring_buffer_entries,
  ring_buffer_iter_advance,
  ring_buffer_iter_peek,
  ring_buffer_iter_start,
  ring_buffer_peek,
  ring_buffer_reset,
  ring_buffer_write,
} from '../../lib/ring_buffer.ts';
import { __GFP_NORETRY, GFP_KERNEL } from '../../mm/gfp.ts';
import type { Machine } from '../../mm/mmzone.ts';
import type { pfn_t } from '../../mm/page.ts';
import {
  COMMON_WORDS,
  event_by_id,
  fill_event,
  TRACE_EVENTS,
  TraceArch,
  TraceEntry,
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
const UTS_RELEASE = '2.6.35';
const INIT = { pid: 1, comm: 'init' };

/** By bit (trace.c: trace_options). */
export const TRACE_OPTIONS: readonly string[] = [
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
/** Options that only the nop tracer has (trace_nop.c). */
export const NOP_OPTIONS: readonly string[] = ['test_nop_accept', 'test_nop_refuse'];
const bit = (name: string): number => 1 << TRACE_OPTIONS.indexOf(name);
const ITER_VERBOSE = bit('verbose');
const ITER_ANNOTATE = bit('annotate');
const MSG_ONLY = bit('printk-msg-only') | bit('trace_printk');
const ITER_CONTEXT_INFO = bit('context-info');
const ITER_LATENCY_FMT = bit('latency-format');
const DEFAULT_FLAGS =
  bit('print-parent') |
  bit('trace_printk') |
  bit('annotate') |
  bit('context-info') |
  bit('sleep-time') |
  bit('graph-time');

/** All state of tracing. Listeners are no state: restore_tracing hangs them up again. */
export class TraceState {
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
  /** 1 for each event that is on, in the order of TRACE_EVENTS. */
  readonly enabled: Uint8Array = new Uint8Array(TRACE_EVENTS.length);
  readonly filters: EventFilter[] = TRACE_EVENTS.map(() => ({ preds: [], text: null }));
  readonly system_filter: EventFilter = { preds: [], text: null };
  trace_flags = DEFAULT_FLAGS;
  /** Options of the nop tracer: bits by NOP_OPTIONS. */
  nop_flags = 0;
  tracer = 'nop';
  clock = 'local';
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
  readonly values: Float64Array = new Float64Array(8);
  readonly entry: Int32Array = new Int32Array(ENTRY_WORDS);

  constructor(m: Machine) {
    this.arch = new TraceArch(m.shape);
    this.cpu_on = new Uint8Array(m.shape.nr_cpus).fill(1);
    make_buffers(this, m.shape.nr_cpus, UNEXPANDED_PAGES);
    this.entries = UNEXPANDED_PAGES * page_data_size(this);
  }
}

/** Tracing of a machine; made when it is first asked for. */
export function trace_state(m: Machine): TraceState {
  let t = m.kernel_state.get('tracing') as TraceState | undefined;
  if (t === undefined) {
    t = new TraceState(m);
    m.kernel_state.set('tracing', t);
  }
  return t;
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

/** Writes t.entry, with a record of `words` words behind its head, to this CPU's buffer. */
function commit_entry(m: Machine, t: TraceState, type: number, words: number): void {
  const who = trace_current(m);
  t.entry[0] = type;
  t.entry[1] = who.pid;
  t.entry[2] = -1; // nobody holds the big kernel lock
  if (type !== TRACE_PRINT) {
    const { preds } = t.filters[event_by_id(type)]!;
    if (preds.length > 0 && !filter_match_preds(preds, t.entry)) return;
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
  const call = TRACE_EVENTS[event]!;
  call.assign(m, t.values, a, b, c, d, e);
  commit_entry(m, t, call.id, fill_event(t.arch, event, t.values, t.entry));
}

/** Hangs up the listener of an event, or takes it off. */
function set_listener(m: Machine, t: TraceState, event: number, on: boolean): void {
  const call = TRACE_EVENTS[event]!;
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
  for (let event = 0; event < TRACE_EVENTS.length; event++) {
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
  for (let event = 0; event < TRACE_EVENTS.length; event++) {
    const call = TRACE_EVENTS[event]!;
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
  const start = Math.ceil((COMMON_WORDS * 4) / t.arch.long_size) * t.arch.long_size;
  const at = (start + t.arch.long_size) >>> 2;
  const words = at + ((line.length + 4) >>> 2);
  t.entry.fill(0, COMMON_WORDS, words);
  for (let i = 0; i < line.length; i++) {
    t.entry[at + (i >>> 2)]! |= line.charCodeAt(i) << ((i & 3) * 8);
  }
  commit_entry(m, t, TRACE_PRINT, words);
  return line.length;
}

// ---- text

/** Milliseconds and microseconds of nanoseconds, rounded (ns2usecs). */
function ns2usecs(ns: number): number {
  return Math.floor((ns + 500) / 1000);
}

/** Prints records; kept while a file is printed. */
class TracePrinter {
  private readonly t: TraceState;
  private readonly entry: TraceEntry;
  /** Records printed so far. */
  idx = 0;

  constructor(t: TraceState) {
    this.t = t;
    this.entry = new TraceEntry(t.arch);
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
    const type = words[at]! & 0xffff;
    this.idx++;
    const text = this.text(type, words, at, length);
    if (type === TRACE_PRINT && (t.trace_flags & MSG_ONLY) === MSG_ONLY) {
      return text.slice('0: '.length);
    }
    if ((t.trace_flags & ITER_CONTEXT_INFO) === 0) return text;
    const pid = words[at + 1]!;
    const comm = find_cmdline(t, pid);
    if ((t.trace_flags & ITER_LATENCY_FMT) !== 0) {
      return this.latency_context(cpu, comm, pid, ns, next) + text;
    }
    const usecs = ns2usecs(ns);
    const secs = String(Math.floor(usecs / 1e6)).padStart(5);
    const rest = String(usecs % 1e6).padStart(6, '0');
    const who = `${comm.padStart(16)}-${String(pid).padEnd(5)}`;
    return `${who} [${String(cpu).padStart(3, '0')}] ${secs}.${rest}: ${text}`;
  }

  private text(type: number, words: Int32Array, at: number, length: number): string {
    if (type !== TRACE_PRINT) {
      const event = event_by_id(type);
      BUG_ON(event < 0, 'trace: a record of an unknown type');
      const call = TRACE_EVENTS[event]!;
      return `${call.name}: ${call.print(this.entry.set(words, at, event))}\n`;
    }
    const { long_size } = this.t.arch;
    const start = (Math.ceil((COMMON_WORDS * 4) / long_size) * long_size + long_size) >>> 2;
    let text = '';
    for (let i = start * 4; i < length * 4; i++) {
      const c = (words[at + (i >>> 2)]! >>> ((i & 3) * 8)) & 0xff;
      if (c === 0) break;
      text += String.fromCharCode(c);
    }
    return `0: ${text}`;
  }

  /** trace_print_lat_context: processes are never in interrupts and hold no locks here. */
  private latency_context(
    cpu: number,
    comm: string,
    pid: number,
    ns: number,
    next: number,
  ): string {
    const abs = ns2usecs(ns - this.t.time_start);
    const rel = ns2usecs(next - ns);
    if ((this.t.trace_flags & ITER_VERBOSE) !== 0) {
      const ms = (us: number): string =>
        `${Math.floor(us / 1000)}.${String(us % 1000).padStart(3, '0')}ms`;
      const hex = (n: number): string => n.toString(16).padStart(8, '0');
      return (
        `${comm.padStart(16)} ${String(pid).padStart(5)} ${String(cpu).padStart(3)} 0 ` +
        `${hex(0)} ${hex(this.idx)} [${hex(ns2usecs(ns))}] ${ms(abs)} (+${ms(rel)}): `
      );
    }
    const mark = rel > 100 ? '!' : rel > 1 ? '+' : ' ';
    const who = `${comm.slice(0, 8).padStart(8)}-${String(pid).padEnd(5)}`;
    return `${who} ${String(cpu).padStart(3)}..... ${String(abs).padStart(4)}us${mark}: `;
  }
}

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
  if ((t.trace_flags & ITER_CONTEXT_INFO) === 0) return head;
  const verbose = (t.trace_flags & ITER_VERBOSE) !== 0;
  if ((t.trace_flags & ITER_LATENCY_FMT) === 0) return verbose ? head : head + FUNC_HELP;
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
  yield trace_header(m, t);
  const cpus = t.buffers.map((_, cpu) => cpu).filter((cpu) => only < 0 || cpu === only);
  const iters = cpus.map((cpu) => ring_buffer_iter_start(t.buffers[cpu]!));
  const found = cpus.map((cpu, i) => ring_buffer_iter_peek(t.buffers[cpu]!, iters[i]!));
  const overrun = t.buffers.some((b) => b.overrun > 0);
  const annotate = overrun && (t.trace_flags & ITER_ANNOTATE) !== 0;
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
