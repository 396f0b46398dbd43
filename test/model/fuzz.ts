/**
 * npm run fuzz -- [--model NAME] [--shape NAME] [--seed N] [--events M] [--check K] [--full]
 *
 * Runs models with any seed and number of events; without --model and --shape all of them, the
 * events shared out among them. --full: ten million operations of the pressure model on each of its
 * thirty machines (--events: another number for each). Prints what repeats a failure. Exit 1 on a failure, 2 on wrong usage.
 */
import { parseArgs } from 'node:util';
import { run_model } from './model.ts';
import { MODELS } from './models.ts';

function fail(message: string): never {
  console.error(message);
  process.exit(2);
}

function number_of(text: string | undefined, name: string, fallback: number): number {
  if (text === undefined) return fallback;
  const value = Number(text);
  if (!Number.isInteger(value) || value < 0)
    fail(`--${name} must be a whole number, not '${text}'`);
  return value;
}

const string = { type: 'string' } as const;
const { values } = parseArgs({
  options: {
    model: string,
    shape: string,
    seed: string,
    events: string,
    check: string,
    full: { type: 'boolean' },
  },
});
const seed = number_of(values.seed, 'seed', Date.now() % 2 ** 32);
const full = values.full === true;
const events = number_of(values.events, 'events', full ? 10_000_000 : 1_000_000);
const check_every = number_of(values.check, 'check', full ? 100_000 : 1000);
if (full) values.model ??= 'pressure';

const runs: { model: (typeof MODELS)[number]; shape: string }[] = [];
for (const model of MODELS) {
  if (values.model !== undefined && values.model !== model.name) continue;
  for (const shape of model.shapes) {
    if (values.shape === undefined || values.shape === shape) runs.push({ model, shape });
  }
}
if (runs.length === 0) {
  const known = MODELS.map((m) => `${m.name} (${m.shapes.join(', ')})`).join('; ');
  fail(`no such model or shape; there are: ${known}`);
}
console.log(`seed ${seed}, ${events} events${full ? ' each' : ''}, ${runs.length} runs`);
const each = full ? events : Math.ceil(events / runs.length);
for (const { model, shape } of runs) {
  const start = process.hrtime.bigint();
  try {
    run_model(model, { seed, events: each, shape, check_every });
  } catch (error) {
    console.error(error instanceof Error ? (error.stack ?? error.message) : error);
    process.exit(1);
  }
  const ms = Number((process.hrtime.bigint() - start) / 1_000_000n);
  console.log(`${model.name} on ${shape}: ${each} events, ${ms} ms`);
}
