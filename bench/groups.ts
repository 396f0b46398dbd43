/**
 * The groups of benchmarks, by name.
 */

import { benchAllocator, benchBoot, benchCompaction } from './core.ts';
import { benchDisk, benchFiles } from './mounted.ts';
import { benchPressure, benchSizes } from './pressure.ts';
import { benchTrace } from './trace.ts';

const groups: Record<string, () => Promise<unknown>> = {
  allocator: () => benchAllocator(7),
  compaction: () => benchCompaction(7),
  boot: () => benchBoot(3),
  pressure: () => benchPressure(5),
  sizes: () => benchSizes(),
  trace: () => benchTrace(5),
  files: () => benchFiles(5),
  disk: () => benchDisk(3),
};

/** Runs the groups that the command line names, or all. */
export async function main(): Promise<void> {
  const wanted = process.argv.slice(2);
  for (const name of wanted) {
    if (groups[name] === undefined) {
      console.error(`bench: no group ${name}; there are: ${Object.keys(groups).join(', ')}`);
      process.exit(2);
    }
  }
  for (const [name, run] of Object.entries(groups)) {
    if (wanted.length === 0 || wanted.includes(name)) await run();
  }
}
