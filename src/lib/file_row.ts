/**
 * One virtual file, as a row of a table: where it is, who may open it, what it prints, what a
 * write does, and a line of documentation. Kernels list their files in such rows, fs/kernfs.ts
 * serves them, and the file table in the README is generated from them.
 *
 * M is the machine. Rows are constants shared by all machines: they keep nothing themselves.
 */
import type { Job } from './kthread.ts';
import type { SeqFile } from './seq_file.ts';

/**
 * Whose rules a file obeys; follows from the path. They differ in what an open checks, when the
 * contents are made anew, and which errno a refused action gets (fs/kernfs.ts).
 */
export type RowKind = 'proc' | 'sysctl' | 'sysfs' | 'debugfs';

/** What a row's functions are told. One object an open file, kept from open to release. */
export interface RowContext {
  /** What the hole in the path stands for: node of `{nid}`, CPU of `{cpu}`, pid of `{pid}`; else -1. */
  readonly id: number;
  /** In a row of a RowDirectory: what its `find` gave, for instance the process. */
  readonly object: unknown;
  /** Who opened the file. */
  readonly caller: { readonly uid: number; readonly gid: number; readonly pid: number };
  /** Of open(2); absent where a row is called without a file. */
  readonly flags?: number;
  /** File offset of the write that `store` is called for. */
  pos: number;
  /** For the row's own use while the file is open. */
  data: unknown;
}

export interface FileRow<M> {
  /** As in the mount, '/proc/buddyinfo'. `{nid}` stands for each node, `{cpu}` for each CPU. */
  readonly path: string;
  /** Permission bits. */
  readonly mode: number;
  /** Prints the whole contents; a negative errno instead fails the read. */
  // biome-ignore lint/suspicious/noConfusingVoidType: most rows cannot fail and return nothing
  show?(seq: SeqFile, m: M, ctx: RowContext): number | void;
  /**
   * Takes what one write(2) brought, one character a byte. Returns what write(2) returns: the
   * count of bytes taken, or a negative errno; a Job that ends in either when it takes long.
   */
  store?(m: M, text: string, ctx: RowContext): number | Job;
  /** Called when the file is opened and has passed the checks of its mode; -errno refuses it. */
  // biome-ignore lint/suspicious/noConfusingVoidType: most rows cannot fail and return nothing
  open?(m: M, ctx: RowContext): number | void;
  /** Called when an open file has gone for which `open` was called. */
  release?(m: M, ctx: RowContext): void;
  /** Binary files and pipes instead of show: as OpenFile.read. */
  read_at?(m: M, pos: number, buf: Uint8Array, ctx: RowContext): number;
  /** sysctl only: a string, which unlike numbers can be read in pieces. */
  readonly string?: boolean;
  /** False on a machine that lacks the file; without it every machine has it. */
  when?(m: M): boolean;
  /** One line for the file table. */
  readonly doc: string;
}

/** Directories that come and go with what they describe: /proc/PID. */
export interface RowDirectory<M> {
  /** As in the mount, with one hole at the end: '/proc/{pid}'. */
  readonly path: string;
  /** Permission bits of the directories. */
  readonly mode: number;
  /** The names at this moment, in their order. They are decimal numbers. */
  names(m: M): string[];
  /**
   * What the name stands for now, or null. Another object under the same name makes another
   * directory: a file of the old one, still open, keeps its own object.
   */
  find(m: M, name: string): object | null;
  /** The files in it; their paths begin with `path`. */
  readonly rows: readonly FileRow<M>[];
  /** Who owns the directory and its files; root without it. */
  owner?(object: object): { uid: number; gid: number };
}

/** The kind that a path belongs to. */
export function row_kind(path: string): RowKind {
  if (path === '/proc/sys' || path.startsWith('/proc/sys/')) return 'sysctl';
  if (path === '/proc' || path.startsWith('/proc/')) return 'proc';
  if (path === '/sys/kernel/debug' || path.startsWith('/sys/kernel/debug/')) return 'debugfs';
  // tracefs keeps debugfs's rules.
  if (path === '/sys/kernel/tracing' || path.startsWith('/sys/kernel/tracing/')) return 'debugfs';
  return 'sysfs';
}
