/**
 * `pageblock verify`: replays recordings of real kernels and compares, one file at a time.
 *
 * What a file is, is told by its records, never by its name:
 *   buddy   a zone's state, then allocations and frees with dumps  (replay_buddy.ts)
 *   trace   text of the kmem tracepoints during such a trace       (replay_events.ts)
 *   index   buddyinfo rows with their index rows                   (replay_index.ts)
 *   compact a zone before and after compaction                     (replay_compact.ts)
 *   pool    growth of a huge page pool on a full machine           (replay_pool.ts)
 * and of 6.1, whose records have other schemas, the same (replay_61_*.ts).
 * One "passed" is one check: a dump with the operations before it, the event sequence of a trace and
 * each kind of event in it, one recorded index state, one aspect (moves, lists, counters ...) of
 * one compaction. A replay that has gone wrong says nothing about what follows, so the rest of the file
 * is not counted. Linux has no counterpart.
 */
import type { KernelProfile, Shape } from '../mm/mmzone.ts';
import { is_buddy_trace_61, verify_buddy_61 } from './replay_61_buddy.ts';
import { is_layout_61, verify_layouts_61 } from './replay_61_compact.ts';
import { is_probe_61, verify_probes_61 } from './replay_61_probe.ts';
import { is_buddy_trace, verify_buddy } from './replay_buddy.ts';
import { is_compact_record, verify_compact } from './replay_compact.ts';
import { is_trace_line, verify_trace } from './replay_events.ts';
import { is_index_record, verify_index } from './replay_index.ts';
import { REPLAY_KERNEL, REPLAY_SHAPE } from './replay_machine.ts';
import { is_pool_record, verify_pool } from './replay_pool.ts';

/** Counts checks and reports the failed ones, a line each. */
export class Tally {
  passed = 0;
  failed = 0;
  private readonly name: string;
  private readonly report: (line: string) => void;

  constructor(name: string, report: (line: string) => void) {
    this.name = name;
    this.report = report;
  }

  pass(): void {
    this.passed++;
  }

  fail(record: string, difference: string): void {
    this.failed++;
    this.report(`${this.name}: ${record}: ${difference}`);
  }

  /** Says something that is neither: it is not counted. */
  note(record: string, text: string): void {
    this.report(`${this.name}: ${record}: ${text}`);
  }

  /** Passes when `difference` is null. */
  check(record: string, difference: string | null): void {
    if (difference === null) this.pass();
    else this.fail(record, difference);
  }
}

/** Finds another recording of the same folder by its file name; null when there is none. */
export type SiblingReader = (name: string) => Iterable<string> | null;

/**
 * Checks one recording. `name` is used in reports and, for the text of a trace, to ask `sibling` for
 * the operations that belong to it (`X.jsonl.gz` or `X.jsonl` for `X.trace.gz` or `X.trace`); without
 * them only the text of the lines is checked. `lines` are the file's lines, unpacked, without
 * newlines. Each failed check is reported in one line. Never throws for a bad file.
 */
export function verify_file(
  name: string,
  lines: Iterable<string>,
  report: (line: string) => void,
  sibling: SiblingReader = () => null,
): { passed: number; failed: number } {
  const tally = new Tally(name, report);
  const all = [...lines].filter((line) => line.trim() !== '');
  try {
    verify_lines(name, all, sibling, tally);
  } catch (error) {
    // A broken invariant while replaying is a difference like any other.
    const message = error instanceof Error ? error.message : String(error);
    const malformed = error instanceof TypeError ? 'a field is missing or of a wrong type: ' : '';
    tally.fail('replay', malformed + message);
  }
  if (tally.passed + tally.failed === 0) tally.fail('end', 'nothing in it can be checked');
  return { passed: tally.passed, failed: tally.failed };
}

function verify_lines(
  name: string,
  lines: readonly string[],
  sibling: SiblingReader,
  tally: Tally,
): void {
  const first = lines.find((line) => !line.startsWith('#'));
  if (first === undefined) {
    tally.fail('line 1', 'the file is empty');
    return;
  }
  if (is_trace_line(first)) {
    verify_trace(lines, find_operations(name, sibling), REPLAY_KERNEL, REPLAY_SHAPE, tally);
    return;
  }
  const records = parse_records(lines, tally);
  if (records === null) return;
  // What stands before the first record of a known schema is somebody's remark.
  const at = records.findIndex((r) => is_pool_record(r) || find_schema(r) !== null);
  if (at < 0) {
    tally.fail(
      'record 1',
      'no known schema: see the README of the recordings for what can be read',
    );
    return;
  }
  const known = records.slice(at);
  const verify = find_schema(known[0]!);
  if (verify === null) verify_pool(known, name, tally);
  else verify(known, REPLAY_KERNEL, REPLAY_SHAPE, tally);
}

type Records = readonly Record<string, unknown>[];
type Verify = (records: Records, kernel: KernelProfile, shape: Shape, tally: Tally) => void;

function find_schema(first: Record<string, unknown>): Verify | null {
  if (is_buddy_trace(first)) return verify_buddy;
  if (is_buddy_trace_61(first)) return verify_buddy_61;
  if (is_layout_61(first)) return verify_layouts_61;
  if (is_probe_61(first)) return verify_probes_61;
  if (is_index_record(first)) return verify_index;
  if (is_compact_record(first)) return verify_compact;
  return null;
}

/** The parsed lines, or null (and a failure) when one of them is not an object. */
function parse_records(lines: readonly string[], tally: Tally): Records | null {
  const records: Record<string, unknown>[] = [];
  for (let i = 0; i < lines.length; i++) {
    let record: unknown;
    try {
      record = JSON.parse(lines[i]!);
    } catch {
      record = null;
    }
    if (typeof record !== 'object' || record === null || Array.isArray(record)) {
      tally.fail('line ' + (i + 1), 'neither a JSON object nor a line of a trace');
      return null;
    }
    records.push(record as Record<string, unknown>);
  }
  return records;
}

/** The operations during which a trace was taken, from the file beside it; null without one. */
function find_operations(name: string, sibling: SiblingReader): Records | null {
  const base = name
    .slice(name.lastIndexOf('/') + 1)
    .replace(/\.gz$/, '')
    .replace(/\.[^.]*$/, '');
  const lines = sibling(base + '.jsonl.gz') ?? sibling(base + '.jsonl');
  if (lines === null) return null;
  const records: Record<string, unknown>[] = [];
  for (const line of lines) {
    if (line.trim() !== '') records.push(JSON.parse(line) as Record<string, unknown>);
  }
  return records;
}
