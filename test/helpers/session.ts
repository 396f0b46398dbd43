/** The README's session, typed as it stands there and checked: on every machine it must hold. */
import assert from 'node:assert/strict';
import { type RunOptions, sh } from './processes.ts';

// As the README has it; the marks only cut the output apart, and 6.1 counts moves as pgmigrate.
const SESSION = `set -e
for i in $(seq 1 400); do dd if=/dev/urandom of=mnt/disk/f$i bs=4096 count=128 2>/dev/null & done; wait
sha256sum mnt/disk/f*[02468] > sums;  rm mnt/disk/f*[13579]
cat mnt/proc/buddyinfo; echo =; cat mnt/sys/kernel/debug/extfrag/unusable_index; echo =
echo 1 > mnt/proc/sys/vm/compact_memory
cat mnt/proc/buddyinfo; echo =; cat mnt/sys/kernel/debug/extfrag/unusable_index; echo =
grep -E 'compact|pgmigrate' mnt/proc/vmstat; echo =
sha256sum -c sums
`;

/** Runs the session in the directory of a mount point `mnt`, and checks every part of its output. */
export async function session(cwd: string, runOptions: RunOptions = {}): Promise<void> {
  const out = await sh(SESSION, { ...runOptions, cwd, timeout: 120_000 });
  const [buddyBefore, indexBefore, buddyAfter, indexAfter, counters, sums] = out.split('=\n');
  const order = blockOrder(buddyAfter!);
  assert.ok(pagesAbove(buddyAfter!, order) > pagesAbove(buddyBefore!, order), out);
  assert.ok(sumOfColumn(indexAfter!, order) < sumOfColumn(indexBefore!, order), out);
  // A page of 64 KiB holds what sixteen small ones do.
  const moved = pagesMoved(counters!);
  assert.ok(moved > (order === 8 ? 300 : 1000), counters);
  // Each page that moved was isolated, and so was its target; 6.1 alone counts that.
  const isolated = /^compact_isolated (\d+)$/m.exec(counters!);
  if (isolated !== null) assert.ok(Number(isolated[1]) >= 2 * moved - 1000, counters);
  const lines = sums!.trimEnd().split('\n');
  assert.equal(lines.length, 200);
  for (const line of lines) assert.match(line, /: OK$/);
}

/** Pages that moved, as vmstat's lines tell: 6.1 counts them under another name. */
export function pagesMoved(vmstat: string): number {
  return Number(/^(?:compact_pages_moved|pgmigrate_success) (\d+)$/m.exec(vmstat)?.[1]);
}

function columns(text: string): number[][] {
  return text
    .trimEnd()
    .split('\n')
    .map((line) =>
      line
        .replace(/^.*zone +\S+ +/, '')
        .trimEnd()
        .split(/ +/)
        .map(Number),
    );
}

/** The order of a page block, by the number of orders that buddyinfo has. */
function blockOrder(buddyinfo: string): number {
  const orders = columns(buddyinfo)[0]!.length;
  return orders === 11 ? 9 : orders - 1;
}

/** Free pages in blocks of this order and above. */
function pagesAbove(buddyinfo: string, order: number): number {
  let pages = 0;
  for (const row of columns(buddyinfo)) {
    row.forEach((blocks, i) => {
      if (i >= order) pages += blocks * 2 ** i;
    });
  }
  return pages;
}

function sumOfColumn(text: string, order: number): number {
  return columns(text).reduce((sum, row) => sum + row[order]!, 0);
}
