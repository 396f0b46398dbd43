/**
 * All of the host that programs on a machine could hit by mistake: its sysctls, pools and mounts,
 * as one text, to be compared before and after.
 */
import assert from 'node:assert/strict';
import type { after, before } from 'node:test';
import { mounts } from '../../mount/mountinfo.ts';
import { sh } from './processes.ts';

const FILES =
  '/proc/sys/vm /proc/sys/kernel/shm* /sys/kernel/mm/hugepages /sys/kernel/mm/ksm ' +
  '/sys/kernel/mm/transparent_hugepage /sys/devices/system/node/node*/hugepages';
/** Counters, which move by themselves. */
const COUNTERS = 'full_scans|stat_refresh|pages_|/stats/';

export async function hostState(): Promise<string> {
  const values = await sh(
    `grep -r . ${FILES} 2>/dev/null | grep -Ev '${COUNTERS}' | sort; ` +
      "grep -E '^(HugePages_|Hugetlb)' /proc/meminfo; cut -f1 /proc/swaps; " +
      'ls -A /var/lib /dev | grep -v ^pts; ls -d /var/lib/hugetlbfs 2>&1; true',
  );
  // Machines of other tests, and of whoever else works here, come and go.
  const others = mounts().filter(
    ({ path, type }) => type !== 'fuse.pageblock' && !/^\/tmp\//.test(path),
  );
  return values + others.map(({ path, type }) => `${path} ${type}\n`).join('');
}

/** Compares the host before and after all tests of a file. */
export function hostUnchanged(first: typeof before, last: typeof after): void {
  let state = '';
  first(async () => {
    state = await hostState();
  });
  last(async () => {
    assert.equal(await hostState(), state);
  });
}
