/** Frames' bytes and tags: sections, zeroes, copies, giving back. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { run_job } from '../../src/lib/kthread.ts';
import {
  Contents,
  type DiscardVisitor,
  discardable,
  set_section_alignment,
} from '../../src/mm/contents.ts';
import { Memmap } from '../../src/mm/page.ts';

const PAGE = 4096;

function pattern(seed: number, length = PAGE): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => (seed * 37 + i * 11 + (i >> 8)) & 0xff);
}

function read(c: Contents, pfn: number): Uint8Array {
  const buf = new Uint8Array(c.page_size).fill(0xaa);
  c.read_page(pfn, 0, buf, 0, c.page_size);
  return buf;
}

test('a machine of 256 GiB without data takes no host memory', () => {
  const c = new Contents((256 * 2 ** 30) / PAGE, PAGE);
  assert.equal(c.section_bytes(), 0);
  assert.deepEqual(read(c, 60_000_000), new Uint8Array(PAGE));
  c.zero_page(60_000_000);
  assert.equal(c.get_tag(60_000_000), 0);
  c.set_tag(60_000_000, 0);
  c.copy_page(5, 60_000_000);
  assert.equal(c.section_bytes(), 0);
  c.write_page(67_000_000, 0, pattern(1), 0, PAGE);
  assert.equal(c.section_bytes(), 2 ** 24);
});

test('bytes go in and come out at any offset', () => {
  const c = new Contents(10_000, PAGE);
  c.write_page(7, 100, pattern(3), 50, 200);
  const want = new Uint8Array(PAGE);
  want.set(pattern(3).subarray(50, 250), 100);
  assert.deepEqual(read(c, 7), want);
  assert.deepEqual(read(c, 6), new Uint8Array(PAGE));
  assert.deepEqual(read(c, 8), new Uint8Array(PAGE));
  c.zero_range(7, 120, 30);
  want.fill(0, 120, 150);
  assert.deepEqual(read(c, 7), want);
});

for (const [from, to] of [
  [1, 2],
  [4095, 4096],
  [9000, 3],
] as const) {
  test(`copy_page carries bytes and tag, frame ${from} to ${to}`, () => {
    const c = new Contents(10_000, PAGE);
    c.write_page(from, 0, pattern(9), 0, PAGE);
    c.set_tag(from, 0xdeadbeef);
    c.write_page(to, 0, pattern(8), 0, PAGE);
    c.copy_page(from, to);
    assert.deepEqual(read(c, to), pattern(9));
    assert.equal(c.get_tag(to), 0xdeadbeef);
    // An untouched source makes the target zero, and clears its tag.
    c.copy_page(500, to);
    assert.deepEqual(read(c, to), new Uint8Array(PAGE));
    assert.equal(c.get_tag(to), 0);
    assert.deepEqual(read(c, from), pattern(9));
  });
}

test('pages of 64 KiB', () => {
  const c = new Contents(1000, 65536);
  c.write_page(999, 65530, pattern(1), 0, 6);
  c.copy_page(999, 255);
  assert.deepEqual(read(c, 255).subarray(65530), pattern(1).subarray(0, 6));
});

test('free frames are given back once, sections without frames go as a whole', () => {
  const p = new Memmap(10_000, 0);
  const c = new Contents(10_000, PAGE);
  const m = { contents: c, memmap: p };
  for (const pfn of [1, 2, 3, 5000]) c.write_page(pfn, 0, pattern(pfn), 0, PAGE);
  p._count[2] = 1;
  const seen: number[][] = [];
  const discard = (buffer: SharedArrayBuffer, pages: Int32Array, count: number): number => {
    seen.push([...pages.subarray(0, count)]);
    const bytes = new Uint8Array(buffer);
    for (let i = 0; i < count; i++) bytes.fill(0, pages[i]! * PAGE, (pages[i]! + 1) * PAGE);
    return count;
  };
  // Frame 5000 is the only one of its section: no visit, the section is dropped.
  assert.equal(run_job(discardable(m, discard)), 3);
  assert.deepEqual(seen, [[1, 3]]);
  assert.equal(c.section_bytes(), 2 ** 24);
  assert.equal(c.nr_touched(), 1);
  assert.deepEqual(read(c, 2), pattern(2));
  assert.deepEqual(read(c, 1), new Uint8Array(PAGE));
  assert.deepEqual(read(c, 5000), new Uint8Array(PAGE));
  assert.equal(run_job(discardable(m, discard)), 0);
  assert.equal(seen.length, 1);
});

test('frames that the host did not take back keep counting as written', () => {
  const p = new Memmap(100, 0);
  const c = new Contents(100, PAGE);
  c.write_page(1, 0, pattern(1), 0, PAGE);
  c.write_page(2, 0, pattern(2), 0, PAGE);
  p._count[2] = 1;
  assert.equal(run_job(c.discardable(p, () => 0)), 0);
  assert.equal(c.is_touched(1), true);
  // Used again: what was in it must not shine through a partial write's neighbours after zeroing.
  c.zero_page(1);
  assert.deepEqual(read(c, 1), new Uint8Array(PAGE));
});

test('sections start at the aligned address, in host pages of 4 KiB', () => {
  set_section_alignment(() => 512);
  try {
    const p = new Memmap(100, 0);
    const c = new Contents(100, 65536);
    c.write_page(1, 0, pattern(1), 0, 16);
    c.write_page(2, 0, pattern(2), 0, 16);
    p._count[2] = 1;
    let first = -1;
    const visit: DiscardVisitor = (buffer, pages, count) => {
      first = pages[0]!;
      assert.equal(count, 16);
      assert.deepEqual(new Uint8Array(buffer, 512 + first * 4096, 16), pattern(1, 16));
      return 0;
    };
    run_job(c.discardable(p, visit));
    assert.equal(first, 16);
  } finally {
    set_section_alignment(() => 0);
  }
});
