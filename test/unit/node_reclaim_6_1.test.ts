/** zone_reclaim_mode on 6.1: a node's own page cache is given up before another node is used. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { disk_mount, disk_root } from '../../src/fs/disk/index.ts';
import { O_RDWR, type OpenFile, type Vnode } from '../../src/fs/vfs.ts';
import { is_job, run_job } from '../../src/lib/kthread.ts';
import { boot } from '../../src/machine.ts';
import { MemoryBlockDevice } from '../../src/mm/block_device.ts';
import { debug_vm } from '../../src/mm/debug_vm.ts';
import { GFP_HIGHUSER_MOVABLE } from '../../src/mm/gfp.ts';
import { type Machine, page_zone } from '../../src/mm/mmzone.ts';
import { sync_filesystems } from '../../src/mm/page_writeback.ts';
import { NR_FILE_PAGES, node_page_state, PGSCAN_ZONE_RECLAIM_FAILED } from '../../src/mm/vmstat.ts';

const MIB = 2 ** 20;
const ROOT = { uid: 0, gid: 0, pid: 1 };

/** Two nodes, the first one full of clean page cache as far as its LOW watermark allows. */
function machine(): Machine {
  const m = boot({ kernel: '6.1', memory: 256 * MIB, nodes: 2, cpus: 2, seed: 1 });
  assert.ok(disk_mount(m, new MemoryBlockDevice(512 * MIB)) >= 0);
  m.this_cpu = m.nodes[0]!.cpus[0]!;
  const node = disk_root(m).create('file', 0o644, ROOT) as Vnode;
  const file = node.open(O_RDWR, ROOT) as OpenFile;
  const bytes = new Uint8Array(MIB);
  const before = node_page_state(m, 1, NR_FILE_PAGES);
  for (let at = 0; node_page_state(m, 1, NR_FILE_PAGES) < before + 100; at += MIB) {
    const rc = file.write(bytes, at);
    assert.equal(is_job(rc) ? run_job(rc) : rc, MIB);
  }
  run_job(sync_filesystems(m));
  return m;
}

/** How many of so many pages come from node 1. */
function far(m: Machine, count: number): number {
  let pages = 0;
  for (let i = 0; i < count; i++) {
    const pfn = m.kernel.alloc_pages(m, GFP_HIGHUSER_MOVABLE, 0);
    assert.ok(pfn >= 0);
    pages += page_zone(m, pfn).nid;
  }
  return pages;
}

test('off, the other node is used; on, the near one gives up page cache', () => {
  const off = machine();
  assert.ok(far(off, 2000) > 1500, 'the near node is full');
  const on = machine();
  on.sysctl['zone_reclaim_mode'] = 1;
  const cache = node_page_state(on, 0, NR_FILE_PAGES);
  assert.ok(far(on, 2000) < 100, 'the near node serves');
  assert.ok(node_page_state(on, 0, NR_FILE_PAGES) < cache - 1500);
  debug_vm(on);
});

test('what min_unmapped_ratio and min_slab_ratio leave alone stays', () => {
  const m = machine();
  m.sysctl['zone_reclaim_mode'] = 1;
  m.sysctl['min_unmapped_ratio'] = 100;
  m.sysctl['min_slab_ratio'] = 100;
  const cache = node_page_state(m, 0, NR_FILE_PAGES);
  assert.ok(far(m, 2000) > 1500);
  assert.equal(node_page_state(m, 0, NR_FILE_PAGES), cache);
  assert.equal(m.vm_events[PGSCAN_ZONE_RECLAIM_FAILED], 0);
});
