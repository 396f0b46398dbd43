/**
 * Taking mount points away from outside, and saying why a mount failed.
 *
 * As root (also of a user namespace) umount2(2) is enough; an ordinary user goes through the
 * setuid fusermount of Debian's fuse3, as every FUSE program does. A point whose server was
 * killed answers ENOTCONN: it is detached without being asked anything else.
 */
import { execFile } from 'node:child_process';
import { accessSync, constants, existsSync, readFileSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import { delimiter, join } from 'node:path';
import { mountAt } from './mountinfo.ts';
import { MNT_DETACH, umount } from './native.ts';
import { logPath } from './runtime.ts';

/** The type of our mounts in mountinfo. */
export const FS_TYPE = 'fuse.pageblock';

export function findFusermount(): string | undefined {
  for (const dir of (process.env['PATH'] ?? '').split(delimiter)) {
    for (const name of ['fusermount', 'fusermount3']) {
      const path = join(dir, name);
      if (dir !== '' && existsSync(path)) return path;
    }
  }
  return undefined;
}

/** Detaches a mount point the way an ordinary user must. Null, or the line that tells why not. */
export async function runFusermount(mountPoint: string): Promise<string | null> {
  const program = findFusermount();
  if (program === undefined) {
    return `cannot unmount ${mountPoint} as an ordinary user without fusermount: apt-get install fuse3`;
  }
  return new Promise((resolve) => {
    execFile(program, ['-u', '-z', mountPoint], { timeout: 10_000 }, (error, _, stderr) => {
      if (error === null) resolve(null);
      else
        resolve(`cannot unmount ${mountPoint}: ${stderr.trim().split('\n')[0] || error.message}`);
    });
  });
}

/** Lazily detaches the mount at a path. Null, or the line that tells why not. */
export async function detach(mountPoint: string): Promise<string | null> {
  const result = await umount(mountPoint, MNT_DETACH);
  if (result === 0) return null;
  const failed = await runFusermount(mountPoint);
  return failed !== null && mountAt(mountPoint) !== undefined ? failed : null;
}

export type Answer = 'ok' | 'dead' | 'silent' | 'forbidden';

/**
 * Asks the root of a mount for a name that it does not have, with a time limit. What it does have
 * may be answered from the kernel's cache for a second after the server's death.
 */
export async function probe(mountPoint: string, limit = 5000): Promise<Answer> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<Answer>((resolve) => {
    timer = setTimeout(resolve, limit, 'silent');
  });
  const asked = stat(join(mountPoint, '.pageblock-probe')).then(
    (): Answer => 'ok',
    (error: NodeJS.ErrnoException): Answer =>
      error.code === 'EACCES' ? 'forbidden' : error.code === 'ENOENT' ? 'ok' : 'dead',
  );
  const answer = await Promise.race([asked, late]);
  clearTimeout(timer);
  return answer;
}

/** fuse-native says "fuse failed" for everything: finds out what a user can do about it. */
export function explainMountFailure(path: string, allowOther: boolean, error: Error): string {
  const what = `cannot mount on ${path}: `;
  if (!existsSync('/dev/fuse')) return what + 'no /dev/fuse: load the module (modprobe fuse)';
  try {
    accessSync('/dev/fuse', constants.R_OK | constants.W_OK);
  } catch {
    return what + '/dev/fuse is closed to this user: run as root, or chmod 666 /dev/fuse as root';
  }
  if (process.getuid?.() !== 0) {
    if (findFusermount() === undefined) {
      return (
        what +
        'an ordinary user needs fusermount: apt-get install fuse3, or run as root, ' +
        'or inside unshare --user --map-root-user --mount'
      );
    }
    if (allowOther && !userAllowOther()) {
      return what + '--allow-other needs the line user_allow_other in /etc/fuse.conf';
    }
  }
  if (error.message !== 'fuse failed') return what + error.message;
  const background = process.env['PAGEBLOCK_READY_FD'] !== undefined;
  const reason = background ? `its reason stands in ${logPath(path)}` : 'its reason stands above';
  return `${what}the system refused it; ${reason}`;
}

function userAllowOther(): boolean {
  try {
    return /^\s*user_allow_other\s*$/m.test(readFileSync('/etc/fuse.conf', 'utf8'));
  } catch {
    return false;
  }
}
