/**
 * A growing text buffer that virtual files are printed into: bytes, no intermediate strings.
 *
 * `puts` copies literals, `put_dec` and `put_str` do what the printf formats %*d and %*s do. There
 * is no format parser: a row of buddyinfo is a handful of calls. One character is one byte
 * (0 .. 255), as in the kernel, which knows bytes only.
 * Linux: fs/seq_file.c (struct seq_file, seq_printf). Differs: Linux makes a file in pieces as it
 * is read; here a file is made whole and kept by the open handle (fs/kernfs.ts).
 */

const SPACE = 0x20;

export class SeqFile {
  private buf: Uint8Array;
  /** Bytes written so far. */
  count = 0;

  constructor(size = 1024) {
    this.buf = new Uint8Array(size);
  }

  private reserve(n: number): void {
    if (this.count + n <= this.buf.length) return;
    const grown = new Uint8Array(Math.max(this.buf.length * 2, this.count + n));
    grown.set(this.buf.subarray(0, this.count));
    this.buf = grown;
  }

  /** Appends a text, one byte a character; what is above 255 becomes '?' (seq_puts). */
  puts(s: string): this {
    this.reserve(s.length);
    for (let i = 0; i < s.length; i++) {
      const c = s.charCodeAt(i);
      this.buf[this.count++] = c < 256 ? c : 0x3f;
    }
    return this;
  }

  private pad(n: number): void {
    if (n <= 0) return;
    this.reserve(n);
    this.buf.fill(SPACE, this.count, this.count + n);
    this.count += n;
  }

  /** `%*d`: right-aligned in `width` columns; a longer number is printed in full. */
  put_dec(value: number | bigint, width = 0): this {
    const s = String(value);
    this.pad(width - s.length);
    return this.puts(s);
  }

  /** `%*s`: right-aligned. */
  put_str(s: string, width: number): this {
    this.pad(width - s.length);
    return this.puts(s);
  }

  /** `%-*s`: left-aligned. */
  put_left(s: string, width: number): this {
    this.puts(s);
    this.pad(width - s.length);
    return this;
  }

  /** `%0*x`: hexadecimal with leading zeroes. */
  put_hex(value: number | bigint, width = 0): this {
    const s = value.toString(16);
    for (let i = s.length; i < width; i++) this.puts('0');
    return this.puts(s);
  }

  /** What was written so far; the view is valid until the next write. */
  bytes(): Uint8Array {
    return this.buf.subarray(0, this.count);
  }

  /** The same as a string, for tests and library callers. */
  text(): string {
    let s = '';
    for (let i = 0; i < this.count; i++) s += String.fromCharCode(this.buf[i]!);
    return s;
  }
}

/**
 * Thousandths as C prints them with `%*d.%03d` from a quotient and a remainder: both are truncated
 * toward zero and the remainder keeps its sign, so -500 is `0.-500` and -7 is `0.-07`.
 */
export function thousandths(v: number, width = 0): string {
  const rest = v % 1000;
  const digits = String(Math.abs(rest));
  const fraction = rest < 0 ? '-' + digits.padStart(2, '0') : digits.padStart(3, '0');
  return String(Math.trunc(v / 1000)).padStart(width) + '.' + fraction;
}
