/**
 * Checks the recorded tracepoint text of an allocator trace against what a replay fires.
 *
 * The operations come from the .jsonl file beside the text. They are replayed with our tracepoints
 * on, and the events of the recorded zone, found by their pfn, must be the same in the same order,
 * in number and value: one check for each kind of event, one for their sequence. One more check is
 * the text of all lines, of whatever zone (replay_trace_text.ts). In `raw` mode the
 * recorder calls the zone's free lists directly: of that, only the events of the free lists and of
 * freeing are compared. A line without a page (a failed request) belongs to no zone and may be
 * another one's, so it is compared only where our replay fires one as well.
 * Linux: include/trace/events/kmem.h, kernel/trace/trace_output.c.
 */
import { event_text, TraceArch } from '../fs/tracefs/trace_events.ts';
import { trace_2_6_35 } from '../kernels/linux-2.6.35/trace_events.ts';
import type { KernelProfile, Machine, Shape } from '../mm/mmzone.ts';
import type { Tally } from './replay.ts';
import { BuddyReplay, is_buddy_trace } from './replay_buddy.ts';
import { check_event_text } from './replay_trace_text.ts';

const LINE = /^\s*\S.*-\d+\s+\[\d+\]\s+\d+\.\d+: (\w+): (.*?)\s*$/;

/** True for a line of the kernel's trace file. */
export function is_trace_line(line: string): boolean {
  return LINE.test(line);
}

/** An event as text, `name: page=... pfn=... ...` as the kernel prints it; pfn is null for no page. */
interface Event {
  name: string;
  pfn: number | null;
  text: string;
}

/** The events of the free lists and of freeing: all that the recorder's `raw` mode passes through. */
const RAW_EVENTS = ['mm_page_alloc_extfrag', 'mm_page_alloc_zone_locked', 'mm_page_free_direct'];
/** All that ordinary allocation and freeing in one zone fires. */
const ZONE_EVENTS = [...RAW_EVENTS, 'mm_page_alloc', 'mm_page_pcpu_drain'];

/**
 * Checks the lines of a trace file: their text, and, with the records of the operations during which
 * it was taken, which events there are. `operations` is null when those are not beside the file.
 */
export function verify_trace(
  lines: readonly string[],
  operations: readonly Record<string, unknown>[] | null,
  kernel: KernelProfile,
  shape: Shape,
  tally: Tally,
): void {
  tally.check('text', check_text(lines, shape));
  const first = operations?.[0];
  if (first === undefined || !is_buddy_trace(first)) return;
  const replay = new BuddyReplay(first, kernel, shape);
  const raw = first['mode'] === 'raw';
  const names = raw ? RAW_EVENTS : ZONE_EVENTS;
  const ours: Event[] = [];
  record_events(replay.m, names, ours);
  for (let i = 1; i < operations!.length; i++) {
    const wrong = replay.step(operations![i]!);
    if (wrong !== null) {
      tally.fail(`${operations![i]!['t']} ${operations![i]!['i']}`, wrong);
      return;
    }
  }
  const start = replay.zone.zone_start_pfn;
  const recorded = recorded_events(lines, names, start, start + replay.zone.spanned_pages);
  // The recorder drains the per-CPU lists before it starts.
  while (recorded[0]?.name === 'mm_page_pcpu_drain') recorded.shift();
  compare(recorded, ours, names, tally);
}

/** The first line whose text is not what its numbers give. */
function check_text(lines: readonly string[], shape: Shape): string | null {
  const arch = new TraceArch(trace_2_6_35, shape);
  for (let i = 0; i < lines.length; i++) {
    const match = LINE.exec(lines[i]!);
    if (match === null) continue;
    const wrong = check_event_text(match[1]!, match[2]!, arch);
    if (wrong !== null) return `line ${i + 1}: ${wrong}`;
  }
  return null;
}

/** One check of the whole sequence, then one for each kind of event. */
function compare(
  recorded: readonly Event[],
  ours: readonly Event[],
  names: readonly string[],
  tally: Tally,
): void {
  tally.check('events in order', diff_events(recorded, ours));
  for (const name of names) {
    const of_kind = (e: Event): boolean => e.name === name;
    tally.check(name, diff_events(recorded.filter(of_kind), ours.filter(of_kind)));
  }
}

function diff_events(recorded: readonly Event[], ours: readonly Event[]): string | null {
  let i = 0;
  for (let j = 0; j < ours.length; j++, i++) {
    if (ours[j]!.pfn !== null) {
      while (i < recorded.length && recorded[i]!.pfn === null) i++;
    }
    if (recorded[i]?.text !== ours[j]!.text) {
      return `event ${j}: recorded '${recorded[i]?.text ?? 'nothing'}', ours '${ours[j]!.text}'`;
    }
  }
  while (i < recorded.length && recorded[i]!.pfn === null) i++;
  if (i < recorded.length) return `event ${i}: recorded '${recorded[i]!.text}', ours nothing`;
  return null;
}

function recorded_events(
  lines: readonly string[],
  names: readonly string[],
  start: number,
  end: number,
): Event[] {
  const events: Event[] = [];
  for (const line of lines) {
    const match = LINE.exec(line);
    if (match === null || !names.includes(match[1]!)) continue;
    const fields = match[2]!.split(' ');
    const value = (key: string): string =>
      fields.find((f) => f.startsWith(key + '='))?.slice(key.length + 1) ?? '';
    const no_page = value('page') === '(null)';
    const pfn = no_page ? null : Number(value('pfn'));
    if (pfn !== null && (pfn < start || pfn >= end)) continue;
    events.push({ name: match[1]!, pfn, text: `${match[1]!}: ${match[2]!}` });
  }
  return events;
}

/** Appends what the machine fires from now on, printed by the kernel's own rows. */
function record_events(m: Machine, names: readonly string[], to: Event[]): void {
  const arch = new TraceArch(trace_2_6_35, m.shape);
  trace_2_6_35.events.forEach((call, event) => {
    if (!names.includes(call.name)) return;
    call.point(m).subscribe((pfn, b, c, d, e) => {
      const text = `${call.name}: ${event_text(m, arch, event, pfn, b, c, d, e)}`;
      to.push({ name: call.name, pfn: pfn < 0 ? null : pfn, text });
    });
  });
}
