/**
 * /sys/kernel/debug/tracing of 2.6.35: names, modes and texts against the recordings; enabling,
 * filters, reading and losing of events on a booted machine.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { trace_state } from '../../src/fs/tracefs/trace.ts';
import { event_by_name, event_text, TraceArch } from '../../src/fs/tracefs/trace_events.ts';
import { mount_root } from '../../src/fs/tree.ts';
import {
  type Attr,
  type Dirent,
  O_NONBLOCK,
  O_RDONLY,
  O_TRUNC,
  O_WRONLY,
  type OpenFile,
  S_IFDIR,
  S_IFMT,
  type Vnode,
} from '../../src/fs/vfs.ts';
import { show_gfp_flags, trace_2_6_35 } from '../../src/kernels/linux-2.6.35/trace_events.ts';
import { EAGAIN, EBUSY, EINVAL, ERESTARTSYS } from '../../src/lib/errno.ts';
import { is_job, run_job } from '../../src/lib/kthread.ts';
import { advance_clock, boot } from '../../src/machine.ts';
import { create_process } from '../../src/mm/fork.ts';
import { GFP_ATOMIC, GFP_HIGHUSER_MOVABLE, GFP_KERNEL } from '../../src/mm/gfp.ts';
import { ksm_state_of } from '../../src/mm/ksm_def.ts';
import { do_madvise, MADV_MERGEABLE } from '../../src/mm/madvise.ts';
import { write_tag } from '../../src/mm/memory.ts';
import { do_mmap, MAP_ANONYMOUS, MAP_PRIVATE, PROT_READ, PROT_WRITE } from '../../src/mm/mmap.ts';
import type { Machine } from '../../src/mm/mmzone.ts';
import { kfree, kmalloc, kmem_cache_alloc, kmem_cache_free } from '../../src/mm/slub.ts';
import { swapon } from '../../src/mm/swap_state.ts';
import { fork_machine, state_hash } from '../../src/snapshot.ts';
import { read_lines, read_text } from '../golden/recordings.ts';
import { recorded_machine, X86_64 } from './recorded_machine.ts';

const TRACING = '/sys/kernel/debug/tracing';
const ROOT = { uid: 0, gid: 0, pid: 1 };
const HEADER =
  '# tracer: nop\n#\n#           TASK-PID    CPU#    TIMESTAMP  FUNCTION\n' +
  '#              | |       |          |         |\n';

/** A machine and its files, as a shell sees them. */
class Shell {
  readonly m: Machine;
  private readonly root: Vnode;

  constructor(m: Machine = boot({ memory: 64 * 2 ** 20 })) {
    this.m = m;
    this.root = mount_root(m);
  }

  node(path: string): Vnode {
    let node = this.root;
    for (const name of `${TRACING}/${path}`.split('/').filter((part) => part !== '')) {
      const next = node.lookup(name);
      assert.ok(typeof next !== 'number', path);
      node = next;
    }
    return node;
  }

  open(path: string, flags: number): OpenFile {
    const file = this.node(path).open(flags, ROOT);
    assert.ok(typeof file !== 'number', `${path}: ${file}`);
    return file;
  }

  cat(path: string): string {
    const file = this.open(path, O_RDONLY);
    const buf = new Uint8Array(65536);
    let text = '';
    for (let pos = 0; ; ) {
      const count = file.read(buf, pos);
      assert.ok(count >= 0, `${path}: ${count}`);
      if (count === 0) break;
      text += String.fromCharCode(...buf.subarray(0, count));
      pos += count;
    }
    file.release();
    return text;
  }

  /** One write(2); the result is its own. */
  write(path: string, text: string, flags = 0): number {
    const file = this.open(path, O_WRONLY | flags);
    const result = file.write(
      Uint8Array.from(text, (c) => c.charCodeAt(0)),
      0,
    );
    file.release();
    return is_job(result) ? run_job(result) : result;
  }

  /** The events of `trace`, without the prefix. */
  events(): string[] {
    return this.cat('trace')
      .split('\n')
      .filter((line) => line !== '' && !line.startsWith('#'))
      .map((line) => line.replace(/^.*?\d+\.\d{6}: /, ''));
  }
}

test('the directory is the recorded one, with its modes', () => {
  const shell = new Shell(recorded_machine(X86_64, 'boot'));
  const recorded = read_lines(`${X86_64}/trace_dir`)
    .slice(1)
    .map((line) => line.split(/\s+/))
    .filter((words) => !words[8]!.startsWith('.'))
    .map((words) => `${words[0]} ${words[8]}`);
  const bits = (mode: number): string =>
    [...'rwxrwxrwx'].map((c, i) => ((mode >> (8 - i)) & 1 ? c : '-')).join('');
  const ours = (shell.node('.'.slice(1)).readdir() as Dirent[]).map((entry) => {
    const { mode } = shell.node(entry.name).getattr() as Attr;
    return `${(mode & 0o40000) !== 0 ? 'd' : '-'}${bits(mode)} ${entry.name}`;
  });
  assert.deepEqual(ours.sort(), recorded.sort());
});

test('events/kmem holds the recorded directories and files', () => {
  const shell = new Shell(recorded_machine(X86_64, 'boot'));
  const names = (path: string): string[] =>
    (shell.node(path).readdir() as Dirent[]).map((entry) => entry.name).sort();
  const tree = read_text(`${X86_64}/trace_events_tree`);
  for (const block of tree.split('\n\n')) {
    const [head, ...entries] = block.trim().split('\n');
    const path = head!.replace(':', '').slice(TRACING.length + 1);
    if (path === 'events') {
      assert.deepEqual(names(path), ['enable', 'header_event', 'header_page', 'kmem']);
    } else if (path.startsWith('events/kmem')) assert.deepEqual(names(path), entries.sort());
  }
});

test('format and id files are the recorded ones', () => {
  const shell = new Shell(recorded_machine(X86_64, 'boot'));
  const recorded = read_text(`${X86_64}/trace_formats`)
    .split(/^== kmem\//m)
    .slice(1);
  assert.equal(recorded.length, 12);
  for (const block of recorded) {
    const end = block.indexOf('\n');
    const name = block.slice(0, end);
    const text = block.slice(end + 1).replace(/^ls: .*\n/m, '');
    assert.equal(shell.cat(`events/kmem/${name}/format`), text);
    assert.equal(shell.cat(`events/kmem/${name}/id`), /ID: (\d+\n)/.exec(text)![1]);
  }
});

test('trace_clock, available_tracers and trace_options are the recorded ones', () => {
  const shell = new Shell(recorded_machine(X86_64, 'boot'));
  const [clock, tracers, ...options] = read_lines(`${X86_64}/trace_misc`);
  assert.equal(shell.cat('trace_clock'), clock + '\n');
  assert.equal(shell.cat('available_tracers'), tracers + '\n');
  assert.equal(shell.cat('trace_options'), options.join('\n') + '\n');
});

test('looking at the files changes no state', () => {
  const shell = new Shell();
  const before = state_hash(shell.m);
  const look = (path: string): void => {
    for (const entry of shell.node(path).readdir() as Dirent[]) {
      const name = path === '' ? entry.name : `${path}/${entry.name}`;
      if ((entry.mode & S_IFMT) === S_IFDIR) look(name);
      else if (!/trace_pipe|trace_marker/.test(name)) shell.cat(name);
    }
  };
  look('');
  assert.equal(state_hash(shell.m), before);
});

test('an idle machine: header only, no event on, buffers not yet expanded', () => {
  const shell = new Shell();
  assert.equal(shell.cat('trace'), HEADER);
  assert.equal(HEADER, read_lines(`${X86_64}/trace_sample.gz`).slice(0, 4).join('\n') + '\n');
  assert.equal(shell.cat('set_event'), '');
  assert.equal(shell.cat('buffer_size_kb'), '7 (expanded: 1408)\n');
  assert.equal(shell.cat('current_tracer'), 'nop\n');
  assert.equal(shell.cat('events/kmem/mm_page_alloc/filter'), 'none\n');
  assert.equal(shell.cat('tracing_on') + shell.cat('tracing_enabled'), '1\n1\n');
  for (const path of ['events/enable', 'events/kmem/enable', 'events/kmem/kfree/enable']) {
    assert.equal(shell.cat(path), '0\n');
  }
});

test('header files: pages of 4096 bytes with records behind 16', () => {
  const shell = new Shell();
  assert.match(shell.cat('events/header_page'), /^\tfield: u64 timestamp;\toffset:0;\tsize:8;/);
  assert.match(shell.cat('events/header_page'), /char data;\toffset:16;\tsize:4080;\tsigned:1;\n$/);
  assert.match(shell.cat('events/header_event'), /\ttype_len {4}: {4}5 bits\n/);
  const x86 = new Shell(boot({ machine: 'x86', memory: 64 * 2 ** 20 }));
  assert.match(x86.cat('events/header_page'), /char data;\toffset:12;\tsize:4084;/);
});

test('C11: an allocation event without a page', () => {
  const m = recorded_machine(X86_64, 'boot');
  const text = event_text(
    m,
    new TraceArch(trace_2_6_35, m.shape),
    event_by_name(trace_2_6_35, 'mm_page_alloc'),
    -1,
    9,
    0x646d2,
    0,
    0,
  );
  assert.equal(
    text,
    'page=(null) pfn=15811495352273469440 order=9 migratetype=0 ' +
      'gfp_flags=GFP_HIGHUSER|GFP_NOWARN|GFP_REPEAT|GFP_COMP|GFP_THISNODE',
  );
});

test('names of allocation flags', () => {
  assert.equal(show_gfp_flags(0), 'GFP_NOWAIT');
  assert.equal(show_gfp_flags(0x20058), 'GFP_NOFS|GFP_HARDWALL|GFP_MOVABLE');
  assert.equal(show_gfp_flags(0x200da), 'GFP_HIGHUSER_MOVABLE');
  assert.equal(show_gfp_flags(0x800d4), 'GFP_TEMPORARY|0x4');
});

test('an order-9 request prints as the recorded ones do', () => {
  const shell = new Shell();
  const { m } = shell;
  shell.write('set_event', 'kmem:mm_page_alloc\n');
  m.clock.now_ms = 3249.805;
  const pfn = m.kernel.alloc_pages(m, 0x646d2, 9);
  m.kernel.__free_pages(m, pfn, 9);
  const page = (0xffffea0000000000n + BigInt(pfn) * 56n).toString(16);
  assert.equal(
    shell.cat('trace'),
    `${HEADER}            init-1     [000]     3.249805: mm_page_alloc: page=${page} pfn=${pfn} ` +
      'order=9 migratetype=0 gfp_flags=GFP_HIGHUSER|GFP_NOWARN|GFP_REPEAT|GFP_COMP|GFP_THISNODE\n',
  );
});

test('who runs: a simulated process by name and pid, else init', () => {
  const shell = new Shell();
  shell.write('events/kmem/mm_page_alloc/enable', '1');
  const task = create_process(shell.m, 'worker');
  assert.ok(typeof task !== 'number');
  const vpn = do_mmap(
    shell.m,
    task.mm!,
    null,
    0,
    4,
    PROT_READ | PROT_WRITE,
    MAP_PRIVATE | MAP_ANONYMOUS,
  );
  assert.equal(write_tag(shell.m, task, vpn, 1), 0);
  const lines = shell.cat('trace').split('\n').slice(4);
  assert.ok(lines.some((line) => line.startsWith(`          worker-${task.pid}   [000]`)));
  assert.match(shell.cat('saved_cmdlines'), new RegExp(`^${task.pid} worker$`, 'm'));
});

test('the names of 128 processes are remembered, the oldest are forgotten', () => {
  const shell = new Shell();
  shell.write('events/kmem/mm_page_free_direct/enable', '1');
  for (let pid = 1000; pid < 1200; pid++) {
    shell.m.kthread = { pid, comm: `t${pid}` };
    shell.m.trace.mm_page_free_direct.emit(pid, 0);
  }
  shell.m.kthread = null;
  const lines = shell.cat('trace').split('\n').slice(4, -1);
  assert.equal(lines.length, 200);
  lines.forEach((line, i) => {
    const comm = i < 72 ? '<...>' : `t${1000 + i}`;
    assert.ok(line.startsWith(`${comm.padStart(16)}-${1000 + i}  [000]`), line);
  });
});

test('trace is read in pieces of any size, and ends when it is reset meanwhile', () => {
  const shell = new Shell();
  shell.write('events/kmem/mm_page_free_direct/enable', '1');
  for (let i = 0; i < 500; i++) shell.m.trace.mm_page_free_direct.emit(i, 0);
  const whole = shell.cat('trace');
  assert.equal(whole.split('\n').length, 4 + 500 + 1);
  const file = shell.open('trace', O_RDONLY);
  const at = (pos: number, size: number): string => {
    const buf = new Uint8Array(size);
    return String.fromCharCode(...buf.subarray(0, file.read(buf, pos)));
  };
  let text = '';
  for (let piece = at(0, 7); piece !== ''; piece = at(text.length, 1 + (text.length % 301))) {
    text += piece;
  }
  assert.equal(text, whole);
  for (const pos of [20_000, 5, 19_000, whole.length - 3, whole.length, 1e6, 0]) {
    assert.equal(at(pos, 1000), whole.slice(pos, pos + 1000), String(pos));
  }
  shell.write('trace', '', O_TRUNC);
  shell.m.trace.mm_page_free_direct.emit(1, 0);
  assert.equal(at(1000, 60_000).length < 1000, true);
  assert.equal(at(0, 1000), HEADER);
  file.release();
});

test('slab events: address of the object, size asked for and given', () => {
  const shell = new Shell();
  const { m } = shell;
  shell.write('set_event', 'kmem\n');
  shell.write('events/kmem/filter', 'call_site > 0');
  const cache = m.slab.find('dentry');
  const object = kmem_cache_alloc(m, cache, GFP_KERNEL);
  const block = kmalloc(m, 100, GFP_ATOMIC);
  const large = kmalloc(m, 20000, GFP_KERNEL);
  kmem_cache_free(m, cache, object);
  kfree(m, block);
  kfree(m, large);
  kfree(m, 0);
  const texts = shell.events().filter((text) => /^k/.test(text));
  assert.equal(texts.length, 7);
  const ptr = (text: string): string => / ptr=(\S+)/.exec(text)![1]!;
  assert.match(
    texts[0]!,
    /^kmem_cache_alloc: .* bytes_req=192 bytes_alloc=192 gfp_flags=GFP_KERNEL$/,
  );
  assert.match(texts[1]!, /^kmalloc: .* bytes_req=100 bytes_alloc=128 gfp_flags=GFP_ATOMIC$/);
  assert.match(texts[2]!, /^kmalloc: .* bytes_req=20000 bytes_alloc=32768 gfp_flags=GFP_KERNEL$/);
  assert.match(texts[3]!, /^kmem_cache_free: /);
  assert.deepEqual(texts.slice(3, 6).map(ptr), texts.slice(0, 3).map(ptr));
  assert.equal(ptr(texts[6]!), '(null)');
  const address = BigInt('0x' + ptr(texts[0]!)) - 0xffff880000000000n;
  assert.equal(address % 64n, 0n);
  assert.equal(m.slab.caches[m.memmap.private_[Number(address >> 12n)]!], cache);
});

test('set_event: adds, takes away, names and wildcards; > clears; one word a write', () => {
  const shell = new Shell();
  const list = (): string[] => shell.cat('set_event').split('\n').slice(0, -1);
  assert.equal(shell.write('set_event', 'kmem:mm_page_alloc kmem:kfree\n'), 19);
  assert.deepEqual(list(), ['kmem:mm_page_alloc']);
  assert.equal(shell.write('set_event', 'kfree'), 5);
  assert.deepEqual(list(), ['kmem:kfree', 'kmem:mm_page_alloc'], 'in the order of all events');
  assert.equal(shell.write('set_event', '!kmem:kfree\n'), 12);
  assert.deepEqual(list(), ['kmem:mm_page_alloc']);
  assert.equal(shell.write('set_event', '*:*\n'), 4);
  assert.deepEqual(list().join('\n') + '\n', shell.cat('available_events'));
  assert.equal(list().length, 12);
  assert.equal(shell.write('set_event', 'kmem:nothing\n'), -EINVAL);
  assert.equal(shell.write('set_event', 'vmscan:*\n'), -EINVAL);
  assert.equal(shell.write('set_event', '  \n'), 3);
  assert.equal(list().length, 12);
  assert.equal(shell.write('set_event', 'kmem:mm_page_alloc_extfrag\n', O_TRUNC), 27);
  assert.deepEqual(list(), ['kmem:mm_page_alloc_extfrag']);
  assert.equal(shell.m.trace.mm_page_alloc.enabled, false);
  assert.equal(shell.m.trace.mm_page_alloc_extfrag.enabled, true);
});

test('enable files: 0, 1, X; anything else is EINVAL', () => {
  const shell = new Shell();
  assert.equal(shell.write('events/kmem/mm_page_alloc/enable', '1\n'), 2);
  assert.equal(shell.cat('events/kmem/enable') + shell.cat('events/enable'), 'X\nX\n');
  assert.equal(shell.cat('buffer_size_kb'), '1408\n', 'the first event expands the buffers');
  assert.equal(shell.write('events/kmem/enable', '1'), 1);
  assert.equal(shell.cat('events/kmem/enable') + shell.cat('events/kmem/kfree/enable'), '1\n1\n');
  assert.equal(shell.write('events/enable', '0'), 1);
  assert.equal(shell.cat('events/kmem/enable'), '0\n');
  for (const bad of ['2', 'x', '', '-1', '1 1', '1'.padStart(64, '0')]) {
    assert.equal(shell.write('events/kmem/kfree/enable', bad), -EINVAL, bad);
  }
});

test('buffers take pages of the machine, and give them back', () => {
  const shell = new Shell();
  const { m } = shell;
  const pages = (): readonly number[] => trace_state(m).pages;
  assert.equal(shell.write('buffer_size_kb', '400\n'), 4);
  assert.equal(pages().length, Math.ceil((400 * 1024) / 4080) - 2);
  assert.ok(pages().every((pfn) => m.memmap._count[pfn] === 1));
  assert.equal(shell.cat('buffer_size_kb'), '400\n');
  assert.equal(shell.write('buffer_size_kb', '0'), -EINVAL);
  assert.equal(shell.write('buffer_size_kb', '99999999999'), -12);
  assert.equal(shell.cat('buffer_size_kb'), '400\n');
  assert.equal(shell.write('buffer_size_kb', '1'), 1);
  assert.equal(pages().length, 0);
});

/** Fires mm_page_alloc for the orders given, and returns those that were recorded. */
function recorded_orders(shell: Shell, orders: readonly number[]): number[] {
  shell.write('trace', '', O_TRUNC);
  for (const order of orders) shell.m.trace.mm_page_alloc.emit(4096, order, GFP_KERNEL, order % 3);
  return shell.events().map((text) => Number(/ order=(\d+)/.exec(text)![1]));
}

test('filters: operators, parentheses, precedence, bases, signs, common fields', () => {
  const shell = new Shell();
  const filter = 'events/kmem/mm_page_alloc/filter';
  const orders = [0, 1, 2, 3, 4, 5, 6];
  shell.write('events/kmem/mm_page_alloc/enable', '1');
  const cases: [string, (order: number) => boolean][] = [
    ['order > 3', (o) => o > 3],
    ['order >= 3', (o) => o >= 3],
    ['order<2', (o) => o < 2],
    ['order <= 2\n', (o) => o <= 2],
    ['order == 0x4', (o) => o === 4],
    ['order != 04', (o) => o !== 4],
    ['order == 1 || order == 5', (o) => o === 1 || o === 5],
    ['order > 1 && migratetype == 0', (o) => o > 1 && o % 3 === 0],
    ['order == 1 || order > 2 && order < 5', (o) => o === 1 || (o > 2 && o < 5)],
    ['(order == 1 || order > 2) && order < 5', (o) => (o === 1 || o > 2) && o < 5],
    ['((order == 6))', (o) => o === 6],
    ['migratetype > -1', () => true],
    ['migratetype < -1', () => false],
    ['gfp_flags == 0xd0', () => true],
    ['page == 0xffffea0000038000', () => true],
    ['page > 0xffffea0000038000', () => false],
    ['common_pid == 1 && common_type == 68', () => true],
    ['common_lock_depth == -1', () => true],
    ['order == "2"', (o) => o === 2],
    ['order < 0 x 3', (o) => o < 3],
  ];
  for (const [text, keeps] of cases) {
    assert.equal(shell.write(filter, text), text.length, text);
    assert.equal(shell.cat(filter), text.trimEnd() + '\n');
    assert.deepEqual(recorded_orders(shell, orders), orders.filter(keeps), text);
  }
  assert.equal(shell.write(filter, '0'), 1);
  assert.equal(shell.cat(filter), 'none\n');
  assert.deepEqual(recorded_orders(shell, orders), orders);
});

test('filters that cannot be: EINVAL, the reason in the file, and no filter left', () => {
  const shell = new Shell();
  const filter = 'events/kmem/mm_page_alloc/filter';
  shell.write('events/kmem/mm_page_alloc/enable', '1');
  const cases: [string, string][] = [
    ['order = 1', 'Invalid operator'],
    ['order & 1', 'Invalid operator'],
    ['(order > 1', 'Unbalanced parens'],
    ['order > 1)', 'Unbalanced parens'],
    ['colour > 1', 'Field not found'],
    ['bytes_req > 1', 'Field not found'],
    ['order ~ "1*"', 'Illegal operation for field type'],
    ['order > x', 'Illegal integer value'],
    ['order > -1', 'Illegal integer value'],
    ['order', 'Meaningless filter expression'],
    ['', 'Meaningless filter expression'],
    ['order > 1 &&', 'Meaningless filter expression'],
    ['&& order > 1 order', 'Meaningless filter expression'],
    ['order >', 'Missing field name and/or value'],
    [`order > ${'1'.repeat(256)}`, 'Operand too long'],
  ];
  for (const [text, reason] of cases) {
    shell.write(filter, 'order > 5');
    assert.equal(shell.write(filter, text), -EINVAL, text);
    assert.equal(shell.cat(filter), `${text}\n^\nparse_error: ${reason}\n\n`);
    assert.deepEqual(recorded_orders(shell, [1, 2]), [1, 2]);
  }
});

test('a filter for the subsystem goes to the events that have its fields', () => {
  const shell = new Shell();
  assert.equal(shell.write('events/kmem/filter', 'order > 0\n'), 10);
  assert.equal(shell.cat('events/kmem/filter'), 'order > 0\n');
  assert.equal(shell.cat('events/kmem/mm_page_free_direct/filter'), 'order > 0\n');
  assert.equal(shell.cat('events/kmem/kfree/filter'), 'none\n');
  assert.equal(shell.write('events/kmem/filter', 'colour > 0'), -EINVAL);
  assert.equal(
    shell.cat('events/kmem/filter'),
    "colour > 0\n^\nparse_error: Couldn't find or set field in one of a subsystem's events\n\n",
  );
  assert.equal(shell.cat('events/kmem/mm_page_free_direct/filter'), 'order > 0\n');
  assert.equal(shell.write('events/kmem/filter', '0\n'), 2);
  assert.equal(shell.cat('events/kmem/mm_page_free_direct/filter'), 'none\n');
});

test('the oldest events are overwritten, and trace_pipe says how many it missed', () => {
  const shell = new Shell();
  shell.write('events/kmem/mm_page_alloc/enable', '1');
  shell.write('buffer_size_kb', '8');
  // 44 bytes each, 92 a page, three pages.
  for (let i = 0; i < 400; i++) shell.m.trace.mm_page_alloc.emit(i, 0, 0, 0);
  const events = shell.events();
  assert.ok(events.length > 92 && events.length <= 3 * 92, String(events.length));
  assert.match(events[events.length - 1]!, / pfn=399 /);
  const first = Number(/ pfn=(\d+) /.exec(events[0]!)![1]);
  assert.equal(first % 92, 0);
  assert.equal(first + events.length, 400);
  assert.match(
    shell.cat('per_cpu/cpu0/stats'),
    new RegExp(`^entries: ${events.length}\noverrun: ${first}\n`),
  );
  const pipe = shell.open('trace_pipe', O_RDONLY | O_NONBLOCK);
  const buf = new Uint8Array(65536);
  const lines = String.fromCharCode(...buf.subarray(0, pipe.read(buf, 0))).split('\n');
  assert.equal(lines[0], `CPU:0 [LOST ${first} EVENTS]`);
  assert.match(lines[1]!, new RegExp(` pfn=${first} `));
});

test('trace_pipe takes away, waits, ends, and has one reader', () => {
  const shell = new Shell();
  const { m } = shell;
  shell.write('events/kmem/mm_page_free_direct/enable', '1');
  for (let i = 0; i < 100; i++) m.trace.mm_page_free_direct.emit(i, 0);
  const pipe = shell.open('trace_pipe', O_RDONLY);
  assert.equal(shell.node('trace_pipe').open(O_RDONLY, ROOT), -EBUSY);
  assert.equal(shell.node('per_cpu/cpu0/trace_pipe').open(O_RDONLY, ROOT), -EBUSY);
  let text = '';
  const buf = new Uint8Array(65536);
  for (;;) {
    const count = pipe.read(buf, text.length);
    if (count === -ERESTARTSYS) break;
    assert.ok(count > 0 && count < 4096);
    assert.equal(buf[count - 1], 10, 'whole lines');
    text += String.fromCharCode(...buf.subarray(0, count));
  }
  assert.deepEqual(
    [...text.matchAll(/pfn=(\d+)/g)].map((match) => Number(match[1])),
    Array.from({ length: 100 }, (_, i) => i),
  );
  assert.equal(shell.cat('trace'), HEADER);
  // A short read leaves the rest of the line for the next.
  m.trace.mm_page_free_direct.emit(7, 0);
  const short = new Uint8Array(10);
  let line = '';
  for (let count = pipe.read(short, 0); count > 0; count = pipe.read(short, 0)) {
    line += String.fromCharCode(...short.subarray(0, count));
  }
  assert.match(line, /^ +init-1 .*pfn=7 order=0\n$/);
  shell.write('tracing_enabled', '0');
  assert.equal(pipe.read(buf, 0), 0, 'the end, once tracing is off and something was read');
  pipe.release();
  const again = shell.open('trace_pipe', O_RDONLY | O_NONBLOCK);
  assert.equal(again.read(buf, 0), -EAGAIN);
  again.release();
  const fresh = shell.open('trace_pipe', O_RDONLY);
  assert.equal(fresh.read(buf, 0), -ERESTARTSYS, 'waits: nothing was read yet');
});

test('tracing_on, tracing_enabled and an open trace stop recording', () => {
  const shell = new Shell();
  const { m } = shell;
  shell.write('events/kmem/mm_page_free_direct/enable', '1');
  const fire = (): number => {
    shell.write('trace', '\n', O_TRUNC);
    m.trace.mm_page_free_direct.emit(1, 0);
    return shell.events().length;
  };
  assert.equal(fire(), 1);
  for (const name of ['tracing_on', 'tracing_enabled']) {
    assert.equal(shell.write(name, '0\n'), 2);
    assert.equal(fire(), 0);
    assert.equal(shell.write(name, 'x'), -EINVAL);
    shell.write(name, '5');
    assert.equal(shell.cat(name), '1\n');
    assert.equal(fire(), 1);
  }
  const reader = shell.open('trace', O_RDONLY);
  assert.equal(fire(), 0);
  reader.release();
  assert.equal(fire(), 1);
  shell.write('tracing_cpumask', '0');
  assert.equal(fire(), 0);
  assert.equal(shell.cat('tracing_cpumask'), '0\n');
});

test('trace_marker, options, clock, tracer', () => {
  const shell = new Shell();
  assert.equal(shell.write('trace_marker', 'here\n'), 5);
  assert.equal(shell.write('trace_marker', 'there'), 5);
  assert.deepEqual(shell.events(), ['0: here', '0: there']);
  assert.equal(shell.write('trace_options', 'nocontext-info\n'), 15);
  assert.equal(shell.cat('trace'), '# tracer: nop\n#\n0: here\n0: there\n');
  assert.match(shell.cat('trace_options'), /^nocontext-info$/m);
  assert.equal(shell.write('options/printk-msg-only', '1'), 1);
  assert.equal(shell.cat('trace'), '# tracer: nop\n#\nhere\nthere\n');
  assert.equal(shell.write('trace_options', 'colour'), -EINVAL);
  assert.equal(shell.write('trace_options', 'test_nop_refuse'), -EINVAL);
  assert.equal(shell.write('trace_options', 'test_nop_accept'), 15);
  assert.equal(shell.cat('options/test_nop_accept'), '1\n');
  shell.write('options/context-info', '1');
  shell.write('trace_options', 'latency-format');
  assert.match(shell.cat('trace'), /^# nop latency trace v1.1.5 on 2.6.35$/m);
  assert.equal(shell.write('trace_clock', 'global\n'), 7);
  assert.equal(shell.cat('trace_clock'), 'local [global]\n');
  assert.equal(shell.write('trace_clock', 'wall'), -EINVAL);
  assert.equal(shell.write('current_tracer', 'function\n'), -EINVAL);
  assert.equal(shell.write('current_tracer', 'sched_switch\n'), 13);
  assert.equal(shell.cat('current_tracer'), 'sched_switch\n');
  assert.equal(shell.events().length, 0, 'another tracer begins with an empty buffer');
});

test('other machines: addresses and layouts of 32 bits', () => {
  const m = boot({ machine: 'x86', memory: 64 * 2 ** 20 });
  const arch = new TraceArch(trace_2_6_35, m.shape);
  const text = (pfn: number): string =>
    event_text(m, arch, event_by_name(trace_2_6_35, 'mm_page_free_direct'), pfn, 3, 0, 0, 0);
  assert.equal(text(16), `page=${(0xc1400000 + 16 * 32).toString(16)} pfn=16 order=3`);
  assert.match(text(-1), /^page=\(null\) pfn=\d+ order=3$/);
  const format = new Shell(m).cat('events/kmem/kmalloc/format');
  assert.match(format, /call_site;\toffset:12;\tsize:4;\tsigned:0;/);
  assert.match(format, /gfp_flags;\toffset:28;\tsize:4;\tsigned:0;/);
});

test('a saved machine traces on: buffers, filters and listeners come back', () => {
  const shell = new Shell();
  shell.write('events/kmem/mm_page_alloc/enable', '1');
  shell.write('events/kmem/mm_page_alloc/filter', 'order == 1');
  const one = (m: Machine): void => m.kernel.__free_pages(m, m.kernel.alloc_pages(m, 0xd0, 1), 1);
  one(shell.m);
  const copy = new Shell(fork_machine(shell.m));
  assert.equal(state_hash(copy.m), state_hash(shell.m));
  assert.equal(copy.cat('trace'), shell.cat('trace'));
  one(copy.m);
  copy.m.kernel.__free_pages(copy.m, copy.m.kernel.alloc_pages(copy.m, GFP_HIGHUSER_MOVABLE, 0), 0);
  assert.equal(copy.events().length, 2);
  assert.equal(shell.events().length, 1);
});

test('kernel threads are named: kswapd while it reclaims, ksmd while it scans', () => {
  const shell = new Shell();
  const { m } = shell;
  const threads = (): string =>
    [...shell.cat('trace').matchAll(/^ *([\w<>.]+)-\d+ /gm)].map((match) => match[1]).join(' ');
  swapon(m, '/dev/vdb', 8192);
  const task = create_process(m, 'eater');
  assert.ok(typeof task !== 'number');
  const pages = 18_000;
  const vpn = do_mmap(
    m,
    task.mm!,
    null,
    0,
    pages,
    PROT_READ | PROT_WRITE,
    MAP_PRIVATE | MAP_ANONYMOUS,
  );
  shell.write('events/kmem/mm_page_free_direct/enable', '1');
  for (let i = 0; i < pages; i++) assert.equal(write_tag(m, task, vpn + i, i), 0);
  run_job(advance_clock(m, 10));
  assert.match(threads(), /\bkswapd0\b/);
  assert.match(threads(), /\beater\b/);
  shell.write('events/kmem/enable', '1');
  shell.write('trace', '', O_TRUNC);
  assert.equal(do_madvise(m, task.mm!, vpn, pages, MADV_MERGEABLE), 0);
  ksm_state_of(m).run = 1;
  for (let i = 0; i < 5; i++) run_job(advance_clock(m, 100));
  assert.match(threads(), /\bksmd\b/);
  assert.equal(m.kthread, null);
});
