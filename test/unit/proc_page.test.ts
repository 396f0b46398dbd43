/** /proc/kpageflags and kpagecount against the bit numbers that page-types knows. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { proc_page_files } from '../../src/fs/proc/page.ts';
import { O_WRONLY, type OpenFile, type Vnode } from '../../src/fs/vfs.ts';
import { boot, is_job, mount_root, run_job } from '../../src/index.ts';
import { PAGE_MAPPING_ANON, PAGE_MAPPING_FLAGS } from '../../src/mm/page.ts';
import * as flags from '../../src/mm/page_flags.ts';
import { recorded_machine, X86_64 } from './recorded_machine.ts';

const CTX = { id: -1, object: null, caller: { uid: 0, gid: 0, pid: 0 }, pos: 0, data: null };

/** Bits of include/linux/kernel-page-flags.h, by the page flag that sets them. */
const KPF: Record<string, number> = {
  PG_locked: 0,
  PG_error: 1,
  PG_referenced: 2,
  PG_uptodate: 3,
  PG_dirty: 4,
  PG_lru: 5,
  PG_active: 6,
  PG_slab: 7,
  PG_writeback: 8,
  PG_reclaim: 9,
  PG_buddy: 10,
  PG_swapcache: 13,
  PG_swapbacked: 14,
  PG_head: 15,
  PG_tail: 16,
  PG_unevictable: 18,
  PG_reserved: 32,
  PG_mlocked: 33,
  PG_mappedtodisk: 34,
  PG_private: 35,
  PG_private_2: 36,
  PG_checked: 37,
  PG_arch_1: 38,
};

const m = recorded_machine(X86_64, 'boot');
const [kpagecount, kpageflags] = proc_page_files;

function words(row: typeof kpageflags, pfn: number, n: number): bigint[] {
  const buf = new Uint8Array(n * 8);
  const ret = row!.read_at!(m, pfn * 8, buf, CTX);
  return [...new BigUint64Array(buf.buffer, 0, ret / 8)];
}

test('each page flag has its bit', () => {
  // Of huge pages only, and where Linux has another flag's bit.
  const own = ['PG_anon_exclusive'];
  const names = Object.keys(flags).filter((name) => /^PG_/.test(name) && !own.includes(name));
  assert.deepEqual(names.sort(), Object.keys(KPF).sort());
  for (const name of names) {
    m.memmap.flags[5000] = (flags as unknown as Record<string, number>)[name]!;
    assert.deepEqual(words(kpageflags, 5000, 1), [1n << BigInt(KPF[name]!)], name);
  }
  m.memmap.flags[5000] = flags.PG_lru | flags.PG_mlocked | flags.PG_reserved;
  assert.deepEqual(words(kpageflags, 5000, 1), [(1n << 5n) | (1n << 33n) | (1n << 32n)]);
  m.memmap.flags[5000] = 0;
});

test('mapped, anonymous, KSM; a mapped slab page is none', () => {
  const p = m.memmap;
  p._mapcount[5000] = 3;
  assert.deepEqual(words(kpageflags, 4999, 3), [0n, 1n << 11n, 0n]);
  assert.deepEqual(words(kpagecount, 4999, 3), [0n, 3n, 0n]);
  p.mapping[5000] = (7 << 2) | PAGE_MAPPING_ANON;
  assert.deepEqual(words(kpageflags, 5000, 1), [(1n << 11n) | (1n << 12n)]);
  p.mapping[5000] = (7 << 2) | PAGE_MAPPING_FLAGS;
  assert.deepEqual(words(kpageflags, 5000, 1), [(1n << 11n) | (1n << 12n) | (1n << 21n)]);
  p.mapping[5000] = 0;
  p.flags[5000] = flags.PG_slab;
  assert.deepEqual(words(kpageflags, 5000, 1), [1n << 7n]);
  p.flags[5000] = 0;
  p._mapcount[5000] = 0;
});

test('huge pages: all frames of the pool, free and in use', () => {
  const machine = boot({ memory: 2 ** 28 });
  const root = mount_root(machine);
  const write = (path: string, text: string): void => {
    let node: Vnode = root;
    for (const name of path.split('/')) node = node.lookup(name) as Vnode;
    const file = node.open(O_WRONLY, CTX.caller) as OpenFile;
    const result = file.write(Buffer.from(text), 0);
    assert.equal(is_job(result) ? run_job(result) : result, text.length);
    file.release();
  };
  const huge = (): number => {
    const pages = 2 ** 16;
    const buf = new Uint8Array(pages * 8);
    // From the middle of a block on, as a reader with small buffers has it.
    const at = 100;
    const ret = kpageflags!.read_at!(machine, at * 8, buf, CTX);
    const all = [...new BigUint64Array(buf.buffer, 0, ret / 8)];
    return all.filter((word) => ((word >> 17n) & 1n) === 1n).length;
  };
  assert.equal(huge(), 0);
  write('proc/sys/vm/nr_hugepages', '7\n');
  assert.equal(huge(), 7 * 512);
  write('sys/kernel/debug/pageblock/spawn', 'huge 3 touch=2\n');
  assert.equal(machine.hstates[0]!.free_huge_pages, 5);
  assert.equal(huge(), 7 * 512);
});

test('free blocks and slabs: their first frame in 2.6.35, every frame in 6.1', () => {
  for (const kernel of ['2.6.35', '6.1'] as const) {
    const machine = boot({ memory: 2 ** 27, kernel });
    const buf = new Uint8Array(2 ** 15 * 8);
    const ret = kpageflags!.read_at!(machine, 0, buf, CTX);
    const all = [...new BigUint64Array(buf.buffer, 0, ret / 8)];
    const marked = (bit: bigint): number => all.filter((w) => ((w >> bit) & 1n) === 1n).length;
    let [blocks, frames] = [0, 0];
    for (const zone of machine.populated_zones) {
      zone.nr_free.forEach((count, order) => {
        blocks += count;
        frames += count * 2 ** order;
      });
    }
    assert.equal(marked(10n), kernel === '6.1' ? frames : blocks, kernel);
    const first = machine.memmap.flags.filter((f) => (f & flags.PG_slab) !== 0).length;
    assert.ok(kernel === '6.1' ? marked(7n) > first : marked(7n) === first, kernel);
  }
});

test('whole words only; the file ends with the last frame; a hole has no page', () => {
  const end = 0x1ffdd;
  assert.equal(kpageflags!.read_at!(m, 4, new Uint8Array(8), CTX), -22);
  assert.equal(kpageflags!.read_at!(m, 0, new Uint8Array(12), CTX), -22);
  assert.equal(words(kpageflags, end - 2, 100).length, 2);
  assert.equal(words(kpageflags, end, 1).length, 0);
  assert.equal(words(kpageflags, end + 1000, 1).length, 0);
  m.section_valid[0] = 0;
  assert.deepEqual(words(kpageflags, 5000, 1), [1n << 20n]);
  assert.deepEqual(words(kpagecount, 5000, 1), [0n]);
  m.section_valid[0] = 1;
});
