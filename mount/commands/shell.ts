/**
 * `pageblock shell MNT`: the user's shell on the mounted machine, as `run` runs programs.
 */
import type { Command } from 'commander';
import { canonicalMountPoint } from '../mountinfo.ts';
import { become } from './run.ts';

export function registerShell(program: Command): void {
  program
    .command('shell')
    .description('open your shell on the mounted machine; PAGEBLOCK tells it the mount point')
    .argument('<mnt>', 'the mount point')
    .action(async (mnt: string) => {
      process.env['PAGEBLOCK'] = canonicalMountPoint(mnt);
      await become(mnt, [process.env['SHELL'] || '/bin/sh']);
    });
}
