/** Numbers from text: vectors recorded on the real kernel, and the borders between them. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { EINVAL } from '../../src/lib/errno.ts';
import { proc_get_long, simple_strtoull, strict_strtoul } from '../../src/lib/kstrto.ts';

test('simple_strtoull guesses the base and stops at the first other character', () => {
  assert.deepEqual(simple_strtoull('0x1fg', 0, 0), { value: 0x1fn, end: 4 });
  assert.deepEqual(simple_strtoull('0X1F', 0, 0), { value: 0x1fn, end: 4 });
  assert.deepEqual(simple_strtoull('0xg', 0, 0), { value: 0n, end: 1 });
  assert.deepEqual(simple_strtoull('0x', 0, 0), { value: 0n, end: 1 });
  assert.deepEqual(simple_strtoull('0179', 0, 0), { value: 0o17n, end: 3 });
  assert.deepEqual(simple_strtoull('12a', 0, 0), { value: 12n, end: 2 });
  assert.deepEqual(simple_strtoull('0x10', 0, 10), { value: 0n, end: 1 });
  assert.deepEqual(simple_strtoull('0x10', 0, 16), { value: 16n, end: 4 });
  assert.deepEqual(simple_strtoull('xx7', 2, 10), { value: 7n, end: 3 });
});

test('C6: overflow wraps at 64 bits', () => {
  assert.equal(simple_strtoull('99999999999999999999', 0, 10).value, 7766279631452241919n);
  assert.equal(simple_strtoull('18446744073709551616', 0, 10).value, 0n);
});

test('proc_get_long: sign, what may follow, how long a number may be', () => {
  assert.deepEqual(proc_get_long('7\n', 0), { value: 7n, end: 1, neg: false });
  assert.deepEqual(proc_get_long('-7 8', 0), { value: 7n, end: 2, neg: true });
  assert.deepEqual(proc_get_long('1\t2', 0), { value: 1n, end: 1, neg: false });
  assert.deepEqual(proc_get_long('x 5', 2), { value: 5n, end: 3, neg: false });
  for (const bad of [
    '',
    '-',
    '-\n',
    '+1',
    ' 1',
    'foo',
    '1foo',
    '1.5',
    '1,2',
    '3\0',
    '0x\n',
    '1\r',
  ]) {
    assert.equal(proc_get_long(bad, 0), -EINVAL, JSON.stringify(bad));
  }
  // The kernel looks at 21 characters and refuses a number that fills them.
  assert.deepEqual(proc_get_long('0'.repeat(20), 0), { value: 0n, end: 20, neg: false });
  assert.equal(proc_get_long('0'.repeat(21), 0), -EINVAL);
  assert.equal(proc_get_long('0'.repeat(21) + '\n', 0), -EINVAL);
});

test('strict_strtoul takes one number and one newline', () => {
  assert.equal(strict_strtoul('10', 10), 10n);
  assert.equal(strict_strtoul('010\n', 10), 10n);
  assert.equal(strict_strtoul('3\0', 10), 3n);
  for (const bad of [
    '',
    '\n',
    ' ',
    ' 1',
    '1 ',
    '1\n\n',
    '1\n2\n',
    '-1',
    '+1',
    '0x10',
    'foo',
    '\0',
  ]) {
    assert.equal(strict_strtoul(bad, 10), -EINVAL, JSON.stringify(bad));
  }
});
