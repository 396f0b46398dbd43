/** trace_pipe of a mounted machine: it waits without work, and lets killed readers go. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { it } from 'node:test';
import { mountMachine, noFuse, serverPid } from '../helpers/mounts.ts';
import { sh } from '../helpers/processes.ts';

const options = { skip: noFuse(), timeout: 90_000 };

/** Milliseconds of CPU time that a process has used. */
function cpuTime(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8')
    .replace(/^.*\) /, '')
    .split(' ');
  return (Number(fields[11]) + Number(fields[12])) * 10;
}

it('timeout ends a cat of an empty trace_pipe; a killed one is let go', options, async (t) => {
  const mnt = await mountMachine(t, ['--memory', '128M']);
  const tracing = `${mnt}/sys/kernel/debug/tracing`;
  const start = Date.now();
  assert.equal(await sh(`timeout 1 cat ${tracing}/trace_pipe; echo $?`), '124\n');
  assert.ok(Date.now() - start < 2500, `${Date.now() - start} ms`);
  const killed = Date.now();
  await sh(`cat ${tracing}/trace_pipe & sleep 0.3; kill -9 $!; wait $! 2>/dev/null; true`);
  assert.ok(Date.now() - killed < 2000, `${Date.now() - killed} ms`);
  // Released: the next reader is not refused.
  assert.equal(await sh(`timeout 0.5 cat ${tracing}/trace_pipe; echo $?`), '124\n');
});

it('a waiting reader costs next to nothing, and gets what comes', options, async (t) => {
  const mnt = await mountMachine(t, ['--memory', '128M']);
  const tracing = `${mnt}/sys/kernel/debug/tracing`;
  const pid = await serverPid(mnt);
  await sh('sleep 1');
  const idle = cpuTime(pid);
  await sh('sleep 2');
  const without = cpuTime(pid) - idle;
  const before = cpuTime(pid);
  await sh(`timeout 2 cat ${tracing}/trace_pipe; true`);
  const waiting = cpuTime(pid) - before;
  assert.ok(waiting < without + 400, `${waiting} ms of CPU in 2 s, ${without} without a reader`);
  const out = await sh(
    `timeout 3 head -n 2 ${tracing}/trace_pipe & sleep 0.4;
     echo first > ${tracing}/trace_marker; sleep 0.4; echo second > ${tracing}/trace_marker; wait`,
  );
  assert.match(out, /^ +init-1 .*: 0: first\n +init-1 .*: 0: second\n$/);
});

it('O_NONBLOCK: EAGAIN at once', options, async (t) => {
  const mnt = await mountMachine(t, ['--memory', '128M']);
  const out = await sh(
    `dd if=${mnt}/sys/kernel/debug/tracing/trace_pipe iflag=nonblock 2>&1 | head -1`,
  );
  assert.match(out, /Resource temporarily unavailable/);
});
