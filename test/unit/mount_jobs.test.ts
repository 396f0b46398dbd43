/** Slices, grace and fairness of mount/jobs.ts, on a clock that the test moves. */
import assert from 'node:assert/strict';
import { it } from 'node:test';
import { ClockDriver } from '../../mount/clock_driver.ts';
import { GRACE, JobRunner, MAX_WAIT, SLICE } from '../../mount/jobs.ts';
import { EIO } from '../../src/lib/errno.ts';
import type { Job } from '../../src/lib/kthread.ts';

const turn = () => new Promise((resolve) => setImmediate(resolve));

/** A job of `steps` steps of `cost` ms each on the clock `time`. */
function* stepping(time: { now: number }, steps: number, cost: number, log?: () => void): Job {
  for (let i = 0; i < steps; i++) {
    time.now += cost;
    log?.();
    yield;
  }
  return steps;
}

it('a short job is answered in the call that starts it', () => {
  const time = { now: 0 };
  const runner = new JobRunner(() => time.now);
  let result = 0;
  runner.run(stepping(time, 5, SLICE / 10), (value) => {
    result = value;
  });
  assert.equal(result, 5);
  assert.equal(runner.busy, false);
});

it('no slice is longer than the budget', async () => {
  const time = { now: 0 };
  const runner = new JobRunner(() => time.now);
  let done = 0;
  runner.run(stepping(time, 100, SLICE / 10), (value) => {
    done = value;
  });
  assert.ok(time.now <= SLICE * 1.2, 'first slice');
  while (done === 0) {
    const before = time.now;
    await turn();
    assert.ok(time.now - before <= SLICE * 1.2);
    time.now += 0.01;
  }
  assert.equal(done, 100);
});

it('no slice starts within the grace after a request', async () => {
  const time = { now: 0 };
  const runner = new JobRunner(() => time.now);
  runner.run(stepping(time, 100, SLICE), () => {});
  const start = time.now;
  runner.noteRequest();
  time.now += GRACE / 2;
  await turn();
  assert.equal(time.now, start + GRACE / 2);
  time.now += GRACE;
  await turn();
  assert.ok(time.now > start + GRACE * 1.5);
});

it('a slice comes after MAX_WAIT under constant load', async () => {
  const time = { now: 0 };
  const runner = new JobRunner(() => time.now);
  let steps = 0;
  runner.run(
    stepping(time, 100, SLICE, () => steps++),
    () => {},
  );
  assert.equal(steps, 1);
  for (let i = 0; i < 40; i++) {
    runner.noteRequest();
    time.now += GRACE / 2;
    await turn();
  }
  const waited = 40 * (GRACE / 2);
  assert.equal(steps, 1 + Math.floor(waited / MAX_WAIT));
  // A job that is not done keeps the event loop turning.
  while (runner.busy) {
    time.now += MAX_WAIT;
    await turn();
  }
});

it('jobs take turns', async () => {
  const time = { now: 0 };
  const runner = new JobRunner(() => time.now);
  const order: string[] = [];
  const ended: string[] = [];
  for (const name of ['a', 'b']) {
    runner.run(
      stepping(time, 4, SLICE, () => order.push(name)),
      () => ended.push(name),
    );
  }
  while (runner.busy) {
    time.now += GRACE;
    await turn();
  }
  assert.equal(order.join(''), 'abababab');
  assert.deepEqual(ended, ['a', 'b']);
});

it('an exception in a job is EIO, once', async (t) => {
  const written = t.mock.method(process.stderr, 'write', () => true);
  const runner = new JobRunner();
  const results: number[] = [];
  // biome-ignore lint/correctness/useYield: it throws first
  const job = (function* (): Job {
    throw new Error('on purpose');
  })();
  runner.run(job, (value) => results.push(value));
  assert.deepEqual(results, [-EIO]);
  assert.match(String(written.mock.calls[0]?.arguments[0]), /defect in job: Error: on purpose/);
});

it('the clock driver never loses time, and never overlaps', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const time = { now: 0 };
  const runner = new JobRunner(() => time.now);
  let advanced = 0;
  let running = 0;
  let givenBack = 0;
  const driver = new ClockDriver(
    {
      *advance(ms: number): Job {
        assert.equal(++running, 1);
        advanced += ms;
        // The third tick takes long.
        for (let i = 0; i < (advanced > 20 && advanced < 40 ? 50 : 1); i++) {
          time.now += SLICE / 2;
          yield;
        }
        running--;
        return 0;
      },
      // biome-ignore lint/correctness/useYield: there is nothing to pause for
      *giveBack(): Job {
        return ++givenBack;
      },
    },
    runner,
    () => time.now,
  );
  driver.start();
  for (let i = 0; i < 200; i++) {
    time.now += 10;
    t.mock.timers.tick(50);
    await turn();
  }
  while (runner.busy) {
    time.now += GRACE;
    await turn();
  }
  driver.stop();
  assert.ok(Math.abs(advanced - time.now) < 60, `${advanced} of ${time.now} ms`);
  assert.ok(givenBack >= 1 && givenBack <= 3, `${givenBack} times`);
});
