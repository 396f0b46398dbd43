/** Shares of the number of free pages that CPUs keep to themselves, in 2.6.35 (vmstat.c). */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { zone_watermark_ok } from '../../src/kernels/linux-2.6.35/watermark.ts';
import { boot } from '../../src/machine.ts';
import { debug_vm } from '../../src/mm/debug_vm.ts';
import { GFP_KERNEL } from '../../src/mm/gfp.ts';
import { NR_FREE_PAGES } from '../../src/mm/vmstat.ts';

const MIB = 2 ** 20;

test('watermarks see changes of free pages once they are more than the threshold, or a second old', () => {
  const m = boot({ memory: 512 * MIB });
  const zone = m.populated_zones[1]!;
  // As recorded for a zone of 489 MiB and one CPU.
  assert.equal(zone.stat_threshold, 6);
  m.clock.now_ms += 1000;
  m.kernel.alloc_pages(m, GFP_KERNEL, 9);
  assert.equal(zone.nr_free_unfolded, 0);
  const pairs = [0, 1, 2].map(() => m.kernel.alloc_pages(m, GFP_KERNEL, 1));
  assert.equal(zone.nr_free_unfolded, -6);
  // What is free beyond the mark: none in truth, six pages as far as the CPUs have told it.
  const free = zone.vm_stat[NR_FREE_PAGES]!;
  assert.equal(zone_watermark_ok(zone, 0, free, 0, 0), true);
  assert.equal(zone_watermark_ok(zone, 0, free + 5, 0, 0), true);
  assert.equal(zone_watermark_ok(zone, 0, free + 6, 0, 0), false);
  debug_vm(m);
  // Eight are more than the threshold: all are told.
  m.kernel.alloc_pages(m, GFP_KERNEL, 1);
  assert.equal(zone.nr_free_unfolded, 0);
  m.kernel.__free_pages(m, pairs[0]!, 1);
  assert.equal(zone.nr_free_unfolded, 2);
  assert.equal(zone_watermark_ok(zone, 0, zone.vm_stat[NR_FREE_PAGES]! - 2, 0, 0), false);
  // The first change after a second tells it, and is kept until it is told itself.
  m.clock.now_ms += 1000;
  m.kernel.__free_pages(m, pairs[1]!, 1);
  assert.equal(zone.nr_free_unfolded, 2);
  debug_vm(m);
});

test('6.1 has none of it here', () => {
  const m = boot({ memory: 512 * MIB, kernel: '6.1' });
  for (let i = 0; i < 3; i++) m.kernel.alloc_pages(m, GFP_KERNEL, 1);
  for (const zone of m.populated_zones) assert.equal(zone.nr_free_unfolded, 0);
  debug_vm(m);
});
