/**
 * The reclaim model over machines x nodes x pressure: thirty runs, half of them with memory
 * more than 95 % full most of the time. Events are operations here: a page read or written counts
 * one. `npm run fuzz -- --full` runs ten million of them on each machine.
 */
import assert from 'node:assert/strict';
import type { MachineConfig } from '../../src/machine.ts';
import { debug_vm } from '../../src/mm/debug_vm.ts';
import { WMARK_HIGH } from '../../src/mm/mmzone.ts';
import { global_page_state, NR_FREE_PAGES } from '../../src/mm/vmstat.ts';
import type { Model } from './model.ts';
import { type Pressure, ReclaimRun } from './reclaim_model.ts';

const MIB = 2 ** 20;

/** Machines by kind and number of nodes; some with several CPUs; swap is small or large. */
const MACHINES: Record<string, { config: MachineConfig; swap: number; zone_reclaim?: number }> = {
  'x86_64-no-numa': { config: { memory: 128 * MIB, numa: false }, swap: 32768 },
  'x86_64-1': { config: { memory: 96 * MIB, cpus: 4 }, swap: 8192 },
  'x86_64-2': { config: { memory: 160 * MIB, nodes: 2, cpus: 2 }, swap: 16384, zone_reclaim: 1 },
  'x86_64-4': { config: { memory: 272 * MIB, nodes: 4, cpus: 4 }, swap: 16384, zone_reclaim: 7 },
  '6.1-1': { config: { kernel: '6.1', memory: 96 * MIB, cpus: 4 }, swap: 8192 },
  '6.1-2': {
    config: { kernel: '6.1', memory: 160 * MIB, nodes: 2, cpus: 2 },
    swap: 16384,
  },
  '6.1-4': {
    config: { kernel: '6.1', memory: 272 * MIB, nodes: 4, cpus: 4 },
    swap: 16384,
  },
  x86: { config: { memory: 128 * MIB, machine: 'x86' }, swap: 8192 },
  'x86-highmem': { config: { memory: 1024 * MIB, machine: 'x86', cpus: 2 }, swap: 32768 },
  'ppc64-1': { config: { memory: 256 * MIB, machine: 'ppc64' }, swap: 16384 },
  'ppc64-2': { config: { memory: 256 * MIB, machine: 'ppc64', nodes: 2, cpus: 2 }, swap: 8192 },
  'ppc64-4': { config: { memory: 320 * MIB, machine: 'ppc64', nodes: 4 }, swap: 32768 },
  'ppc64-64K-1': {
    config: { memory: 512 * MIB, machine: 'ppc64', page_size: 65536, cpus: 2 },
    swap: 2048,
  },
  'ppc64-64K-2': {
    config: { memory: 512 * MIB, machine: 'ppc64', page_size: 65536, nodes: 2 },
    swap: 8192,
  },
  'ppc64-64K-4': {
    config: { memory: 1024 * MIB, machine: 'ppc64', page_size: 65536, nodes: 4, cpus: 4 },
    swap: 8192,
    zone_reclaim: 1,
  },
};

/** Of what is not full, about half is in use; files and the kernel come on top. */
const ROOMY_SHARE = 0.35;
const FULL_SHARE = 0.95;
const FREE_WHEN_FULL = 0.05;

export function pressure_of(shape: string): Pressure {
  const full = shape.endsWith('/full');
  const machine = MACHINES[shape.slice(0, shape.lastIndexOf('/'))]!;
  return {
    config: machine.config,
    // What is roomy needs no swap: a share of it would be in use from the start.
    swap: full ? machine.swap : 0,
    zone_reclaim: machine.zone_reclaim ?? 0,
    share: full ? FULL_SHARE : ROOMY_SHARE,
  };
}

export const pressure_model: Model = {
  name: 'pressure',
  shapes: Object.keys(MACHINES).flatMap((name) => [`${name}/roomy`, `${name}/full`]),
  run(o): number {
    const run = new ReclaimRun(pressure_of(o.shape), o.seed);
    const full = o.shape.endsWith('/full');
    if (full) run.fill();
    // 6.1 keeps up to a twentieth of memory free, and kswapd as much again half (its HIGH marks).
    let high = 0;
    if (run.m.kernel.name === '6.1')
      for (const zone of run.m.populated_zones) high += zone.watermark[WMARK_HIGH]!;
    const free_when_full = Math.max(run.pages * FREE_WHEN_FULL, high);
    let samples = 0;
    let full_samples = 0;
    run.operations = 0;
    for (let next = o.check_every; run.operations < o.events; ) {
      run.step();
      samples++;
      const free = global_page_state(run.m, NR_FREE_PAGES);
      if (free < free_when_full) full_samples++;
      // The OOM killer may have taken a quarter of it.
      if (full && free > 2 * free_when_full) run.fill();
      if (run.operations < next) continue;
      debug_vm(run.m);
      next = run.operations + o.check_every;
    }
    run.finish();
    const share = `${full_samples} of ${samples} looks found memory full`;
    // A few looks say little.
    if (samples < 100) return run.operations;
    if (full) assert.ok(full_samples * 2 > samples, share);
    else assert.ok(full_samples * 2 < samples, share);
    return run.operations;
  },
};
