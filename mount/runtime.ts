/**
 * What a server leaves for `status` and `umount` to find: one small file per mount point.
 *
 * It lies in $XDG_RUNTIME_DIR/pageblock or /tmp/pageblock-UID, closed to others, under a hash of
 * the mount point's absolute path and the mount namespace. A pid alone is not trusted, for it may have been given to
 * another process since: the start time of the process and the boot id must match as well.
 */
import { createHash } from 'node:crypto';
import {
  lstatSync,
  mkdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { Failure } from './transport.ts';

export interface ServerRecord {
  readonly mountPoint: string;
  readonly pid: number;
  /** Field 22 of /proc/PID/stat: clock ticks between boot and the start of the process. */
  readonly startTime: string;
  readonly bootId: string;
  readonly version: string;
  readonly transport: string;
  readonly options: Record<string, unknown>;
  readonly log: string | null;
  readonly since: string;
}

export function runtimeDir(): string {
  const base = process.env['XDG_RUNTIME_DIR'];
  const uid = process.getuid?.() ?? 0;
  const dir =
    base !== undefined && isDirectory(base)
      ? join(base, 'pageblock')
      : join('/tmp', `pageblock-${hostUid(uid)}`);
  mkdirSync(dir, { recursive: true, mode: 0o700 });
  // In /tmp anybody may have made it first: never trust a record that another user could write.
  const stat = lstatSync(dir);
  if (!stat.isDirectory() || stat.uid !== uid || (stat.mode & 0o022) !== 0) {
    throw new Failure(`${dir} belongs to somebody else: set XDG_RUNTIME_DIR to your own directory`);
  }
  return dir;
}

/** Our uid outside the user namespace that we may be in: /tmp is shared with everybody there. */
function hostUid(uid: number): number {
  for (const line of readFileSync('/proc/self/uid_map', 'utf8').split('\n')) {
    const [inside, outside, count] = line.trim().split(/\s+/).map(Number);
    if (inside === undefined || outside === undefined || count === undefined) continue;
    if (uid >= inside && uid < inside + count) return outside + uid - inside;
  }
  return uid;
}

function isDirectory(path: string): boolean {
  try {
    return statSync(path).isDirectory();
  } catch {
    return false;
  }
}

/** Where a record of a mount lies. */
export function runtimePath(mountPoint: string, suffix: string): string {
  // The same path in another mount namespace is another mount point.
  const namespace = readlinkSync('/proc/self/ns/mnt');
  const key = createHash('sha256').update(`${namespace} ${mountPoint}`).digest('hex');
  return join(runtimeDir(), key.slice(0, 16) + suffix);
}

export function logPath(mountPoint: string): string {
  return runtimePath(mountPoint, '.log');
}

export function writeRecord(record: ServerRecord): void {
  const path = runtimePath(record.mountPoint, '.json');
  writeFileSync(path + '.new', JSON.stringify(record, null, 2) + '\n', { mode: 0o600 });
  renameSync(path + '.new', path);
}

export function readRecord(mountPoint: string): ServerRecord | undefined {
  try {
    const record = JSON.parse(
      readFileSync(runtimePath(mountPoint, '.json'), 'utf8'),
    ) as ServerRecord;
    return record.mountPoint === mountPoint ? record : undefined;
  } catch (error) {
    if (error instanceof Failure) throw error;
    return undefined;
  }
}

/** Removes the record of a mount point; with `pid`, only if it is that process's. */
export function removeRecord(mountPoint: string, pid?: number): boolean {
  const record = readRecord(mountPoint);
  if (record === undefined || (pid !== undefined && record.pid !== pid)) return false;
  rmSync(runtimePath(mountPoint, '.json'), { force: true });
  rmSync(runtimePath(mountPoint, '.ns'), { force: true });
  try {
    if (record.log !== null && statSync(record.log).size === 0) rmSync(record.log);
  } catch {
    // somebody has already removed the log
  }
  return true;
}

export function bootId(): string {
  return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
}

/** The start time of a process in clock ticks since boot; undefined when there is none. */
export function startTimeOf(pid: number): string | undefined {
  let text: string;
  try {
    text = readFileSync(`/proc/${pid}/stat`, 'utf8');
  } catch {
    return undefined;
  }
  // The name in parentheses may hold blanks and parentheses itself: count behind the last one.
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  return fields[0] === 'Z' ? undefined : fields[19];
}

/** True while the very process that wrote the record lives. */
export function isAlive(record: Pick<ServerRecord, 'pid' | 'startTime' | 'bootId'>): boolean {
  return record.bootId === bootId() && startTimeOf(record.pid) === record.startTime;
}
