/** kcompactd of 6.1 on a recorded fragmented zone: when it runs, when it stops, what it counts. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  fragmentation_score_node,
  fragmentation_score_wmark,
  fragmentation_score_zone,
} from '../../src/kernels/linux-6.1/compaction.ts';
import { kcompactd_tick, wakeup_kcompactd } from '../../src/kernels/linux-6.1/kcompactd.ts';
import { run_job } from '../../src/lib/kthread.ts';
import type { Machine, Zone } from '../../src/mm/mmzone.ts';
import {
  COMPACTMIGRATE_SCANNED,
  KCOMPACTD_MIGRATE_SCANNED,
  KCOMPACTD_WAKE,
  PGMIGRATE_SUCCESS,
} from '../../src/mm/vmstat.ts';
import { load_map } from '../../src/sim/replay_61_compact.ts';
import { load_zone_61 } from '../../src/sim/replay_61_state.ts';
import { read_records } from '../golden/recordings.ts';

const layout = read_records('debian-6.1/g3-compaction.jsonl.gz')[0];

/** Every second page of the zone is free (C001). */
function fragmented(): { m: Machine; zone: Zone } {
  const { m, zone } = load_zone_61(layout.zone, layout.before, layout.sysctl, 4096);
  load_map(m, zone, layout.before.map);
  m.sysctl['compaction_proactiveness'] = 20;
  for (const other of m.populated_zones) other.ram_pages = other.spanned_pages;
  return { m, zone };
}

test('the marks of the score follow from compaction_proactiveness', () => {
  const { m } = fragmented();
  for (const [value, low, high] of [
    [20, 80, 90],
    [100, 5, 15],
    [96, 5, 15],
    [0, 100, 100],
    [5, 95, 100],
  ]) {
    m.sysctl['compaction_proactiveness'] = value!;
    assert.equal(fragmentation_score_wmark(m, true), low);
    assert.equal(fragmentation_score_wmark(m, false), high);
  }
});

test('a fragmented node is compacted until its score is low, and no further', () => {
  const { m, zone } = fragmented();
  assert.ok(fragmentation_score_node(m, zone.nid) > 90);
  run_job(kcompactd_tick(m));
  const score = fragmentation_score_zone(m, zone);
  assert.ok(score <= 80 && score > 70, `score ${score}`);
  assert.ok(m.vm_events[PGMIGRATE_SUCCESS]! > 0);
  // 6.1 does not count proactive runs as the daemon's.
  assert.equal(m.vm_events[KCOMPACTD_WAKE], 0);
  assert.equal(m.vm_events[KCOMPACTD_MIGRATE_SCANNED], 0);
  const moved = m.vm_events[PGMIGRATE_SUCCESS];
  m.clock.now_ms += 100_000;
  run_job(kcompactd_tick(m));
  assert.equal(m.vm_events[PGMIGRATE_SUCCESS], moved, 'below the high mark nothing is done');
});

test('it looks twice a second, and at once when compaction_proactiveness is written', () => {
  const { m, zone } = fragmented();
  m.sysctl['compaction_proactiveness'] = 0;
  run_job(kcompactd_tick(m));
  assert.equal(m.vm_events[COMPACTMIGRATE_SCANNED], 0, '0 is never');
  m.sysctl['compaction_proactiveness'] = 5;
  run_job(kcompactd_tick(m));
  assert.equal(m.vm_events[COMPACTMIGRATE_SCANNED], 0, 'a score of 99 is not above 100');
  m.sysctl['compaction_proactiveness'] = 20;
  m.clock.now_ms += 499;
  run_job(kcompactd_tick(m));
  assert.equal(m.vm_events[COMPACTMIGRATE_SCANNED], 0, 'not yet');
  m.nodes[zone.nid]!.proactive_compact_trigger = true;
  run_job(kcompactd_tick(m));
  assert.ok(m.vm_events[COMPACTMIGRATE_SCANNED]! > 0);
  assert.equal(m.nodes[zone.nid]!.proactive_compact_trigger, false);
});

test('woken for an order, it compacts until such a block is free', () => {
  const { m, zone } = fragmented();
  m.sysctl['compaction_proactiveness'] = 0;
  wakeup_kcompactd(m, m.nodes[zone.nid]!, 9, m.shape.ZONE_MOVABLE);
  run_job(kcompactd_tick(m));
  assert.equal(m.vm_events[KCOMPACTD_WAKE], 1);
  assert.equal(m.vm_events[KCOMPACTD_MIGRATE_SCANNED], m.vm_events[COMPACTMIGRATE_SCANNED]);
  assert.ok(zone.nr_free[9]! + zone.nr_free[10]! > 0);
  assert.equal(zone.compact_order_failed, 10);
  run_job(kcompactd_tick(m));
  assert.equal(m.vm_events[KCOMPACTD_WAKE], 1, 'the work is done');
});
