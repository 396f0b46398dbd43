/**
 * Every text under files/ of the recorded machines against what our files print on a machine of that
 * shape, booted, not put together: line for line. A number may differ only where it counts what runs
 * or ran on the machine (COUNTS); everything that the shape decides must be equal. The columns are
 * compared too. The machine is found from the name of its folder, so that another one can be added.
 *
 * test/unit/files_2_6_35.test.ts compares the same texts byte for byte on machines whose counters
 * were set to the recorded ones.
 */
import assert from 'node:assert/strict';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { mount_root } from '../../src/fs/tree.ts';
import { type Attr, O_RDONLY, O_WRONLY, type OpenFile, type Vnode } from '../../src/fs/vfs.ts';
import { is_job, run_job } from '../../src/lib/kthread.ts';
import { boot, type MachineConfig } from '../../src/machine.ts';
import type { Machine } from '../../src/mm/mmzone.ts';
import { GOLDEN, read_records, read_text } from './recordings.ts';

const FILES = 'linux-2.6.35/files';
const ROOT = { uid: 0, gid: 0, pid: 1 };

/** Where our files lie, by the name of the recorded text. */
const PATHS: Record<string, string> = {
  extfrag_index: '/sys/kernel/debug/extfrag/extfrag_index',
  unusable_index: '/sys/kernel/debug/extfrag/unusable_index',
  lowmem_reserve_ratio: '/proc/sys/vm/lowmem_reserve_ratio',
  min_free_kbytes: '/proc/sys/vm/min_free_kbytes',
};
const path_of = (name: string): string => PATHS[name] ?? '/' + name.replace('_', '/');

/** Lines whose numbers count pages, objects or events. Of all others each character is compared. */
const COUNTS: Record<string, RegExp> = {
  proc_meminfo:
    /^(\w*Free|Cached|Active.*|Inactive.*|AnonPages|Mapped|Unevictable|Slab|S(Recl|Unrecl)aim.*|KernelStack|PageTables|Committed_AS|Buffers):/,
  proc_vmstat: /./,
  proc_zoneinfo: /^( {2}pages free| {8}scanned| {4}n(r|uma)_| {14}count:)/,
  proc_buddyinfo: /./,
  proc_pagetypeinfo: /^Node/,
  extfrag_index: /./,
  unusable_index: /./,
  sys_node_files:
    /^(Node \d (Mem(Free|Used)|Active|Inactive|FilePages|Mapped|AnonPages|Unevictable|KernelStack|PageTables|Slab|S(Recl|Unrecl)aim)|numa_|local_|other_|interleave_)/,
};

/** Left-aligned values: their width is not compared. */
const LEFT = /^(proc_vmstat|proc_zoneinfo)$/;

/** A line with its counts taken out; columns stay as wide as they are. */
function shape_of(name: string, line: string): string {
  if (COUNTS[name]?.test(line) !== true) return line;
  if (/_index$/.test(name)) return line.replace(/(-1|\d)\.-?\d+/g, '#');
  // A value of zero to many digits, right-aligned or behind one blank.
  const label = /^(Node +\d+, zone +\w+(, type +\w+)?|Node \d|\S+)/.exec(line)?.[0] ?? '';
  const rest = line.slice(label.length);
  const masked = LEFT.test(name) || /^(numa|local|other|interleave)_/.test(line);
  return label + rest.replace(/ *\d+/g, (text) => (masked ? ' #' : '#'.padStart(text.length)));
}

interface Recorded {
  dir: string;
  config: MachineConfig;
}

/** The machine that a folder's name describes: architecture, memory, and how many nodes it shows. */
function recorded_machine(name: string): Recorded {
  const [, arch, mib, van] = /^(x86_64|i386pae)-(\d+)M.*?(-van)?$/.exec(name)!;
  const dir = `${FILES}/${name}`;
  const nids = [...read_text(`${dir}/boot/proc_zoneinfo`).matchAll(/^Node (\d+)/gm)];
  const nodes = 1 + Math.max(...nids.map((match) => Number(match[1])));
  const machine = arch === 'x86_64' ? 'x86_64' : 'x86';
  const memory = Number(mib) * 2 ** 20;
  return { dir, config: { machine, memory, nodes, compaction: van === undefined } };
}

function lookup(root: Vnode, path: string): Vnode | null {
  let node = root;
  for (const part of path.split('/').filter((word) => word !== '' && word !== '.')) {
    const next = node.lookup(part);
    if (typeof next === 'number') return null;
    node = next;
  }
  return node;
}

function cat(root: Vnode, path: string): string {
  const node = lookup(root, path);
  assert.ok(node !== null, `${path} is missing`);
  const file = node.open(O_RDONLY, ROOT);
  if (typeof file === 'number') return `errno ${-file}`;
  const buf = new Uint8Array(65536);
  const count = file.read(buf, 0);
  file.release();
  return String.fromCharCode(...buf.subarray(0, Math.max(0, count)));
}

function write(root: Vnode, path: string, text: string): void {
  const file = lookup(root, path)!.open(O_WRONLY, ROOT) as OpenFile;
  const result = file.write(new TextEncoder().encode(text), 0);
  assert.equal(is_job(result) ? run_job(result) : result, text.length);
  file.release();
}

function compare(name: string, ours: string, theirs: string, where: string): void {
  const shapes = (text: string): string[] => text.split('\n').map((line) => shape_of(name, line));
  assert.deepEqual(shapes(ours), shapes(theirs), where);
}

/** The parts of a text that `== path` lines divide, by path; a part that ends in NUL has no last newline. */
function parts(text: string): [path: string, content: string][] {
  return text
    .split(/(?:^|(?<=\0))== /m)
    .slice(1)
    .map((part) => [part.slice(0, part.indexOf('\n')), part.slice(part.indexOf('\n') + 1)]);
}

/** What each state's texts are about, beside the shape: kilobytes written to min_free_kbytes. */
function min_free_of(dir: string, state: string): number | null {
  if (state === 'boot') return null;
  const digits = /^minfree(\d+)$/.exec(state);
  if (digits !== null) return Number(digits[1]);
  const other = readdirSync(join(GOLDEN, dir)).find((name) => name.startsWith('minfree'))!;
  return min_free_of(dir, other);
}

const machines = readdirSync(join(GOLDEN, FILES)).map(recorded_machine);

for (const { dir, config } of machines) {
  const machine = dir.slice(FILES.length + 1);
  const states = readdirSync(join(GOLDEN, dir), { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map((entry) => entry.name);

  for (const state of states) {
    test(`${machine} ${state}: every text, line for line`, () => {
      const m = boot(config);
      const root = mount_root(m);
      const kb = min_free_of(dir, state);
      if (kb !== null) write(root, '/proc/sys/vm/min_free_kbytes', `${kb}\n`);
      let compared = 0;
      for (const name of readdirSync(join(GOLDEN, dir, state))) {
        const theirs = read_text(`${dir}/${state}/${name}`);
        const where = `${machine} ${state} ${name}`;
        compared++;
        if (name === 'proc_cmdline') {
          // What the recorder told its kernel; the words that matter to ours are there.
          assert.ok(theirs.startsWith(cat(root, '/proc/cmdline').split(' numa')[0]!.trim()));
        } else if (name === 'sys_node_files' || name === 'sys_kernel_mm_files') {
          const top = name === 'sys_node_files' ? '/sys/devices/system/node' : '/sys/kernel/mm';
          for (const [path, content] of parts(theirs)) {
            const ours = cat(root, `${top}/${path}`);
            if (path.endsWith('/compact')) assert.equal(ours, 'errno 13');
            else compare(name, ours, content, `${where} ${path}`);
          }
        } else compare(name, cat(root, path_of(name)), theirs, where);
      }
      assert.ok(compared >= 9);
      if (state === 'boot') compare_blocks(m, root, dir);
    });
  }

  test(`${machine}: /proc/sys/vm`, () => {
    const root = mount_root(boot(config));
    const text = read_text(`${dir}/proc_sys_vm`);
    // On one machine it was listed after min_free_kbytes had been raised.
    const recorded = /^== min_free_kbytes\n(\d+)/m.exec(text)![1]!;
    const min_free = cat(root, '/proc/sys/vm/min_free_kbytes');
    if (min_free !== recorded + '\n') write(root, '/proc/sys/vm/min_free_kbytes', recorded);
    const names = parts(text).map(([name, content]) => {
      const ours = cat(root, '/proc/sys/vm/' + name);
      if (name === 'compact_memory') assert.equal(ours, 'errno 13');
      else assert.equal(ours, content, name);
      return name;
    });
    const list = lookup(root, '/proc/sys/vm')!.readdir();
    assert.ok(Array.isArray(list));
    assert.deepEqual(list.map(({ name }) => name).sort(), names);
  });

  if (existsSync(join(GOLDEN, dir, 'ls'))) {
    test(`${machine}: names, types, modes, links and sizes as listed`, () => {
      const root = mount_root(boot(config));
      let at = '';
      let seen: string[] = [];
      let compared = 0;
      const leave = (): void => {
        if (at === '') return;
        const list = lookup(root, at)!.readdir();
        assert.ok(Array.isArray(list), at);
        assert.deepEqual(list.map(({ name }) => name).sort(), seen.sort(), at);
        seen = [];
      };
      for (const line of read_text(`${dir}/ls`).split('\n')) {
        // Differs: no /sys/kernel/slab, and no cpuN links.
        if (line === '/sys/kernel/slab') break;
        if (line.endsWith(':') && line.startsWith('/')) {
          leave();
          at = line.slice(0, -1);
          continue;
        }
        const words = line.split(/ +/);
        const name = words[words.length - 1]!;
        if (words.length < 9 || /^\.\.?$/.test(name) || line.startsWith('l')) continue;
        const path = name.startsWith('/') ? name : `${at}/${name}`;
        const node = lookup(root, path);
        assert.ok(node !== null, path);
        const { mode, size, nlink } = node.getattr() as Attr;
        assert.equal(mode_text(mode), words[0], path);
        assert.equal(size, Number(words[4]), path);
        assert.equal(nlink, Number(words[1]), path);
        if (!name.startsWith('/')) seen.push(name);
        compared++;
      }
      leave();
      assert.equal(compared, 58);
    });
  }
}

function mode_text(mode: number): string {
  const bits = [...'rwxrwxrwx'].map((c, i) => ((mode >> (8 - i)) & 1 ? c : '-')).join('');
  return ((mode & 0o40000) !== 0 ? 'd' : '-') + bits;
}

/** How many page blocks each zone has in all, how many are RESERVE; zone DMA free as recorded. */
function compare_blocks(m: Machine, root: Vnode, dir: string): void {
  const rows = (text: string): number[][] =>
    [...text.matchAll(/^Node \d, zone +\w+ ( +\d+){5} $/gm)].map((match) => {
      const counts = match[0].trim().split(/ +/).slice(-5).map(Number);
      return [counts.reduce((a, b) => a + b), counts[3]!];
    });
  const theirs = read_text(`${dir}/boot/proc_pagetypeinfo`);
  const ours = cat(root, '/proc/pagetypeinfo');
  assert.equal(rows(theirs).length, m.populated_zones.length);
  assert.deepEqual(rows(ours), rows(theirs));
  const dma = (text: string): string[] => text.split('\n').filter((l) => /zone +DMA[ ,]/.test(l));
  assert.deepEqual(dma(ours), dma(theirs));
}

for (const { name, machine, memory, swap, compaction, texts } of read_records(
  'linux-2.6.35/boot_states.jsonl',
)) {
  test(`${name}: the texts of another shape, as booted`, () => {
    const config = { machine, memory: memory * 2 ** 20, swap: (swap ?? 0) * 2 ** 20, compaction };
    const root = mount_root(boot(config));
    for (const [file, text] of Object.entries<string>(texts)) {
      const ours = cat(root, '/proc/' + file).split('\n');
      const theirs = text.split('\n');
      assert.equal(ours.length, theirs.length, file);
      theirs.forEach((line, i) => {
        const masked = (l: string): string => l.replace(/ *\d+/g, ' #');
        assert.equal(masked(ours[i]!), masked(line), file);
        // The top of RAM lies a few frames lower there, and 32-bit kernels differ in size.
        const value = /^(MemTotal|HighTotal|LowTotal|SwapTotal|CommitLimit|DirectMap\w+): +(\d+)/;
        const number = Number(value.exec(line)?.[2] ?? 0);
        if (number > 0) assert.ok(Math.abs(Number(value.exec(ours[i]!)![2]) - number) <= 32, line);
        // Zone DMA is as it was recorded, page for page.
        if (/zone +DMA[ ,]/.test(line)) assert.equal(ours[i], line);
      });
    }
  });
}

test('VmallocUsed follows the hash tables and swap: as recorded with 512, 1024 and 2048 MiB', () => {
  // The machines of files/ and t1/, and that of s3/ with its swap of 1 GiB.
  for (const [mib, swap, used, chunk] of [
    [512, 0, 9068, 34359729227],
    [2048, 0, 11372, 34359726923],
    [1024, 1024, 10096, 34359728195],
  ] as const) {
    const m = boot({ memory: mib * 2 ** 20, swap: swap * 2 ** 20 });
    const text = cat(mount_root(m), '/proc/meminfo');
    assert.match(text, new RegExp(`^VmallocUsed: +${used} kB\nVmallocChunk: +${chunk} kB$`, 'm'));
  }
});
