/** Looking at bytes fast. */

/** Whether buf[start..end) holds zeroes alone; four bytes at a time where they are aligned. */
export function is_zero(buf: Uint8Array, start: number, end: number): boolean {
  let i = start;
  if ((buf.byteOffset + start) % 4 === 0) {
    const words = new Int32Array(buf.buffer, buf.byteOffset + start, (end - start) >> 2);
    for (let w = 0; w < words.length; w++) if (words[w] !== 0) return false;
    i += words.length * 4;
  }
  for (; i < end; i++) if (buf[i] !== 0) return false;
  return true;
}
