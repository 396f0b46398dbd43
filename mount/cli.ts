/**
 * The command line: `pageblock COMMAND …`, one file per command in commands/.
 *
 * Exit status: 0 success; 1 failure, with one line on standard error that says what to do;
 * 2 wrong usage. DEBUG=pageblock:* prints diagnostics.
 */
import { Command, CommanderError } from 'commander';
import { registerExperiment } from './commands/experiment.ts';
import { registerIndex } from './commands/index.ts';
import { registerKill } from './commands/kill.ts';
import { registerMount } from './commands/mount.ts';
import { registerRun } from './commands/run.ts';
import { registerShell } from './commands/shell.ts';
import { registerSpawn } from './commands/spawn.ts';
import { registerStatus } from './commands/status.ts';
import { registerUmount } from './commands/umount.ts';
import { registerVerify } from './commands/verify.ts';
import { version } from './server.ts';
import { Failure } from './transport.ts';

function program(): Command {
  const pageblock = new Command('pageblock')
    .description('An emulated Linux memory manager that you can mount.')
    .version(version())
    .showHelpAfterError('(pageblock help COMMAND tells more)')
    .addHelpText(
      'after',
      '\nExample:\n' +
        '  $ pageblock mount mnt --memory 2G\n' +
        '  $ cat mnt/proc/buddyinfo\n' +
        '  $ echo 1 > mnt/proc/sys/vm/compact_memory\n' +
        '  $ pageblock umount mnt\n',
    );
  // Before the commands: they inherit it. Without it commander exits 1 for wrong usage.
  pageblock.exitOverride();
  registerMount(pageblock);
  registerUmount(pageblock);
  registerStatus(pageblock);
  registerRun(pageblock);
  registerShell(pageblock);
  registerSpawn(pageblock);
  registerKill(pageblock);
  registerIndex(pageblock);
  registerVerify(pageblock);
  registerExperiment(pageblock);
  return pageblock;
}

/** Carries out the command line of this process. */
export async function main(): Promise<void> {
  // A reader such as head that goes away early is no failure. Programs that take this process over
  // get its streams as they were: there, not even this may open one.
  if (!['run', 'shell'].includes(process.argv[2] ?? '')) {
    process.stdout.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'EPIPE') process.exit(0);
      throw error;
    });
  }

  try {
    await program().parseAsync();
  } catch (error) {
    if (error instanceof CommanderError) {
      process.exitCode = error.exitCode === 0 ? 0 : 2;
    } else if (error instanceof Failure) {
      process.stderr.write(`pageblock: ${error.message}\n`);
      // The server's descriptors must not keep a process alive that failed to start.
      process.exit(1);
    } else {
      throw error;
    }
  }
}
