/**
 * The recorded table of what 2.6.35 answers to calls on 41 files (errno_table.jsonl.gz), and the
 * list of what is answered otherwise here, on purpose (C8, C9) or because FUSE cannot (R).
 *
 * Used against kernfs (test/unit/errno_table) and against a mount (test/e2e/errno_table).
 */
import { read_lines } from '../golden/recordings.ts';

/** One call: what was done, and what it gave. `ret2` is a second read from the same descriptor. */
export interface Rec {
  op: string;
  file: string;
  mode: string;
  size: number;
  data: string;
  len: number;
  ret: number;
  errno: number;
  /** The file offset after a write. */
  off: number;
  ret2: number;
  open_errno?: number;
}

/** The machine of the table: it was made with min_free_kbytes 45056. */
export const TABLE = 'linux-2.6.35/files/x86_64-512M-numafake4/errno_table.jsonl.gz';

/** One line of the recording is no record but the death of a writer: "Segmentation fault" (C9). */
export function errno_records(): Rec[] {
  return read_lines(TABLE)
    .filter((line) => line.startsWith('{'))
    .map((line) => JSON.parse(line));
}

const VM = '/proc/sys/vm/';

/**
 * C8. Of these strings the real kernel parses nothing (or a number below 0, which it drops), says
 * that it took them, and goes on with a number that it never read: each of these cases gave a pool
 * of a size that nobody asked for. Here the pools stay as they are.
 */
export const C8: { files: readonly string[]; strings: readonly string[] } = {
  files: [VM + 'nr_hugepages', VM + 'nr_hugepages_mempolicy', VM + 'nr_overcommit_hugepages'],
  strings: [
    '',
    '\n',
    ' ',
    'foo',
    'foo\n',
    '1foo',
    '-1',
    '-1\n',
    '3\0',
    '1.5\n',
    '+1\n',
    '-\n',
    '0x\n',
    '1,2\n',
  ],
};

/**
 * C9. Writes that kill the real writer (a division by zero) or the real machine (out of memory at
 * once), so that there is no recorded answer. Here each is EINVAL, state unchanged; through FUSE
 * an empty write does not arrive, and returns 0.
 */
export const C9: readonly (readonly [file: string, data: string])[] = [
  [VM + 'percpu_pagelist_fraction', ''],
  [VM + 'min_free_kbytes', '-1'],
  [VM + 'min_free_kbytes', '-1\n'],
  [VM + 'min_free_kbytes', '2147483648'],
  [VM + 'min_free_kbytes', '4294967295\n'],
];

/** True for a write that C8 lists. */
export function is_c8(rec: Rec): boolean {
  return rec.op === 'write' && C8.files.includes(rec.file) && C8.strings.includes(rec.data);
}

/** Pools above this are as large as memory allows, which is another number on every machine. */
export const POOL_LIMIT = 70;

/** Files whose contents are the machine's state: compared elsewhere, here only that there are any. */
export const STATE =
  /^\/proc\/(buddyinfo|pagetypeinfo|vmstat|zoneinfo|meminfo)$|_index$|node0\/(meminfo|numastat)$/;

/** The records of each file, in the order of the table. */
export function records_by_file(): Map<string, Rec[]> {
  const files = new Map<string, Rec[]>();
  for (const rec of errno_records()) {
    const list = files.get(rec.file);
    if (list === undefined) files.set(rec.file, [rec]);
    else list.push(rec);
  }
  return files;
}
