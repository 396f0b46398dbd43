/** The disk file system against the naive one, in each shape, with fixed seeds. */
import { test } from 'node:test';
import { disk_model } from './disk_model.ts';
import { run_model } from './model.ts';

for (const shape of disk_model.shapes) {
  test(`disk file system, ${shape}`, () => {
    for (const seed of [1, 2]) {
      run_model(disk_model, { seed, events: 3000, shape, check_every: 600 });
    }
  });
}
