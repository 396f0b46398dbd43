/** The text builder of virtual files. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SeqFile } from '../../src/lib/seq_file.ts';

test('fields are padded as printf does', () => {
  const seq = new SeqFile(4);
  seq.puts('[').put_dec(-12, 6).puts('][').put_dec(1234567, 3).puts('][').put_str('ab', 4);
  seq
    .puts('][')
    .put_left('ab', 4)
    .puts('][')
    .put_hex(255, 4)
    .puts('][')
    .put_dec(1n << 64n)
    .puts(']');
  assert.equal(seq.text(), '[   -12][1234567][  ab][ab  ][00ff][18446744073709551616]');
});

test('one character is one byte, also 0 and 255', () => {
  const seq = new SeqFile(1);
  seq.puts('a\0\xff\u0100');
  assert.deepEqual([...seq.bytes()], [0x61, 0, 0xff, 0x3f]);
});

test('it grows over many times its first size', () => {
  const seq = new SeqFile(3);
  let expected = '';
  for (let i = 0; i < 5000; i++) {
    seq.put_dec(i, 5);
    expected += String(i).padStart(5);
  }
  assert.equal(seq.text(), expected);
});
