/**
 * Sets of numbers as text. Linux: lib/bitmap.c, lib/vsprintf.c.
 */

/** Rising numbers as ranges, `0-2,5` (bitmap_scnlistprintf, %*pbl). */
export function bitmap_list(numbers: readonly number[]): string {
  let text = '';
  for (let i = 0; i < numbers.length; ) {
    let end = i;
    while (end + 1 < numbers.length && numbers[end + 1] === numbers[end]! + 1) end++;
    if (text !== '') text += ',';
    text += numbers[i];
    if (end > i) text += '-' + numbers[end];
    i = end + 1;
  }
  return text;
}

/** A mask of `bits` bits in words of 32, hexadecimal, highest first (bitmap_scnprintf, %*pb). */
export function bitmap_mask(numbers: readonly number[], bits: number): string {
  const words = new Uint32Array(Math.ceil(bits / 32));
  for (const n of numbers) words[n >>> 5]! |= 1 << (n & 31);
  let text = '';
  for (let w = words.length - 1; w >= 0; w--) {
    const width = w === words.length - 1 ? Math.ceil((((bits - 1) & 31) + 1) / 4) : 8;
    if (text !== '') text += ',';
    text += words[w]!.toString(16).padStart(width, '0');
  }
  return text;
}
