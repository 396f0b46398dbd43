/**
 * The write log of a mounted machine as a file: what `run --log` leaves behind.
 *
 * The machine numbers the writes to its virtual files and keeps the last of them
 * (sys/kernel/debug/pageblock/writes). Those that came while a program ran are taken over as they
 * are, one JSON object a line; other programs that wrote meanwhile are among them.
 */
import { closeSync, openSync, readFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { CONTROL_DIR } from './commands/status.ts';
import { canonicalMountPoint } from './mountinfo.ts';
import { Failure } from './transport.ts';

const NAME = 'writes';

export class WriteLog {
  readonly #source: string;
  readonly #fd: number;
  readonly #file: string;
  #last: number;

  /** Starts to take over. Throws a Failure when one of the files cannot be opened. */
  constructor(mnt: string, file: string) {
    this.#source = join(canonicalMountPoint(mnt), CONTROL_DIR, NAME);
    this.#file = file;
    this.#last = last(this.#read());
    try {
      this.#fd = openSync(file, 'w');
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      throw new Failure(`cannot write ${file} (${code}): choose another file for --log`);
    }
  }

  close(): void {
    const lines = this.#read().filter((line) => number(line) > this.#last);
    for (const line of lines) writeSync(this.#fd, line + '\n');
    closeSync(this.#fd);
    const lost = lines.length > 0 ? number(lines[0]!) - this.#last - 1 : 0;
    if (lost > 0) throw new Failure(`${this.#file} lacks the first ${lost} writes: too many`);
  }

  #read(): string[] {
    try {
      return readFileSync(this.#source, 'utf8').split('\n').slice(0, -1);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      throw new Failure(`cannot read ${this.#source} (${code}): is the machine mounted?`);
    }
  }
}

function number(line: string): number {
  return (JSON.parse(line) as { n: number }).n;
}

function last(lines: string[]): number {
  const line = lines.at(-1);
  return line === undefined ? 0 : number(line);
}
