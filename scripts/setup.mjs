/**
 * Makes a fresh checkout ready: packages of npm, the addon, what Debian must provide, the build.
 *
 * Plain Node without dependencies, for it runs before there are any. Nothing is installed that is
 * there already. As root missing Debian packages are installed with apt-get; anybody else is told
 * in one line what to install. `node scripts/setup.mjs` does the set-up alone.
 */
import { spawnSync } from 'node:child_process';
import { chmodSync, existsSync, statSync } from 'node:fs';
import { delimiter, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = dirname(dirname(fileURLToPath(import.meta.url)));

export function say(text) {
  process.stdout.write(`${text}\n`);
}

export function fail(text) {
  process.stderr.write(`pageblock: ${text}\n`);
  process.exit(1);
}

export function which(program) {
  // sbin is not in the PATH of an ordinary Debian user.
  const dirs = (process.env.PATH ?? '').split(delimiter).concat('/usr/sbin', '/sbin');
  return dirs.map((dir) => join(dir, program)).find((path) => existsSync(path));
}

export function isRoot() {
  return process.getuid?.() === 0;
}

/** Runs a command in the checkout with its output shown; ends this process if it fails. */
export function run(command, args, env = process.env) {
  const { status, signal, error } = spawnSync(command, args, {
    cwd: root,
    stdio: ['ignore', 'inherit', 'inherit'],
    env,
  });
  if (error) fail(`cannot run ${command}: ${error.message}`);
  if (status !== 0) process.exit(status ?? (signal ? 1 : 0));
}

/** Installs Debian packages where it may. Returns false if it may not or could not. */
function aptGet(packages) {
  if (!isRoot() || which('apt-get') === undefined) return false;
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  const install = ['install', '-y', '--no-install-recommends', ...packages];
  const quiet = { cwd: '/', stdio: ['ignore', 'ignore', 'pipe'], env };
  if (spawnSync('apt-get', install, quiet).status === 0) return true;
  spawnSync('apt-get', ['update'], quiet);
  return spawnSync('apt-get', install, quiet).status === 0;
}

/** Installs the Debian packages of the programs that are missing; the names of those still so. */
export function ensurePrograms(packageOf) {
  const missing = () => Object.keys(packageOf).filter((program) => which(program) === undefined);
  const before = missing();
  if (before.length === 0) return [];
  const packages = [...new Set(before.map((program) => packageOf[program]))];
  say(`Missing: ${before.join(', ')} (Debian: ${packages.join(' ')})`);
  if (aptGet(packages)) say(`Installed: ${packages.join(' ')}`);
  return missing();
}

/** node-gyp downloads Node's headers unless told where they are. */
function npmEnvironment() {
  const prefix = dirname(dirname(process.execPath));
  if (!existsSync(join(prefix, 'include/node/node_version.h'))) return process.env;
  return { ...process.env, npm_config_nodedir: prefix };
}

function installed() {
  const lock = join(root, 'node_modules/.package-lock.json');
  if (!existsSync(lock)) return false;
  return statSync(lock).mtimeMs >= statSync(join(root, 'package-lock.json')).mtimeMs;
}

function addonWorks() {
  const script = "require('node-gyp-build')(process.cwd())";
  return spawnSync(process.execPath, ['-e', script], { cwd: root, stdio: 'ignore' }).status === 0;
}

/** Installs, compiles and builds what is missing or out of date. */
export function setUp({ build = true } = {}) {
  const [major = 0] = process.versions.node.split('.').map(Number);
  if (major < 20) fail(`Node ${process.versions.node} is too old: install Node 20 or later`);
  if (!installed() || !addonWorks()) {
    const compilers = { 'g++': 'g++', make: 'make', python3: 'python3' };
    const missing = ensurePrograms(compilers);
    if (missing.length > 0) {
      fail(`${missing.join(', ')} needed to build the addon: apt-get install g++ make python3`);
    }
    say('Installing packages (npm ci) ...');
    run('npm', ['ci'], npmEnvironment());
  }
  if (!build) return;
  run(process.execPath, [join(root, 'node_modules/typescript/bin/tsc'), '-b']);
  // tsc makes plain files, and npx runs this one.
  chmodSync(join(root, 'dist/mount/main.js'), 0o755);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) setUp();
