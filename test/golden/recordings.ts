/** Reading the recordings of test/golden: plain or gzip'd text, by lines. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { gunzipSync } from 'node:zlib';

/** test/golden of the checkout; tests run from dist/test/golden. */
export const GOLDEN = new URL('../../../test/golden/', import.meta.url).pathname;

export function read_text(path: string): string {
  const bytes = readFileSync(join(GOLDEN, path));
  return (path.endsWith('.gz') ? gunzipSync(bytes) : bytes).toString('utf8');
}

/** The lines of a recording, without an empty one at the end. */
export function read_lines(path: string): string[] {
  const lines = read_text(path).split('\n');
  if (lines[lines.length - 1] === '') lines.pop();
  return lines;
}

/** The parsed records of a .jsonl file. */
// biome-ignore lint/suspicious/noExplicitAny: records are data of many shapes
export function read_records(path: string): any[] {
  return read_lines(path).map((line) => JSON.parse(line));
}

/** Names in a folder of test/golden that end in one of `suffixes`, sorted. */
export function list_recordings(dir: string, ...suffixes: string[]): string[] {
  return readdirSync(join(GOLDEN, dir))
    .filter((name) => suffixes.some((s) => name.endsWith(s)))
    .sort()
    .map((name) => join(dir, name));
}

/** For verify_file: the lines of another file of the same folder, null when there is none. */
export function sibling_of(path: string): (name: string) => string[] | null {
  const dir = path.slice(0, path.length - basename(path).length);
  return (name) => (existsSync(join(GOLDEN, dir, name)) ? read_lines(join(dir, name)) : null);
}
