/**
 * Every number of the reference that asks for a test has one, named after it: the worked numbers of
 * 13.4, the surprises of section 14, the vectors of section 15, the corrections of section 18.
 * A test is named after a number when its title begins with it: '14.9, C1: vacated frames ...'.
 */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';

/** test/ of the checkout; tests run from dist/test/unit. */
const TESTS = new URL('../../../test/', import.meta.url).pathname;

const upTo = (n: number, prefix: string): string[] =>
  Array.from({ length: n }, (_, i) => prefix + (i + 1));

const NUMBERS = ['13.4', ...upTo(15, '14.'), ...upTo(6, '15.'), ...upTo(16, 'C')];

/** The numbers at the beginnings of the titles of all tests, with the files that they are in. */
function named_tests(): Map<string, string[]> {
  const found = new Map<string, string[]>();
  const title = /\b(?:test|it)\(\s*['"`]((?:(?:C\d+|\d+\.\d+),? ?)+):/g;
  for (const name of readdirSync(TESTS, { recursive: true, encoding: 'utf8' })) {
    if (!name.endsWith('.test.ts')) continue;
    for (const [, numbers] of readFileSync(join(TESTS, name), 'utf8').matchAll(title)) {
      for (const number of numbers!.split(/, ?/)) {
        found.set(number, [...(found.get(number) ?? []), name]);
      }
    }
  }
  return found;
}

test('each number of 13.4, 14, 15 and 18 is the name of a test', () => {
  const found = named_tests();
  const missing = NUMBERS.filter((number) => !found.has(number));
  assert.deepEqual(missing, []);
  // Numbers that do not exist are typing errors.
  const unknown = [...found.keys()].filter(
    (number) => /^(C|14\.|15\.)/.test(number) && !NUMBERS.includes(number),
  );
  assert.deepEqual(unknown, []);
});
