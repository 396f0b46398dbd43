/**
 * `npm test`: the set-up of `npm start`, then the tests; `node scripts/test.mjs unit e2e` runs
 * those folders of test/ only, --no-setup leaves the set-up out.
 *
 * All files run in one `node --test`, one after the other (they measure times, and two processors
 * are few), so that its closing lines count everything. As root it runs in a mount namespace of
 * its own: no mount of a test can survive there, and /dev/fuse is open to every user in it.
 */
import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { join, relative } from 'node:path';
import { ensurePrograms, fail, isRoot, root, say, setUp, which } from './setup.mjs';

/** Lays a node for FUSE that every user may open over the host's, where that is possible. */
const OPEN_FUSE = `
  dir=$(mktemp -d) && mount -t tmpfs -o mode=755 tmpfs "$dir" &&
  mknod "$dir/fuse" c 10 229 && chmod 666 "$dir/fuse" && mount --bind "$dir/fuse" /dev/fuse
  "$0" "$@"; status=$?
  umount /dev/fuse 2>/dev/null; umount "$dir" && rmdir "$dir"
  exit $status`;

const GROUPS = ['unit', 'golden', 'sim', 'model', 'e2e'];

const args = process.argv.slice(2);
const wanted = args.filter((arg) => !arg.startsWith('--'));
const flags = args.filter((arg) => arg.startsWith('--') && arg !== '--no-setup');
for (const group of wanted) {
  if (!GROUPS.includes(group)) fail(`no tests in test/${group}: choose from ${GROUPS.join(', ')}`);
}
const groups = wanted.length > 0 ? GROUPS.filter((group) => wanted.includes(group)) : GROUPS;

if (!args.includes('--no-setup')) setUp();
if (groups.includes('e2e')) {
  // What the tests run, most of it on mounted machines, and the Debian packages that have it.
  const programs = {
    fusermount3: 'fuse3',
    fio: 'fio',
    hugeadm: 'libhugetlbfs-bin',
    sysctl: 'procps',
    numactl: 'numactl',
    sar: 'sysstat',
    'prometheus-node-exporter': 'prometheus-node-exporter',
    'updatedb.plocate': 'plocate',
    'stress-ng': 'stress-ng',
    python3: 'python3',
    chromium: 'chromium',
    unshare: 'util-linux',
  };
  const missing = ensurePrograms(programs);
  if (missing.length > 0) say(`Tests that need ${missing.join(', ')} will be skipped.`);
}

// From the sources: dist/ may still hold tests that are gone.
const files = groups.flatMap((group) => {
  const dir = join(root, 'test', group);
  return readdirSync(dir, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.test.ts'))
    .sort()
    .map((name) => join('dist', relative(root, dir), name.replace(/\.ts$/, '.js')));
});
if (files.length === 0) fail('no test files found');

let command = [process.execPath, '--test', '--test-concurrency=1', ...flags, ...files];
if (groups.includes('e2e') && isRoot() && inNamespace(['true'])) {
  command = ['unshare', '--mount', '--propagation', 'private', 'sh', '-c', OPEN_FUSE, ...command];
}
const { status } = spawnSync(command[0], command.slice(1), {
  cwd: root,
  stdio: ['ignore', 'inherit', 'inherit'],
});
process.exit(status ?? 1);

function inNamespace(argv) {
  if (which('unshare') === undefined) return false;
  const options = ['--mount', '--propagation', 'private', ...argv];
  return spawnSync('unshare', options, { stdio: 'ignore' }).status === 0;
}
