/**
 * Faults that a tester puts into the virtual files of a machine: what a file answers instead of
 * its contents, which numbers it shows, which nodes are gone.
 *
 * Data and questions about it. fs/kernfs.ts asks, sim/test_files.ts takes the texts that describe
 * faults, mount/ carries out delays. Without faults the questions cost a look at two lengths.
 * A pool that stops short is a field of its Hstate (mm/hugetlb_def.ts).
 * Differs from anything in Linux: this is ours.
 */
import { EACCES, ENOENT, EPERM } from './errno.ts';

export type FaultOp = 'open' | 'read' | 'write';

export interface FileFault {
  path: string;
  ops: FaultOp[];
  /** Positive; 0 for a delay alone. */
  errno: number;
  delay_ms: number;
  /** So many calls go well before. */
  after: number;
  /** So many calls fail, then the fault is over; -1: for ever. */
  count: number;
}

export interface NodeFault {
  nid: number;
  /** So many reads of its files go well before. */
  after: number;
}

export interface ShownText {
  path: string;
  text: string;
}

export interface PinnedValue {
  path: string;
  key: string;
  value: string;
}

const NODE_DIR = '/sys/devices/system/node/';
/** Files that list nodes; `possible` goes on naming those that are gone. */
const NODE_LISTS = /^\/sys\/devices\/system\/node\/(?:online|has_\w+)$/;

/** Which calls an error hits when nobody says so: those that return it in real life. */
export function default_ops(errno: number): FaultOp[] {
  return errno === EACCES || errno === EPERM || errno === ENOENT ? ['open'] : ['read', 'write'];
}

export class Faults {
  files: FileFault[] = [];
  nodes: NodeFault[] = [];
  values: PinnedValue[] = [];
  texts: ShownText[] = [];

  /** What a call on a file is answered with instead: a negative errno, or 0. Counts the call. */
  answer(path: string, op: FaultOp): number {
    for (let i = 0; i < this.files.length; i++) {
      const fault = this.files[i]!;
      if (fault.path !== path || !fault.ops.includes(op) || fault.errno === 0) continue;
      if (fault.after > 0) {
        fault.after--;
        continue;
      }
      if (fault.count > 0 && --fault.count === 0) this.files.splice(i, 1);
      return -fault.errno;
    }
    return 0;
  }

  /** Milliseconds that a call on a file takes longer. Counts the call. */
  delay(path: string, op: FaultOp): number {
    let ms = 0;
    for (let i = 0; i < this.files.length; i++) {
      const fault = this.files[i]!;
      if (fault.path !== path || !fault.ops.includes(op) || fault.delay_ms === 0) continue;
      if (fault.after > 0) {
        fault.after--;
        continue;
      }
      ms += fault.delay_ms;
      if (fault.count > 0 && --fault.count === 0) this.files.splice(i--, 1);
    }
    return ms;
  }

  /** Whether this entry of a directory is that of a node that is gone. */
  hides(dir: string, name: string): boolean {
    if (this.nodes.length === 0 || !NODE_DIR.startsWith(dir)) return false;
    return this.is_gone(`${dir}/${name}/`);
  }

  /** Whether a file is one of a node that is gone. */
  is_gone(path: string): boolean {
    for (const fault of this.nodes) {
      if (fault.after <= 0 && path.startsWith(`${NODE_DIR}node${fault.nid}/`)) return true;
    }
    return false;
  }

  /** Notes that a file was read from its beginning: a node may go away after it. */
  note_read(path: string): void {
    for (const fault of this.nodes) {
      if (fault.after > 0 && path.startsWith(`${NODE_DIR}node${fault.nid}/`)) fault.after--;
    }
  }

  /** Whether a file's text is not shown as it is. */
  changes(path: string): boolean {
    if (this.values.some((pinned) => pinned.path === path)) return true;
    if (this.texts.some((shown) => shown.path === path)) return true;
    return this.nodes.some((fault) => fault.after <= 0) && NODE_LISTS.test(path);
  }

  /** The text that a file shows. */
  change(path: string, text: string): string {
    let shown = this.texts.find((other) => other.path === path)?.text ?? text;
    for (const pinned of this.values) {
      if (pinned.path === path) shown = pin(shown, pinned.key, pinned.value);
    }
    if (!NODE_LISTS.test(path)) return shown;
    const gone = new Set(this.nodes.filter(({ after }) => after <= 0).map(({ nid }) => nid));
    return gone.size === 0 ? shown : without(shown, gone);
  }
}

/**
 * Puts a value into every line of this key: `Key: 12 kB`, `Node 0 Key: 12 kB`, `key 12`. The new
 * number ends where the old one ended. A key that no line has gets a line at the end, of the form
 * of the first line. An empty key stands for the whole text.
 */
export function pin(text: string, key: string, value: string): string {
  if (key === '') return `${value}\n`;
  const line = new RegExp(`^((?:Node \\d+ )?${literal(key)}:?)([ \\t]+)(\\S+)`, 'gm');
  let found = false;
  const changed = text.replace(line, (_, head: string, gap: string, old: string) => {
    found = true;
    // A single blank separates; more of them make columns.
    return head + (gap.length === 1 ? ' ' + value : ` ${value}`.padStart(gap.length + old.length));
  });
  if (found) return changed;
  const model = /^((?:Node \d+ )?)(\w+)(:?)([ \t]+\S+)(.*)$/m.exec(text);
  if (model === null) return text + `${key} ${value}\n`;
  const [, node = '', name = '', colon = '', number = '', unit = ''] = model;
  const width = name.length + number.length;
  return text + node + key + colon + ` ${value}`.padStart(width - key.length) + unit + '\n';
}

function literal(text: string): string {
  return text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
}

/** A list such as `0-2,5` without some of its numbers, in the same form. */
function without(text: string, gone: ReadonlySet<number>): string {
  const left: number[] = [];
  for (const part of text.replace(/[^\d,-]/g, '').split(',')) {
    if (part === '') continue;
    const [from = 0, to = from] = part.split('-').map(Number);
    for (let n = from; n <= to; n++) if (!gone.has(n)) left.push(n);
  }
  let list = '';
  for (let i = 0; i < left.length; i++) {
    const start = i;
    while (left[i + 1] === left[i]! + 1) i++;
    list += (list === '' ? '' : ',') + left[start] + (i > start ? `-${left[i]}` : '');
  }
  return list + text.replace(/^[\d,-]*/, '');
}
