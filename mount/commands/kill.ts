/**
 * `pageblock kill MNT PID`: ends a simulated process; its memory is freed as on exit(2).
 */
import { type Command, InvalidArgumentError } from 'commander';
import { control } from './control.ts';

export function registerKill(program: Command): void {
  program
    .command('kill')
    .description('end a simulated process of a mounted machine')
    .argument('<mnt>', 'the mount point')
    .argument('<pid>', 'its process id, as spawn printed it', parsePid)
    .action((mnt: string, pid: string) => {
      control(mnt, 'kill', pid + '\n', false);
    });
}

function parsePid(text: string): string {
  if (!/^[1-9]\d*$/.test(text)) throw new InvalidArgumentError('A process id is needed.');
  return text;
}
