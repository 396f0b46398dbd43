/** Files on the emulated disk whose bytes name the file and the place, as tests write and check them. */
import assert from 'node:assert/strict';
import { O_RDWR, type OpenFile, type Vnode } from '../../src/fs/vfs.ts';

export const ROOT = { uid: 0, gid: 0, pid: 1 };
/** Bytes that are written at a time. */
export const CHUNK = 128 * 1024;

export function open(node: Vnode | number): OpenFile {
  assert.ok(typeof node !== 'number', `no such file: ${node}`);
  const file = node.open(O_RDWR, ROOT);
  assert.ok(typeof file !== 'number', 'open failed');
  return file;
}

/** Bytes that name the file and the place. */
export function pattern(words: Uint32Array, file: number, chunk: number): void {
  let x = (file * 2654435761 + chunk * 40503 + 1) >>> 0;
  for (let i = 0; i < words.length; i++) {
    x = (Math.imul(x, 1664525) + 1013904223) >>> 0;
    words[i] = x;
  }
}
