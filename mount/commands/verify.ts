/**
 * `pageblock verify FILE…`: replays recordings of real kernels and compares.
 *
 * Reads plain and gzipped files, told apart by their first bytes; of a directory, all recordings
 * in it and below. Closes with one line 'N passed, M failed'; exit 1 if anything failed.
 */
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import type { Command } from 'commander';
import { Failure } from '../transport.ts';

const RECORDING = /\.(jsonl|trace)(\.gz)?$/;

export function registerVerify(program: Command): void {
  program
    .command('verify')
    .description("replay recordings of real kernels; closes with 'N passed, M failed'")
    .argument('<file...>', 'recordings (.jsonl, .trace, plain or .gz), or directories of them')
    .action(async (paths: string[]) => {
      // Loaded on demand, as in index.ts: no other command needs it.
      const { verify_file } = await import('../../src/sim/replay.ts');
      let passed = 0;
      let failed = 0;
      const files = paths.flatMap(recordings);
      if (files.length === 0) {
        throw new Failure('no recordings there: give .jsonl or .jsonl.gz files');
      }
      for (const file of files) {
        const result = verify_file(
          file,
          readLines(file),
          (line) => process.stdout.write(line + '\n'),
          (name) => {
            const path = join(dirname(file), name);
            return existsSync(path) ? readLines(path) : null;
          },
        );
        passed += result.passed;
        failed += result.failed;
      }
      process.stdout.write(`${passed} passed, ${failed} failed\n`);
      if (failed > 0) process.exitCode = 1;
    });
}

function recordings(path: string): string[] {
  try {
    if (!statSync(path).isDirectory()) return [path];
    return readdirSync(path, { recursive: true, encoding: 'utf8' })
      .filter((name) => RECORDING.test(name))
      .sort()
      .map((name) => join(path, name));
  } catch (error) {
    throw cannotRead(path, error);
  }
}

function readLines(path: string): string[] {
  try {
    const bytes = readFileSync(path);
    const packed = bytes.length > 1 && bytes[0] === 0x1f && bytes[1] === 0x8b;
    return (packed ? gunzipSync(bytes) : bytes).toString('utf8').split('\n');
  } catch (error) {
    throw cannotRead(path, error);
  }
}

function cannotRead(path: string, error: unknown): Failure {
  const { code } = error as NodeJS.ErrnoException;
  return new Failure(`cannot read ${path} (${code}): give recordings as .jsonl or .jsonl.gz`);
}
