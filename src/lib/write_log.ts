/**
 * What was written to virtual files: the memory of a test double.
 *
 * fs/kernfs.ts notes every write(2), sim/test_files.ts shows them as JSON lines. The last
 * MAX_RECORDS are kept; numbers go on counting, so that a reader sees what it has missed.
 * Differs from anything in Linux: this is ours.
 */
import { errno_name } from './errno.ts';

export const MAX_RECORDS = 16384;
/** Of one write, this many bytes are kept. */
export const MAX_BYTES = 4096;

export interface WriteRecord {
  /** Counts from 1. */
  n: number;
  /** Virtual milliseconds since boot when the write began. */
  time_ms: number;
  path: string;
  /** The beginning of what was written, one character a byte. */
  bytes: string;
  /** Bytes in all. */
  length: number;
  /** What write(2) returned; null while it is still at work. */
  result: number | null;
  /** Who wrote; pid is 0 where the transport does not know, and uid is then the owner's. */
  uid: number;
  pid: number;
}

export class WriteLog {
  records: WriteRecord[] = [];
  last = 0;

  /** Notes the beginning of a write; its end is noted in the record. */
  begin(
    time_ms: number,
    path: string,
    text: string,
    caller: { readonly uid: number; readonly pid: number },
  ): WriteRecord {
    const record: WriteRecord = {
      n: ++this.last,
      time_ms,
      path,
      bytes: text.length > MAX_BYTES ? text.slice(0, MAX_BYTES) : text,
      length: text.length,
      result: null,
      uid: caller.uid,
      pid: caller.pid,
    };
    if (this.records.length >= MAX_RECORDS) this.records.splice(0, MAX_RECORDS / 4);
    this.records.push(record);
    return record;
  }

  clear(): void {
    this.records = [];
  }
}

/** One line of JSON. Unknown writers are null. */
export function write_record_line(r: WriteRecord): string {
  const known = r.pid !== 0;
  return `${JSON.stringify({
    n: r.n,
    time: Math.round(r.time_ms * 1000) / 1e6,
    path: r.path,
    bytes: r.bytes,
    length: r.length,
    result: r.result,
    ...(r.result !== null && r.result < 0 ? { error: errno_name(r.result) } : {}),
    uid: known ? r.uid : null,
    pid: known ? r.pid : null,
  })}\n`;
}
