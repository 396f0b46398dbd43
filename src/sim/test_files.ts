/**
 * What makes a mounted machine a test double, under /sys/kernel/debug/pageblock: `writes`, the log
 * of everything that was written to virtual files, and `fault/`, by which files and pools fail.
 *
 * A line written to a file under fault/ adds one fault or replaces the one on the same thing;
 * `off` takes all away, and reading shows what is set, in the form in which it was written.
 *   fault/pool   [SIZEkB] N                    no page beyond N can be had for the pool
 *   fault/file   PATH [open|read|write] ERRNO|delay=MS [after=N] [count=N]
 *   fault/node   N [after=READS]               the node goes away, after so many reads of its files
 *   fault/value  PATH KEY=NUMBER …             what a file shows, whatever is the case
 *   fault/text   PATH, and in further lines    all that a file shows
 * Differs from anything in Linux: these files are ours.
 */
import { EINVAL, errno_name, errno_of } from '../lib/errno.ts';
import { default_ops, type FaultOp, type FileFault } from '../lib/faults.ts';
import type { FileRow } from '../lib/file_row.ts';
import { write_record_line } from '../lib/write_log.ts';
import type { Machine } from '../mm/mmzone.ts';

const DIR = '/sys/kernel/debug/pageblock';

const OPS: readonly FaultOp[] = ['open', 'read', 'write'];

/** The number behind `name=` in a word; -1 when it is another word, NaN when it is no number. */
function option(word: string, name: string): number {
  if (!word.startsWith(`${name}=`)) return -1;
  const digits = word.slice(name.length + 1);
  return /^\d{1,9}$/.test(digits) ? Number(digits) : Number.NaN;
}

function set_pool(m: Machine, words: readonly string[]): number {
  const size = words.length === 2 ? /^(\d+)kB$/.exec(words[0]!) : null;
  if (words.length !== (size === null ? 1 : 2)) return -EINVAL;
  const h = size
    ? m.hstates.find(({ size_kb }) => size_kb === Number(size[1]))
    : m.hstates[m.default_hstate_idx];
  const last = words[words.length - 1]!;
  if (h === undefined || !/^\d{1,9}$/.test(last)) return -EINVAL;
  h.fault_limit = Number(last);
  return 0;
}

function parse_file_fault(words: readonly string[]): FileFault | null {
  const [path = '', ...rest] = words;
  if (!path.startsWith('/') || rest.length === 0) return null;
  const fault: FileFault = { path, ops: [], errno: 0, delay_ms: 0, after: 0, count: -1 };
  for (const word of rest) {
    const errno = errno_of(word);
    if (errno > 0) fault.errno = errno;
    else if (OPS.includes(word as FaultOp)) fault.ops.push(word as FaultOp);
    else if (option(word, 'delay') >= 0) fault.delay_ms = option(word, 'delay');
    else if (option(word, 'after') >= 0) fault.after = option(word, 'after');
    else if (option(word, 'count') > 0) fault.count = option(word, 'count');
    else return null;
  }
  // One thing at a time: each counts its own calls.
  if (fault.errno > 0 === fault.delay_ms > 0) return null;
  if (fault.delay_ms > 0 && fault.ops.includes('open')) return null;
  if (fault.ops.length === 0) fault.ops = default_ops(fault.errno);
  return fault;
}

function set_file(m: Machine, words: readonly string[]): number {
  const { faults } = m;
  if (words.length === 2 && words[1] === 'off') {
    faults.files = faults.files.filter(({ path }) => path !== words[0]);
    return 0;
  }
  const fault = parse_file_fault(words);
  if (fault === null) return -EINVAL;
  const same = (other: FileFault): boolean =>
    other.path === fault.path && other.ops.join() === fault.ops.join();
  faults.files = [...faults.files.filter((other) => !same(other)), fault];
  return 0;
}

function set_node(m: Machine, words: readonly string[]): number {
  const [name = '', when] = words;
  const nid = /^\d{1,4}$/.test(name) ? Number(name) : -1;
  if (words.length > 2 || m.nodes[nid] === undefined || !m.shape.numa) return -EINVAL;
  const after = when === undefined || when === 'off' ? 0 : option(when, 'after');
  if (!(after >= 0)) return -EINVAL;
  m.faults.nodes = m.faults.nodes.filter((other) => other.nid !== nid);
  if (when !== 'off') m.faults.nodes.push({ nid, after });
  return 0;
}

function set_value(m: Machine, words: readonly string[]): number {
  const { faults } = m;
  const [path = '', ...pairs] = words;
  if (!path.startsWith('/') || pairs.length === 0) return -EINVAL;
  if (pairs.length === 1 && pairs[0] === 'off') {
    faults.values = faults.values.filter((pinned) => pinned.path !== path);
    return 0;
  }
  for (const pair of pairs) if (!/^[^=\s]*=-?[\d.]+$/.test(pair)) return -EINVAL;
  for (const pair of pairs) {
    const equals = pair.indexOf('=');
    const key = pair.slice(0, equals);
    const value = pair.slice(equals + 1);
    const old = faults.values.find((pinned) => pinned.path === path && pinned.key === key);
    if (old !== undefined) old.value = value;
    else faults.values.push({ path, key, value });
  }
  return 0;
}

function pool_text(m: Machine): string {
  const limited = m.hstates.filter(({ fault_limit }) => fault_limit >= 0);
  return limited.map((h) => `${h.size_kb}kB ${h.fault_limit}\n`).join('');
}

function file_line(f: FileFault): string {
  let line = `${f.path} ${f.ops.join(' ')} `;
  line += f.errno > 0 ? errno_name(f.errno) : `delay=${f.delay_ms}`;
  if (f.after > 0) line += ` after=${f.after}`;
  if (f.count > 0) line += ` count=${f.count}`;
  return line + '\n';
}

function node_text(m: Machine): string {
  const line = (after: number): string => (after > 0 ? ` after=${after}\n` : '\n');
  return m.faults.nodes.map(({ nid, after }) => nid + line(after)).join('');
}

/** One kind of fault: how a line sets it, how all of them go, how they are shown. */
interface FaultFile {
  readonly name: string;
  readonly doc: string;
  set(m: Machine, words: readonly string[]): number;
  clear(m: Machine): void;
  text(m: Machine): string;
}

const FAULT_FILES: readonly FaultFile[] = [
  {
    name: 'pool',
    doc: 'tests: `[SIZEkB] N`: the pool of huge pages stops at N pages; off',
    set: set_pool,
    clear(m) {
      for (const h of m.hstates) h.fault_limit = -1;
    },
    text: pool_text,
  },
  {
    name: 'file',
    doc: 'tests: `PATH [open] [read] [write] ERRNO` or `delay=MS`, `[after=N] [count=N]`: what a file answers; off',
    set: set_file,
    clear(m) {
      m.faults.files = [];
    },
    text: (m) => m.faults.files.map(file_line).join(''),
  },
  {
    name: 'node',
    doc: 'tests: `NODE [after=N]`: the node goes away, after N reads of its files; off',
    set: set_node,
    clear(m) {
      m.faults.nodes = [];
    },
    text: node_text,
  },
  {
    name: 'value',
    doc: 'tests: `PATH KEY=NUMBER …`: what a file shows for a key; off',
    set: set_value,
    clear(m) {
      m.faults.values = [];
    },
    text: (m) => m.faults.values.map((v) => `${v.path} ${v.key}=${v.value}\n`).join(''),
  },
];

/** A path in the first line, and the text that this file shows from now on; PATH off, off. */
function store_text(m: Machine, text: string): number {
  const { faults } = m;
  const end = text.indexOf('\n');
  const [path = '', word, ...more] = (end < 0 ? text : text.slice(0, end)).trim().split(/\s+/);
  if (path === 'off' && word === undefined) {
    faults.texts = [];
    return text.length;
  }
  const off = word === 'off';
  const shown = end < 0 ? '' : text.slice(end + 1);
  if (!path.startsWith('/') || more.length > 0 || (word !== undefined && !off)) return -EINVAL;
  if (off ? shown !== '' : shown === '') return -EINVAL;
  faults.texts = faults.texts.filter((other) => other.path !== path);
  if (!off) faults.texts.push({ path, text: shown });
  return text.length;
}

function store(kind: FaultFile, m: Machine, text: string): number {
  for (const line of text.split('\n')) {
    const words = line.trim().split(/\s+/);
    if (words[0] === '') continue;
    if (words.length === 1 && words[0] === 'off') {
      kind.clear(m);
      continue;
    }
    const err = kind.set(m, words);
    if (err < 0) return err;
  }
  return text.length;
}

/**
 * Sets a fault as `pageblock mount --fault` describes it: the name of a file under fault/, a blank,
 * and a line for it. 0 or -EINVAL.
 */
export function set_fault(m: Machine, spec: string): number {
  const [name, ...words] = spec.trim().split(/\s+/);
  const kind = FAULT_FILES.find((file) => file.name === name);
  return kind === undefined ? -EINVAL : kind.set(m, words);
}

/** Rows that src/mount_root.ts adds to the kernel's. */
export const test_files: readonly FileRow<Machine>[] = [
  {
    path: `${DIR}/writes`,
    mode: 0o600,
    show(seq, m) {
      for (const record of m.write_log.records) seq.puts(write_record_line(record));
    },
    store(m, text) {
      m.write_log.clear();
      return text.length;
    },
    doc: 'writes to virtual files, a JSON object a line; writing forgets them',
  },
  {
    path: `${DIR}/fault/text`,
    mode: 0o600,
    show(seq, m) {
      for (const { path, text } of m.faults.texts) seq.puts(`${path}\n${text}`);
    },
    store: store_text,
    doc: 'tests: PATH in a line, then all that the file shows; off',
  },
  ...FAULT_FILES.map(
    (kind): FileRow<Machine> => ({
      path: `${DIR}/fault/${kind.name}`,
      mode: 0o600,
      show: (seq, m) => void seq.puts(kind.text(m)),
      store: (m, text) => store(kind, m, text),
      doc: kind.doc,
    }),
  ),
];
