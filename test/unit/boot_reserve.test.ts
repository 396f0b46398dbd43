/** The RESERVE blocks of a booted x86-64 machine, as every recorded one has them. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { list_entries } from '../../src/lib/list.ts';
import { boot } from '../../src/machine.ts';
import { debug_vm } from '../../src/mm/debug_vm.ts';
import { MIGRATE_RESERVE, MIGRATE_TYPES } from '../../src/mm/gfp.ts';

test('boot: one RESERVE block lacks a page, the other is whole and has no buddy', () => {
  for (const mib of [512, 1024, 2048]) {
    const m = boot({ memory: mib * 2 ** 20 });
    const zone = m.populated_zones[1]!;
    const counts: number[] = [];
    for (let order = 0; order < m.shape.max_order; order++) {
      const head = zone.free_list + order * MIGRATE_TYPES + MIGRATE_RESERVE;
      counts.push(list_entries(m.memmap, head).length);
    }
    assert.deepEqual(counts, [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0], `${mib} MiB`);
  }
});

test('boot: per-CPU areas do not lie on the memmap, with any number of processors', () => {
  for (const cpus of [1, 2, 4, 16]) debug_vm(boot({ memory: 256 * 2 ** 20, cpus }));
  debug_vm(boot({ memory: 512 * 2 ** 20, cpus: 4, nodes: 4 }));
});
