/**
 * `pageblock spawn MNT SPEC…`: starts a simulated process or workload; prints the pids.
 */
import type { Command } from 'commander';
import { control } from './control.ts';

export function registerSpawn(program: Command): void {
  program
    .command('spawn')
    .description('start a simulated process or workload in a mounted machine; prints its pids')
    .argument('<mnt>', 'the mount point')
    .argument('<spec...>', 'what to start; cat MNT/sys/kernel/debug/pageblock/spawn lists it')
    .action((mnt: string, spec: string[]) => {
      process.stdout.write(control(mnt, 'spawn', spec.join(' ') + '\n', true));
    });
}
