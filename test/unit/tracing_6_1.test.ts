/**
 * Tracing of 6.1: format files and lines as recorded (golden/host-6.18), names of allocation flags as
 * recorded of 6.1 itself (golden/debian-6.1), and the files in both places.
 */
import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { test } from 'node:test';
import { O_RDONLY, O_WRONLY, type OpenFile, type Vnode } from '../../src/fs/vfs.ts';
import { __GFP_NO_KSWAPD } from '../../src/kernels/linux-6.1/gfp.ts';
import { gfp_bits, show_gfp_flags } from '../../src/kernels/linux-6.1/trace_events.ts';
import { EINVAL } from '../../src/lib/errno.ts';
import { is_job, run_job } from '../../src/lib/kthread.ts';
import { advance_clock, boot } from '../../src/machine.ts';
import {
  __GFP_FS,
  __GFP_IO,
  __GFP_MOVABLE,
  __GFP_NOWARN,
  __GFP_REPEAT,
  __GFP_THISNODE,
  __GFP_WAIT,
  GFP_ATOMIC,
  GFP_HIGHUSER_MOVABLE,
  GFP_KERNEL,
} from '../../src/mm/gfp.ts';
import type { Machine } from '../../src/mm/mmzone.ts';
import { mount_root } from '../../src/mount_root.ts';
import { fork_machine, state_hash } from '../../src/snapshot.ts';
import { read_lines, read_text } from '../golden/recordings.ts';

const ROOT = { uid: 0, gid: 0, pid: 1 };
const TRACING = '/sys/kernel/tracing';
const FOLDER = new URL('../../../test/golden/host-6.18/', import.meta.url).pathname;

function open(m: Machine, path: string, flags: number): OpenFile {
  let node: Vnode | number = mount_root(m);
  for (const name of path.split('/').slice(1)) {
    assert.ok(typeof node !== 'number', path);
    node = node.lookup(name);
  }
  assert.ok(typeof node !== 'number', `${path}: ${node}`);
  const file = node.open(flags, ROOT);
  assert.ok(typeof file !== 'number', `${path}: ${file}`);
  return file;
}

function cat(m: Machine, path: string): string {
  const file = open(m, path, O_RDONLY);
  const buf = new Uint8Array(1 << 20);
  let text = '';
  for (;;) {
    const count = file.read(buf, text.length);
    assert.ok(count >= 0, `${path}: ${count}`);
    if (count === 0) break;
    text += Buffer.from(buf.subarray(0, count)).toString('latin1');
  }
  file.release();
  return text;
}

function write(m: Machine, path: string, text: string): number {
  const file = open(m, path, O_WRONLY);
  const result = file.write(Buffer.from(text), 0);
  file.release();
  return is_job(result) ? run_job(result) : result;
}

const machine = (): Machine => boot({ kernel: '6.1', memory: 2 ** 28, cpus: 2, seed: 1 });

/** What a format has where allocation flags are named: 6.1's own list, of which no text is recorded. */
const without_gfp = (text: string): string =>
  text.replace(/__print_flags\(REC->gfp_\w+, .*? \) : "none"/, 'GFP');

test('format files are the recorded ones', () => {
  const m = machine();
  for (const name of readdirSync(`${FOLDER}trace_formats`)) {
    const [system, event] = name.split('.');
    const ours = cat(m, `${TRACING}/events/${system}/${event}/format`);
    const recorded = read_text(`host-6.18/trace_formats/${name}`);
    assert.equal(without_gfp(ours), without_gfp(recorded), name);
    assert.equal(ours.includes('GFP_TRANSHUGE'), recorded.includes('GFP_TRANSHUGE'), name);
  }
});

test('available_events lists the events of the recorded formats, by falling number', () => {
  const m = machine();
  const recorded = readdirSync(`${FOLDER}trace_formats`)
    .map((name) => ({
      name: name.split('.').slice(0, 2).join(':'),
      id: Number(/^ID: (\d+)$/m.exec(read_text(`host-6.18/trace_formats/${name}`))![1]),
    }))
    .sort((a, b) => b.id - a.id)
    .map(({ name }) => `${name}\n`)
    .join('');
  assert.equal(cat(m, `${TRACING}/available_events`), recorded);
});

test('the head of an empty trace is the recorded one', () => {
  assert.equal(cat(machine(), `${TRACING}/trace`), read_text('host-6.18/trace/trace_header.txt'));
});

/** A recorded line with its numbers and names replaced by what may stand there. */
function line_pattern(line: string): RegExp {
  const quoted = line.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
  const general = quoted
    .replace(/^ *\S+-\d+ +/, ' *\\S+-\\d+ +')
    .replace(/ +\d+\\\.\d{6}/, ' +\\d+\\.\\d{6}')
    .replace(/(?<==|\(|~ )0x[0-9a-f]+/g, '0x[0-9a-f]+')
    .replace(/page=[0-9a-f]{16}/, 'page=[0-9a-f]{16}')
    .replace(/\\\[\d{3}\\\]/, '\\[\\d{3}\\]')
    .replace(/=-?\d+(?!x)\b/g, '=-?\\d+')
    .replace(/zone=\w+ +/, 'zone=\\w+ +')
    .replace(/(gfp_flags=)[^ ]+/, '$1[A-Z_|]+')
    .replace(/((?:ret|status|mode)=)\w+/g, '$1\\w+');
  return new RegExp(`^${general}$`);
}

test('lines look like the recorded ones, in both directories and through the pipe', () => {
  const m = machine();
  const samples = readdirSync(`${FOLDER}trace/samples`);
  write(m, '/sys/kernel/debug/tracing/buffer_size_kb', '20000');
  assert.equal(write(m, `${TRACING}/events/enable`, '1'), 1);
  write(m, '/sys/kernel/debug/pageblock/spawn', 'anon 64M\n');
  for (let i = 0; i < 20; i++) advance_clock(m, 100);
  write(m, '/proc/sys/vm/compact_memory', '1');
  const text = cat(m, `${TRACING}/trace`);
  assert.equal(cat(m, '/sys/kernel/debug/tracing/trace'), text);
  const lines = text.split('\n').filter((line) => line !== '' && !line.startsWith('#'));
  const seen = new Set<string>();
  for (const line of lines) seen.add(/: (\w+): /.exec(line)![1]!);
  for (const sample of samples) {
    const name = sample.replace('.txt', '');
    const patterns = read_lines(`host-6.18/trace/samples/${sample}`)
      .filter((line) => line !== '')
      .map(line_pattern);
    for (const line of lines.filter((line) => line.includes(`: ${name}: `)).slice(0, 500)) {
      assert.ok(
        patterns.some((pattern) => pattern.test(line)),
        `${line}\n${patterns[0]}`,
      );
    }
  }
  for (const name of ['mm_page_alloc', 'mm_page_free', 'mm_compaction_begin', 'mm_migrate_pages']) {
    assert.ok(seen.has(name), `no ${name}`);
  }
});

test('names of allocation flags are those that 6.1 printed', () => {
  const recorded = new Set<string>();
  for (const line of read_lines('debian-6.1/g3-direct.jsonl.gz')) {
    for (const [, text] of line.matchAll(/\["try",\d+,"([A-Z_|]+)",\d\]/g)) recorded.add(text!);
  }
  const asked =
    __GFP_IO | __GFP_FS | __GFP_NOWARN | __GFP_REPEAT | __GFP_THISNODE | __GFP_MOVABLE | __GFP_WAIT;
  assert.deepEqual([...recorded], [show_gfp_flags(gfp_bits(asked | __GFP_NO_KSWAPD))]);
  assert.equal(show_gfp_flags(gfp_bits(GFP_HIGHUSER_MOVABLE)), 'GFP_HIGHUSER_MOVABLE');
  assert.equal(show_gfp_flags(gfp_bits(GFP_KERNEL | __GFP_NOWARN)), 'GFP_KERNEL|__GFP_NOWARN');
  assert.equal(show_gfp_flags(gfp_bits(GFP_ATOMIC)), 'GFP_ATOMIC');
  assert.equal(show_gfp_flags(gfp_bits(0)), 'GFP_NOWAIT');
  assert.equal(show_gfp_flags(0), 'none');
  assert.equal(show_gfp_flags(0x80000000 >>> 4), '0x8000000');
});

test('set_event, enable files of systems, filters of systems, the pipe', () => {
  const m = machine();
  const events = `${TRACING}/events`;
  assert.equal(write(m, `${TRACING}/set_event`, 'migrate:*\n'), 10);
  assert.equal(
    cat(m, '/sys/kernel/debug/tracing/set_event'),
    'migrate:mm_migrate_pages\nmigrate:mm_migrate_pages_start\n',
  );
  assert.equal(cat(m, `${events}/enable`), 'X\n');
  assert.equal(cat(m, `${events}/migrate/enable`), '1\n');
  assert.equal(cat(m, `${events}/compaction/enable`), '0\n');
  assert.equal(write(m, `${events}/migrate/enable`, '0'), 1);
  assert.equal(cat(m, `${events}/enable`), '0\n');

  assert.equal(write(m, `${events}/compaction/filter`, 'nid == 0 && order == 3\n'), 23);
  assert.equal(
    cat(m, `${events}/compaction/mm_compaction_finished/filter`),
    'nid == 0 && order == 3\n',
  );
  assert.equal(cat(m, `${events}/compaction/mm_compaction_begin/filter`), 'none\n');
  assert.equal(write(m, `${events}/vmscan/filter`, 'pfn == 1'), -EINVAL);
  write(m, `${events}/compaction/mm_compaction_finished/enable`, '1');
  write(m, `${events}/compaction/mm_compaction_end/enable`, '1');
  write(m, `${events}/compaction/mm_compaction_end/filter`, 'zone_start == 1');
  write(m, '/proc/sys/vm/compact_memory', '1');
  const lines = cat(m, `${TRACING}/trace`)
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('#'));
  // The runs had no order, and one zone begins at frame 1.
  assert.equal(lines.length, 1);
  assert.match(lines[0]!, /mm_compaction_end: zone_start=0x1 .* status=complete$/);
  write(m, `${TRACING}/trace_options`, 'noirq-info');
  assert.match(
    cat(m, `${TRACING}/per_cpu/cpu0/trace_pipe`.replace('_pipe', '')),
    /\[000\] +\d+\.\d{6}: /,
  );
});

test('what reclaim and kswapd do is told, and tracing changes nothing', () => {
  const m = boot({ kernel: '6.1', memory: 2 ** 26, seed: 3 });
  const quiet = fork_machine(m);
  for (const one of [m, quiet]) {
    if (one === m) {
      for (const name of ['vmscan', 'migrate', 'compaction']) {
        write(one, `${TRACING}/events/${name}/enable`, '1');
      }
    } else {
      // The same pages go to the buffers.
      write(one, `${TRACING}/events/vmscan/enable`, '0');
    }
    write(one, '/proc/sys/vm/overcommit_memory', '1');
    for (let i = 0; i < 2; i++) write(one, '/sys/kernel/debug/pageblock/spawn', 'anon 30M\n');
    for (let i = 0; i < 50; i++) advance_clock(one, 100);
  }
  const names = new Set<string>();
  for (const [, name] of cat(m, `${TRACING}/trace`).matchAll(/: (mm_\w+): /g)) names.add(name!);
  for (const name of [
    'wakeup_kswapd',
    'kswapd_wake',
    'direct_reclaim_begin',
    'direct_reclaim_end',
  ]) {
    assert.ok(names.has(`mm_vmscan_${name}`), `${name}: ${[...names]}`);
  }
  assert.match(cat(m, `${TRACING}/trace`), /^ +kswapd0-100 .*: mm_vmscan_kswapd_wake: nid=0/m);
  assert.equal(cat(m, '/proc/vmstat'), cat(quiet, '/proc/vmstat'));
  assert.equal(state_hash(fork_machine(m)), state_hash(m));
});
