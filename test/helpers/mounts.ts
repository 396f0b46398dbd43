/**
 * Mounts for end-to-end tests: in unique temporary directories, always taken away again.
 *
 * The suite runs in a private mount namespace where it can (scripts/test.mjs), so that not even a
 * killed test run leaves a mount on the host. /dev/fuse is often 0600 in containers and virtual
 * machines: as root, the namespace gets its own open node, and the host's stays as it is.
 */
import { accessSync, constants, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';
import { mounts } from '../../mount/mountinfo.ts';
import { type RunOptions, type RunResult, run } from './processes.ts';

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
