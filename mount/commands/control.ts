/**
 * The files in MNT/sys/kernel/debug/pageblock by which a mounted machine is steered. What the
 * commands do here, echo and cat do as well.
 */
import { closeSync, constants, openSync, readSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { Failure } from '../transport.ts';
import { CONTROL_DIR } from './status.ts';

/** Writes a text to a control file; with `wantsAnswer`, returns what the same handle then reads. */
export function control(mnt: string, file: string, text: string, wantsAnswer: boolean): string {
  const path = join(mnt, CONTROL_DIR, file);
  let fd: number;
  try {
    fd = openSync(path, wantsAnswer ? constants.O_RDWR : constants.O_WRONLY);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    const advice =
      code === 'ENOTCONN'
        ? `the server was killed: pageblock umount ${mnt}, then mount it again`
        : code === 'ENOENT'
          ? `${mnt} is not mounted: pageblock mount ${mnt} mounts it`
          : `cannot open ${path} (${code})`;
    throw new Failure(advice);
  }
  try {
    const bytes = Buffer.from(text);
    writeSync(fd, bytes, 0, bytes.length, 0);
    if (!wantsAnswer) return '';
    const chunks: Buffer[] = [];
    for (let pos = 0; ; ) {
      const buf = Buffer.alloc(65536);
      const count = readSync(fd, buf, 0, buf.length, pos);
      if (count === 0) return Buffer.concat(chunks).toString();
      chunks.push(buf.subarray(0, count));
      pos += count;
    }
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    const advice = join(mnt, CONTROL_DIR, wantsAnswer ? file : 'processes');
    throw new Failure(`the machine refused '${text.trim()}' (${code}): see ${advice}`);
  } finally {
    closeSync(fd);
  }
}
