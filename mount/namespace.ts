/**
 * The private mount namespace in which `run` and `shell` start programs: the host's /proc and
 * /sys, with the mounted machine's files bound over the ones they replace.
 *
 * /proc cannot be covered as a whole (self, fd and exe must be the program's own), so the entries
 * of COVERS are bound one by one. One namespace is made for each mounted machine and kept between
 * calls by a process that does nothing else: what one program mounts there, the next one sees. It
 * ends with the server. Each program is started only after every cover was found in place, by
 * device and inode; otherwise it could write to the host. An ordinary user gets a user namespace
 * as well, in which he is root, as he is on the emulated machine.
 * The work is util-linux' (unshare, nsenter, mount): a Node process has threads, and those cannot
 * enter a user namespace.
 */
import { spawn } from 'node:child_process';
import { existsSync, linkSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import createDebug from 'debug';
import { canonicalMountPoint, mountAt } from './mountinfo.ts';
import { bootId, isAlive, runtimePath, startTimeOf } from './runtime.ts';
import { Failure } from './transport.ts';
import { FS_TYPE, probe } from './unmount.ts';

const debug = createDebug('pageblock:namespace');

export type CoverKind =
  /** The mounted machine's file or directory over the host's. */
  | 'bind'
  /** An empty directory over the host's, because the machine has none. */
  | 'empty'
  /** No directory where the host has one: programs ask whether it is there. */
  | 'hidden'
  /** A directory of the namespace's own. */
  | 'private';

export interface Cover {
  readonly kind: CoverKind;
  readonly path: string;
}

/** What is covered. Directories come whole: names that only the host has must vanish in them. */
const COVERS: readonly {
  path: string;
  dir?: true;
  cpus?: true;
  private?: true;
  /** Only where the host has it as well. */
  optional?: true;
  /** Where the machine has none, programs must see that. */
  hide?: true;
}[] = [
  { path: '/proc/meminfo' },
  { path: '/proc/zoneinfo' },
  { path: '/proc/vmstat' },
  { path: '/proc/buddyinfo' },
  { path: '/proc/pagetypeinfo' },
  { path: '/proc/slabinfo' },
  { path: '/proc/swaps' },
  { path: '/proc/kpageflags' },
  { path: '/proc/kpagecount' },
  // These three tell of CPUs: programs divide by what /sys/devices/system/cpu has.
  { path: '/proc/stat', cpus: true },
  { path: '/proc/loadavg', cpus: true },
  { path: '/proc/uptime', cpus: true },
  { path: '/proc/sys/vm', dir: true },
  { path: '/proc/sys/kernel/shmmax' },
  { path: '/proc/sys/kernel/shmall' },
  { path: '/proc/sys/kernel/shmmni' },
  { path: '/sys/devices/system/node', dir: true, hide: true },
  { path: '/sys/kernel/mm', dir: true },
  { path: '/sys/kernel/debug', dir: true },
  { path: '/sys/kernel/tracing', dir: true, optional: true },
  // hugeadm makes its mount points here.
  { path: '/var/lib/hugetlbfs', dir: true, private: true },
];

/** What is to be covered on this host by this machine. */
export function coversFor(mountPoint: string): Cover[] {
  const sameCpus = cpuCount(join(mountPoint, 'proc/stat')) === cpuCount('/proc/stat');
  const covers: Cover[] = [];
  for (const { path, dir, cpus, private: own, optional, hide } of COVERS) {
    if (own) {
      covers.push({ kind: 'private', path });
    } else if (optional && !existsSync(path)) {
      debug('the host has no %s', path);
    } else if (!existsSync(join(mountPoint, path))) {
      // Without NUMA the machine has no nodes; a program must not find the host's.
      if (dir && existsSync(path)) covers.push({ kind: hide ? 'hidden' : 'empty', path });
    } else if ((!cpus || sameCpus) && (dir || existsSync(path))) {
      covers.push({ kind: 'bind', path });
    } else {
      debug('%s is left to the host', path);
    }
  }
  return covers;
}

function cpuCount(statFile: string): number {
  try {
    return readFileSync(statFile, 'utf8').match(/^cpu\d+ /gm)?.length ?? 0;
  } catch {
    return -1;
  }
}

/** The process that keeps a namespace. */
interface Holder {
  readonly mountPoint: string;
  readonly pid: number;
  readonly startTime: string;
  readonly bootId: string;
  /** st_dev of the mount: while the namespace lives, no other mount can get this number. */
  readonly device: number;
  readonly user: boolean;
}

/**
 * Makes the covers, says so and then waits for the end of the server. Arguments: the mount point,
 * then kind and path of each cover in turn.
 *
 * Where the host lacks a directory none can be made in /sys or without leaving something in
 * /var/lib: `rebuild` covers the parent with a tmpfs in which everything else is bound back. So does
 * it where a directory must not be.
 */
const HOLD = `set -e
mnt=$1; shift
rebuild() {
  exec 9<"$1"
  mount -n -t tmpfs -o mode=755 tmpfs "$1"
  for old in /proc/$$/fd/9/* /proc/$$/fd/9/.[!.]*; do
    name=\${old##*/}
    [ "$name" != "$2" ] || continue
    if [ -L "$old" ]; then ln -s "$(readlink "$old")" "$1/$name"
    elif [ -d "$old" ]; then mkdir "$1/$name"; mount -n -c --rbind "$old" "$1/$name"
    elif [ -e "$old" ]; then : >"$1/$name"; mount -n -c --bind "$old" "$1/$name"
    fi
  done
  exec 9<&-
}
while [ $# -gt 0 ]; do
  kind=$1 path=$2; shift 2
  parent=\${path%/*} name=\${path##*/}
  [ -e "$path" ] || { rebuild "$parent" "$name"; mkdir "$path"; }
  case $kind in
  hidden) rebuild "$parent" "$name" ;;
  bind) mount -n -c --bind "$mnt$path" "$path" ;;
  *) mount -n -c -t tmpfs -o mode=755 tmpfs "$path" ;;
  esac
done
echo ready
exec </dev/null >/dev/null 2>&1
cd /
while [ -e "$mnt/proc/meminfo" ]; do sleep 1; done`;

/**
 * The command that starts a program in the namespace of a mounted machine, made if there is none.
 * Throws a Failure. The program is started by it with exec: one process, from nsenter to the end.
 */
export async function commandInNamespace(mnt: string, command: string[]): Promise<string[]> {
  const mountPoint = await answering(mnt);
  const nsenter = needed('nsenter', 'util-linux');
  const covers = coversFor(mountPoint);
  const holder = await holderOf(mountPoint, covers);
  const user = holder.user ? ['--user', '--preserve-credentials'] : [];
  return [
    ...[nsenter, '--target', String(holder.pid), ...user, '--mount', '--'],
    ...['/bin/sh', '-c', enterScript(mountPoint, covers), 'pageblock', currentDirectory()],
    ...command,
  ];
}

/** The canonical path of a mount that answers. Throws a Failure. */
export async function answering(mnt: string): Promise<string> {
  const mountPoint = canonicalMountPoint(mnt);
  if (mountAt(mountPoint)?.type !== FS_TYPE) {
    throw new Failure(`${mountPoint} is not mounted: pageblock mount ${mountPoint} mounts it`);
  }
  const answer = await probe(mountPoint);
  if (answer === 'forbidden') {
    throw new Failure(`${mountPoint} is another user's mount: mount it with --allow-other`);
  }
  if (answer !== 'ok') {
    const what = answer === 'dead' ? 'was killed' : 'does not answer';
    throw new Failure(`the server of ${mountPoint} ${what}: pageblock umount ${mountPoint}`);
  }
  return mountPoint;
}

function needed(program: string, debianPackage: string): string {
  const dirs = (process.env['PATH'] ?? '').split(delimiter).concat('/usr/bin', '/bin', '/usr/sbin');
  for (const dir of dirs) {
    if (dir.startsWith('/') && existsSync(join(dir, program))) return join(dir, program);
  }
  throw new Failure(`run needs the program ${program}: apt-get install ${debianPackage}`);
}

/** As the user's shell calls it: by way of symbolic links, if it went that way. */
function currentDirectory(): string {
  const physical = process.cwd();
  const logical = process.env['PWD'];
  try {
    if (logical?.startsWith('/')) {
      const [one, two] = [statSync(logical), statSync(physical)];
      if (one.dev === two.dev && one.ino === two.ino) return logical;
    }
  } catch {
    // PWD tells of a directory that is gone
  }
  return physical;
}

/** Compares device and inode of every cover, goes where the caller is and becomes the program. */
function enterScript(mountPoint: string, covers: readonly Cover[]): string {
  const stat = needed('stat', 'coreutils');
  const paths: string[] = [];
  const expected: string[] = [];
  let script = '';
  for (const { kind, path } of covers) {
    if (kind === 'bind') {
      const { dev, ino } = statSync(join(mountPoint, path), { bigint: true });
      paths.push(path);
      expected.push(`${dev}:${ino}`);
    } else if (kind === 'hidden') {
      script += `[ ! -e ${path} ] || refuse ${path}\n`;
    } else {
      // A tmpfs that was not there before.
      const fromOutside = existsSync(path) ? statSync(path, { bigint: true }).dev : -1;
      script += `[ "$(${stat} -c %d ${path} 2>&1)" != ${fromOutside} ] || refuse ${path}\n`;
    }
  }
  return `refuse() {
  echo "pageblock: $1 is not covered by ${shellQuoted(mountPoint)}: nothing was started" >&2
  exit 1
}
want='${expected.join('\n')}'
if [ "$(${stat} -c %d:%i ${paths.join(' ')} 2>&1)" != "$want" ]; then
  set -- ${paths.join(' ')}
  for id in $want; do
    [ "$(${stat} -c %d:%i "$1" 2>&1)" = "$id" ] || refuse "$1"
    shift
  done
  refuse /proc
fi
${script}had=\${OLDPWD+x} old=\${OLDPWD-}
cd -- "$1" || exit 1
shift
if [ "$had" ]; then OLDPWD=$old; else unset OLDPWD; fi
if [ -d "$1" ]; then
  echo "pageblock: $1 is a directory: name a program" >&2
  exit 126
fi
if ! command -v -- "$1" >/dev/null 2>&1; then
  echo "pageblock: no program $1: install it, or give its path" >&2
  exit 127
fi
exec "$@"`;
}

/** For the inside of double quotes. */
function shellQuoted(text: string): string {
  return text.replace(/[\\"$`]/g, '\\$&');
}

function holderPath(mountPoint: string): string {
  return runtimePath(mountPoint, '.ns');
}

function readHolder(mountPoint: string): Holder | undefined {
  try {
    return JSON.parse(readFileSync(holderPath(mountPoint), 'utf8')) as Holder;
  } catch {
    return undefined;
  }
}

/** Ends the namespace of a mount; programs that still run in it keep their view. */
export function endNamespace(mountPoint: string): void {
  const holder = readHolder(mountPoint);
  if (holder === undefined) return;
  if (isAlive(holder)) endHolder(holder.pid);
  rmSync(holderPath(mountPoint), { force: true });
}

function endHolder(pid: number): void {
  try {
    process.kill(-pid, 'SIGTERM'); // with the sleep that it waits for
  } catch {
    // it has just ended by itself
  }
}

async function holderOf(mountPoint: string, covers: readonly Cover[]): Promise<Holder> {
  const device = statSync(mountPoint).dev;
  for (;;) {
    const old = readHolder(mountPoint);
    if (old !== undefined && old.device === device && isAlive(old)) return old;
    // Of an earlier mount on the same directory.
    endNamespace(mountPoint);
    const holder = await startHolder(mountPoint, covers, device);
    const path = holderPath(mountPoint);
    const draft = `${path}.${process.pid}`;
    writeFileSync(draft, JSON.stringify(holder) + '\n', { mode: 0o600 });
    try {
      linkSync(draft, path);
      return holder;
    } catch (error) {
      // Another call was faster: its namespace is the one that is kept.
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
      endHolder(holder.pid);
    } finally {
      rmSync(draft, { force: true });
    }
  }
}

async function startHolder(
  mountPoint: string,
  covers: readonly Cover[],
  device: number,
): Promise<Holder> {
  const unshare = needed('unshare', 'util-linux');
  needed('mount', 'mount');
  const isRoot = process.getuid?.() === 0;
  let why = '';
  // Root in a container may lack the right to mount; there the user's way may still be open.
  for (const user of isRoot ? [false, true] : [true]) {
    const args = [
      ...(user ? ['--user', '--map-root-user'] : []),
      ...['--mount', '--propagation', 'private', '--', '/bin/sh', '-c', HOLD, 'pageblock-run'],
      ...[mountPoint, ...covers.flatMap(({ kind, path }) => [kind, path])],
    ];
    const result = await hold(unshare, args);
    if (typeof result === 'number') {
      const startTime = startTimeOf(result) ?? '';
      return { mountPoint, pid: result, startTime, bootId: bootId(), device, user };
    }
    why = result;
    debug('unshare%s: %s', user ? ' --user' : '', why);
  }
  const advice = isRoot
    ? 'the container needs CAP_SYS_ADMIN'
    : 'run as root, or allow user namespaces (sysctl kernel.unprivileged_userns_clone=1, ' +
      'on Ubuntu kernel.apparmor_restrict_unprivileged_userns=0)';
  throw new Failure(`cannot make a mount namespace (${why}): ${advice}`);
}

/** Starts a holder. Its pid once it is ready, or the line that tells why it is not. */
function hold(unshare: string, args: string[]): Promise<number | string> {
  return new Promise((resolve) => {
    const child = spawn(unshare, args, {
      cwd: '/',
      detached: true,
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', LC_ALL: 'C' },
    });
    let errors = '';
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      errors += text;
    });
    child.stdout.once('data', () => {
      child.stdout.destroy();
      child.stderr.destroy();
      child.unref();
      resolve(child.pid!);
    });
    child.on('error', (error) => resolve(error.message));
    child.on('close', () => resolve(errors.trim().split('\n')[0] || 'no reason given'));
  });
}
