/**
 * Reads /proc/self/mountinfo (Documentation/filesystems/proc.txt, 3.5) and finds mount points.
 *
 * Nothing here touches the mount point itself: stat on a mount whose server was killed fails with
 * ENOTCONN, and on one whose server hangs it never returns. So a path is resolved through its
 * parent directory only.
 */
import { readFileSync, realpathSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';

export interface MountEntry {
  readonly id: number;
  readonly device: string;
  readonly path: string;
  readonly type: string;
  readonly source: string;
}

export function parseMountinfo(text: string): MountEntry[] {
  const entries: MountEntry[] = [];
  for (const line of text.split('\n')) {
    const fields = line.split(' ');
    const dash = fields.indexOf('-', 6);
    if (dash < 0) continue;
    entries.push({
      id: Number(fields[0]),
      device: fields[2] ?? '',
      path: unescapePath(fields[4] ?? ''),
      type: fields[dash + 1] ?? '',
      source: unescapePath(fields[dash + 2] ?? ''),
    });
  }
  return entries;
}

/** mountinfo writes blanks, tabs, newlines and backslashes as three octal digits. */
function unescapePath(text: string): string {
  const bytes = text.replace(/\\([0-7]{3})/g, (_, octal: string) =>
    String.fromCharCode(Number.parseInt(octal, 8)),
  );
  return bytes;
}

export function mounts(): MountEntry[] {
  return parseMountinfo(readFileSync('/proc/self/mountinfo', 'utf8'));
}

/** The topmost mount at a path, or undefined. */
export function mountAt(path: string): MountEntry | undefined {
  return mounts().findLast((entry) => entry.path === path);
}

/** An absolute path with every symlink resolved but a final one that is a mount point. */
export function canonicalMountPoint(path: string): string {
  const absolute = resolve(path);
  const parent = dirname(absolute);
  let real = absolute;
  try {
    if (parent !== absolute) real = join(realpathSync(parent), basename(absolute));
  } catch {
    return absolute; // the parent does not exist: the caller finds out
  }
  if (mountAt(real) !== undefined) return real;
  try {
    return realpathSync(real);
  } catch {
    return real;
  }
}
