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
      /** One file that cannot be read is a failure like any other: the rest is replayed. */
      const unreadable = (error: unknown): void => {
        if (!(error instanceof Failure)) throw error;
        process.stderr.write(`pageblock: ${error.message}\n`);
        failed++;
      };
      for (const path of paths) {
        try {
          for (const file of recordings(path)) {
            try {
              const result = verify_file(
                file,
                readLines(file),
                (line) => process.stdout.write(line + '\n'),
                (name) => {
                  const beside = join(dirname(file), name);
                  return existsSync(beside) ? readLines(beside) : null;
                },
              );
              passed += result.passed;
              failed += result.failed;
            } catch (error) {
              unreadable(error);
            }
          }
        } catch (error) {
          unreadable(error);
        }
      }
      process.stdout.write(`${passed} passed, ${failed} failed\n`);
      if (failed > 0) process.exitCode = 1;
    });
}

function recordings(path: string): string[] {
  try {
    if (!statSync(path).isDirectory()) return [path];
    const names = readdirSync(path, { recursive: true, encoding: 'utf8' })
      .filter((name) => RECORDING.test(name))
      .sort();
    if (names.length > 0) return names.map((name) => join(path, name));
  } catch (error) {
    throw cannotRead(path, error);
  }
  throw new Failure(`no recordings in ${path}: give .jsonl or .jsonl.gz files`);
}

function readLines(path: string): string[] {
  try {
    const bytes = readFileSync(path);
    const packed = bytes.length > 1 && bytes[0] === 0x1f && bytes[1] === 0x8b;
    const text = (packed ? gunzipSync(bytes) : bytes).toString('utf8');
    return text.replace(/^\ufeff/, '').split('\n');
  } catch (error) {
    throw cannotRead(path, error);
  }
}

function cannotRead(path: string, error: unknown): Failure {
  const { code } = error as NodeJS.ErrnoException;
  if (code?.startsWith('Z_')) {
    return new Failure(`cannot unpack ${path} (${code}): it is damaged or not whole`);
  }
  return new Failure(`cannot read ${path} (${code}): give recordings as .jsonl or .jsonl.gz`);
}
