/**
 * Mounts for end-to-end tests: in unique temporary directories, always taken away again.
 *
 * The suite runs in a private mount namespace where it can (scripts/test.mjs), so that not even a
 * killed test run leaves a mount on the host. /dev/fuse is often 0600 in containers and virtual
 * machines: as root, the namespace gets its own open node, and the host's stays as it is.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import {
  accessSync,
  chmodSync,
  constants,
  mkdirSync,
  mkdtempSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';
import { mounts } from '../../mount/mountinfo.ts';
import { packageRoot } from '../../mount/native.ts';
import { findFusermount } from '../../mount/unmount.ts';
import { NOBODY, type RunOptions, type RunResult, run } from './processes.ts';

export const MAIN = fileURLToPath(new URL('../../mount/main.js', import.meta.url));
export const FAKE_SERVER = fileURLToPath(new URL('./fakeServer.js', import.meta.url));

/** Why FUSE cannot be tested here, or false: for the `skip` option of a test. */
export function noFuse(): string | false {
  try {
    accessSync('/dev/fuse', constants.R_OK | constants.W_OK);
    return false;
  } catch {
    return 'FUSE cannot be used: /dev/fuse is missing or closed to this user';
  }
}

/** Why tests that switch users cannot run here, or false. */
export function notRoot(): string | false {
  return process.getuid?.() === 0 ? noFuse() : 'needs root, to become another user';
}

/** A temporary directory that ends with the test, and every mount in it before that. */
export function tempDir(t: TestContext): string {
  const dir = mkdtempSync(join(tmpdir(), 'pageblock-test-'));
  t.after(async () => {
    for (const entry of mounts().reverse()) {
      if (!entry.path.startsWith(dir)) continue;
      await pageblock(['umount', entry.path]);
      if (mounts().some(({ path }) => path === entry.path)) await run('umount', ['-l', entry.path]);
    }
    const left = mounts().filter(({ path }) => path.startsWith(dir));
    rmSync(dir, { recursive: true, force: true });
    if (left.length > 0) throw new Error(`mounts were left behind: ${left.map((m) => m.path)}`);
  });
  return dir;
}

/** Runs the command line. */
export function pageblock(args: string[], options: RunOptions = {}): Promise<RunResult> {
  return run(process.execPath, [MAIN, ...args], { timeout: 60_000, ...options });
}

/** Mounts a machine in a temporary directory; returns the mount point. */
export async function mountMachine(
  t: TestContext,
  args: string[] = [],
  options: RunOptions = {},
): Promise<string> {
  const mountPoint = join(tempDir(t), 'mnt');
  const result = await pageblock(['mount', mountPoint, ...args], options);
  if (result.status !== 0) throw new Error(`mount failed: ${result.stderr}`);
  return mountPoint;
}

/** The pid of the server of a mount, as `status` tells it. */
export async function serverPid(mountPoint: string): Promise<number> {
  const { stdout } = await pageblock(['status', mountPoint]);
  return Number(/^pid\s+(\d+)$/m.exec(stdout)?.[1]);
}

export function isMounted(mountPoint: string): boolean {
  return mounts().some(({ path }) => path === mountPoint);
}

/**
 * Where an ordinary user finds Node and the command line. A checkout below root's home, or a Node
 * there, is bound to a place that all may enter.
 */
export function userView(t: TestContext): { node: string; main: string } {
  return {
    node: visible(t, process.execPath, process.execPath),
    main: visible(t, packageRoot(), MAIN),
  };
}
userView.skip =
  notRoot() ||
  (findFusermount() === undefined ? 'needs fusermount (Debian: fuse3)' : false) ||
  (nobodyMay('test -r /dev/fuse -a -w /dev/fuse') ? false : '/dev/fuse is closed to other users');

function nobodyMay(command: string): boolean {
  const ids = [`--reuid=${NOBODY}`, `--regid=${NOBODY}`, '--clear-groups'];
  return spawnSync('setpriv', [...ids, 'sh', '-c', command], { stdio: 'ignore' }).status === 0;
}

function visible(t: TestContext, top: string, path: string): string {
  if (nobodyMay(`test -r '${path}'`)) return path;
  const dir = mkdtempSync(join(tmpdir(), 'pageblock-view-'));
  chmodSync(dir, 0o755);
  const at = join(dir, 'at');
  if (statSync(top).isDirectory()) mkdirSync(at);
  else writeFileSync(at, '');
  execFileSync('mount', ['--bind', top, at]);
  t.after(() => {
    execFileSync('umount', ['-l', at]);
    rmSync(dir, { recursive: true });
  });
  return at + path.slice(top.length);
}
