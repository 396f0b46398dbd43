/**
 * What all model tests have in common: a model runs a number of random events on a machine of a
 * given shape, compares with its oracle, and throws at the first difference. `npm run fuzz` runs
 * one with any seed and length; the tests run each with few events and a fixed seed.
 */

export interface ModelOptions {
  seed: number;
  events: number;
  shape: string;
  /** Whole-state checks: every this many events. */
  check_every: number;
}

export interface Model {
  readonly name: string;
  /** Names of the machines that it can run on. */
  readonly shapes: readonly string[];
  /** Throws at the first difference; returns the number of events that did something. */
  run(options: ModelOptions): number;
}

/** Runs a model; a failure names the command that repeats it. */
export function run_model(model: Model, options: ModelOptions): number {
  try {
    return model.run(options);
  } catch (error) {
    const again =
      `npm run fuzz -- --model ${model.name} --shape ${options.shape} ` +
      `--seed ${options.seed} --events ${options.events} --check ${options.check_every}`;
    const e = error instanceof Error ? error : new Error(String(error));
    e.message = `${e.message}\n  repeat with: ${again}`;
    throw e;
  }
}
