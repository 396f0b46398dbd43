/**
 * Serves fakeTree on each directory of the command line, all in one process, until SIGTERM.
 * Prints READY when they answer. With CHILD=seconds in the environment, starts a child that
 * outlives it: whatever it inherits stays open.
 */
import { spawn } from 'node:child_process';
import { JobRunner } from '../../mount/jobs.ts';
import { Operations } from '../../mount/ops.ts';
import { FuseNativeTransport } from '../../mount/transport_a.ts';
import { fakeRoot } from './fakeTree.ts';

const caller = { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0, pid: 0 };
const transports = process.argv.slice(2).map((mountPoint) => {
  const ops = new Operations(fakeRoot(), new JobRunner());
  return new FuseNativeTransport(ops, { mountPoint, caller, allowOther: caller.uid === 0 });
});
for (const transport of transports) await transport.mount();
if (process.env['CHILD'] !== undefined) {
  spawn('sleep', [process.env['CHILD']], { stdio: 'ignore', detached: true }).unref();
}
process.on('SIGTERM', async () => {
  for (const transport of transports) await transport.unmount();
  process.exit(0);
});
setInterval(() => {}, 1000);
process.stdout.write('READY\n');
