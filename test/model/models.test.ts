/**
 * Every model on every shape with a few events, from a fixed seed. `npm run fuzz` runs the full
 * length (a million events by default) with any seed; a failure here names the command that repeats it.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { run_model } from './model.ts';
import { MODELS } from './models.ts';

/** Events per shape: a second or two each. PAGEBLOCK_FUZZ_SEED and _EVENTS override. */
const EVENTS: Record<string, number> = {
  allocator: 30_000,
  'allocator-6.1': 20_000,
  compaction: 60_000,
  'compaction-6.1': 40_000,
  mm: 8_000,
  reclaim: 1_500,
  pressure: 30_000,
};
/** Whole-state checks on large machines take their time. */
const CHECK_EVERY: Record<string, number> = { pressure: 15_000 };
const seed = Number(process.env['PAGEBLOCK_FUZZ_SEED'] ?? 1);

for (const model of MODELS) {
  // The disk's model has a test file of its own.
  if (EVENTS[model.name] === undefined) continue;
  for (const shape of model.shapes) {
    test(`${model.name} on ${shape}, seed ${seed}`, () => {
      const events = Number(process.env['PAGEBLOCK_FUZZ_EVENTS'] ?? EVENTS[model.name] ?? 10_000);
      assert.ok(
        run_model(model, { seed, events, shape, check_every: CHECK_EVERY[model.name] ?? 1000 }) >=
          events,
      );
    });
  }
}
