/** hugeadm and pagesize with all their options. */
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Client, numbers } from '../clients.ts';
import type { ClientRow } from './types.ts';

const VM = '/proc/sys/vm/';
const NR = `${VM}nr_hugepages`;
const OVERCOMMIT = `${VM}nr_overcommit_hugepages`;
const DIR = 'sys/kernel/mm/hugepages';
const THP = 'sys/kernel/mm/transparent_hugepage';

const pagesOf = async (client: Client, name: string) => Number(await client.read(name));

/** A pool of the default size, nothing of it in use. */
async function pool(client: Client, pages: number, overcommit = 0): Promise<void> {
  await client.fault('pool', 'off');
  await client.write('proc/sys/vm/nr_overcommit_hugepages', `${overcommit}\n`);
  await client.write('proc/sys/vm/nr_hugepages', `${pages}\n`);
  assert.equal(await pagesOf(client, 'proc/sys/vm/nr_hugepages'), pages);
  await client.writes();
}

/** Size, minimum, current and maximum of the default pool, as hugeadm has it. */
async function listed(client: Client): Promise<number[]> {
  const lines = (await client.out('hugeadm', '--pool-list')).split('\n');
  return numbers(lines.find((line) => line.endsWith('*')));
}

/** All sizes of huge pages in kB, ascending. */
async function sizes(client: Client): Promise<number[]> {
  const { stdout } = await client.outside('ls', [`${client.mnt}/${DIR}`]);
  return numbers(stdout.replaceAll('-', ' ')).sort((a, b) => a - b);
}

/** Each option alone, in the given order; every one must exit 0 without a word. */
async function silent(client: Client, ...args: string[]): Promise<void> {
  const { status, stdout, stderr } = await client.run('hugeadm', ...args);
  assert.deepEqual([status, stdout, stderr], [0, '', ''], args.join(' '));
}

const zoneHeaders = async (client: Client) =>
  (await client.read('proc/zoneinfo')).match(/^Node /gm)!.length;

export const hugeadm_rows: readonly ClientRow[] = [
  {
    program: 'hugeadm',
    command: '`hugeadm --pool-list`',
    checked: 'minimum, current and maximum of every pool, the default one marked',
    async check(client) {
      await pool(client, 20, 4);
      const [head, ...rows] = (await client.out('hugeadm', '--pool-list')).trimEnd().split('\n');
      assert.match(head!, /^ +Size +Minimum +Current +Maximum +Default$/);
      const info = await client.meminfo();
      const wanted: unknown[] = [];
      for (const kb of await sizes(client)) {
        const dir = `${DIR}/hugepages-${kb}kB`;
        const total = await pagesOf(client, `${dir}/nr_hugepages`);
        const min = total - (await pagesOf(client, `${dir}/surplus_hugepages`));
        const max = min + (await pagesOf(client, `${dir}/nr_overcommit_hugepages`));
        wanted.push([kb * 1024, min, total, max, kb === info['Hugepagesize']]);
      }
      assert.deepEqual(
        rows.map((row) => [...numbers(row), row.endsWith('*')]),
        wanted,
      );
      assert.deepEqual(await listed(client), [2097152, 20, 20, 24]);
    },
  },
  {
    program: 'hugeadm',
    command: '`hugeadm --pool-pages-min S:V`',
    checked: 'counts, +, -, bytes; DEFAULT and 2MB; order of the writes; the maximum stays',
    async check(client) {
      await pool(client, 20);
      await silent(client, '--pool-pages-min', 'DEFAULT:+4');
      assert.deepEqual(await listed(client), [2097152, 24, 24, 24]);
      await silent(client, '--pool-pages-min', '2MB:-10');
      assert.deepEqual(await listed(client), [2097152, 14, 14, 24]);
      await silent(client, '--pool-pages-min', 'DEFAULT:64M');
      assert.deepEqual(await listed(client), [2097152, 32, 32, 32]);
      await silent(client, '--pool-pages-min', 'DEFAULT:43009K');
      assert.deepEqual(await listed(client), [2097152, 21, 21, 32], 'rounded down');
      await pool(client, 40, 16);
      await silent(client, '--pool-pages-min', 'DEFAULT:32');
      // What lies between minimum and maximum grows first.
      assert.deepEqual((await client.writes()).slice(0, 2), [
        [OVERCOMMIT, '24'],
        [NR, '32'],
      ]);
      assert.deepEqual(await listed(client), [2097152, 32, 32, 56]);
    },
  },
  {
    program: 'hugeadm',
    command: '`hugeadm --pool-pages-max S:V`',
    checked: 'the overcommit limit arrives, the minimum follows when it must',
    async check(client) {
      await pool(client, 32);
      await silent(client, '--pool-pages-max', 'DEFAULT:8G');
      assert.deepEqual(await client.writes(), [
        [OVERCOMMIT, String(4096 - 32)],
        [NR, '32'],
      ]);
      assert.deepEqual(await listed(client), [2097152, 32, 32, 4096]);
      await silent(client, '--pool-pages-max', 'DEFAULT:8');
      assert.deepEqual(await listed(client), [2097152, 8, 8, 8]);
      const info = await client.meminfo();
      assert.deepEqual([info['HugePages_Total'], info['Hugepagesize']], [8, 2048]);
      await client.fault('file', `${OVERCOMMIT} ENOENT`);
      const without = await client.run('hugeadm', '--pool-pages-max', 'DEFAULT:9');
      await client.fault('file', 'off');
      assert.equal(without.status, 1);
      assert.match(without.stderr, /kernel does not support overcommit, max cannot be adjusted/);
    },
  },
  {
    program: 'hugeadm',
    command: '`hugeadm --obey-mempolicy --pool-pages-min S:V`',
    checked: 'arrives in `nr_hugepages_mempolicy`, not in `nr_hugepages`',
    async check(client) {
      await pool(client, 4);
      await silent(client, '--obey-mempolicy', '--pool-pages-min', 'DEFAULT:10');
      const paths = (await client.writes()).map(([path]) => path);
      assert.ok(paths.includes(`${NR}_mempolicy`));
      assert.ok(!paths.includes(NR));
      assert.deepEqual((await listed(client)).slice(0, 3), [2097152, 10, 10]);
    },
  },
  {
    program: 'hugeadm',
    command: '`hugeadm --pool-pages-min`, a pool that stops short',
    checked: 'the warning has the number that was reached; exit 0',
    async check(client) {
      await pool(client, 5);
      await client.fault('pool', '15');
      const short = await client.run('hugeadm', '--pool-pages-min', 'DEFAULT:50');
      assert.match(short.stderr, /failed to set pool minimum to 50 became 15/);
      assert.equal(short.status, 0);
      assert.deepEqual((await listed(client)).slice(0, 3), [2097152, 15, 15]);
      await client.fault('pool', 'off');
    },
  },
  {
    program: 'hugeadm',
    command: '`hugeadm --hard --pool-pages-min S:V`',
    checked: 'tries again after six seconds, and gets what it wanted',
    async check(client) {
      await pool(client, 5);
      await client.fault('pool', '15');
      const trying = client.run('hugeadm', '--hard', '--pool-pages-min', 'DEFAULT:30');
      while ((await pagesOf(client, 'proc/sys/vm/nr_hugepages')) < 15) await sleep(50);
      await client.fault('pool', 'off');
      const { status, stderr } = await trying;
      assert.deepEqual([status, stderr], [0, '']);
      assert.deepEqual((await listed(client)).slice(0, 3), [2097152, 30, 30]);
      const written = (await client.writes()).filter(([path]) => path === NR);
      assert.ok(written.length >= 2, JSON.stringify(written));
    },
  },
  {
    program: 'hugeadm',
    command: '`hugeadm`, wrong options and values',
    checked: 'usage or one line, exit 1; nothing is written',
    async check(client) {
      await pool(client, 3);
      for (const [why, ...args] of [
        [/4096: unknown page size/, '--pool-pages-min', '4096:3'],
        [/x: invalid adjustment/, '--pool-pages-min', 'DEFAULT:x'],
        [/3: invalid resize specification/, '--pool-pages-max', '3'],
        [/Unknown option|unrecognized option/, '--bogus'],
        [/^hugeadm \[options\]/, 'surplus'],
        [/^hugeadm \[options\]/],
        [/verbosity/i, '--verbose', '100'],
        [/group/, '--set-shm-group', 'no-such'],
      ] as [RegExp, ...string[]][]) {
        const { status, stdout, stderr } = await client.run('hugeadm', ...args);
        assert.equal(status, 1, args.join(' '));
        assert.match(stdout + stderr, why);
      }
      assert.deepEqual(await client.writes(), []);
    },
  },
  {
    program: 'hugeadm',
    command: '`hugeadm`, /proc/meminfo closed',
    checked: 'no huge page support: exit 1 for all but --help',
    async check(client) {
      await client.fault('file', '/proc/meminfo EACCES');
      const list = await client.run('hugeadm', '--pool-list');
      const help = await client.run('hugeadm', '--help');
      const size = await client.run('pagesize', '-a');
      await client.fault('file', 'off');
      assert.equal(list.status, 1);
      assert.match(list.stderr, /kernel does not support huge pages/);
      assert.equal(help.status, 0);
      assert.deepEqual([size.status, size.stdout], [0, '4096\n']);
    },
  },
  {
    program: 'hugeadm',
    command: '`hugeadm --verbose 99 --pool-list`',
    checked: 'debug lines beside the list',
    async check(client) {
      const { status, stdout, stderr } = await client.run(
        ...['hugeadm', '--verbose', '99', '--pool-list'],
      );
      assert.equal(status, 0);
      assert.match(stdout + stderr, /DEBUG: HUGETLB_VERBOSE='99'/);
    },
  },
  {
    program: 'hugeadm',
    command: '`hugeadm --set-recommended-min_free_kbytes`',
    checked: 'the recommendation for this many zones arrives',
    async check(client) {
      const before = await client.read('proc/sys/vm/min_free_kbytes');
      await silent(client, '--set-recommended-min_free_kbytes');
      const wanted = 11 * 2048 * (await zoneHeaders(client));
      assert.equal(await client.read('proc/sys/vm/min_free_kbytes'), `${wanted}\n`);
      await client.write('proc/sys/vm/min_free_kbytes', before);
    },
  },
  {
    program: 'hugeadm',
    command: '`hugeadm --set-recommended-shmmax`',
    checked: 'the size of all pools arrives; a warning without pools',
    async check(client) {
      await pool(client, 0);
      const none = await client.run('hugeadm', '--set-recommended-shmmax');
      assert.equal(none.status, 0);
      assert.match(none.stderr, /only set a recommended shmmax when huge pages are configured/);
      assert.deepEqual(await client.writes(), []);
      await silent(client, '--pool-pages-max', 'DEFAULT:8G');
      await silent(client, '--set-recommended-shmmax');
      assert.equal(await client.read('proc/sys/kernel/shmmax'), '8589934592\n');
    },
  },
  {
    program: 'hugeadm',
    command: '`hugeadm --set-shm-group G`',
    checked: 'a group by name and by number',
    async check(client) {
      await silent(client, '--set-shm-group', 'daemon');
      assert.equal(await client.read('proc/sys/vm/hugetlb_shm_group'), '1\n');
      await silent(client, '--set-shm-group', '2');
      assert.equal(await client.read('proc/sys/vm/hugetlb_shm_group'), '2\n');
    },
  },
  {
    program: 'hugeadm',
    command: '`hugeadm --enable-zone-movable`, `--disable-…`',
    checked: '`hugepages_treat_as_movable` is 1, then 0',
    on: { '6.1': 'refused: the kernel has no such key' },
    async check(client) {
      const key = 'proc/sys/vm/hugepages_treat_as_movable';
      for (const [option, value] of [
        ['--enable-zone-movable', '1\n'],
        ['--disable-zone-movable', '0\n'],
      ] as const) {
        const { status, stderr } = await client.run('hugeadm', option);
        assert.equal(status, 0);
        if (client.kernel === '6.1') {
          assert.match(stderr, /Couldn't open \/proc\/sys\/vm\/hugepages_treat_as_movable/);
        } else {
          assert.equal(stderr, '');
          assert.equal(await client.read(key), value);
        }
      }
    },
  },
  {
    program: 'hugeadm',
    command: '`hugeadm --explain`',
    checked: 'memory, pools, and what it advises',
    async check(client) {
      await pool(client, 20, 4);
      await client.write('proc/sys/kernel/shmmax', '33554432\n');
      const { status, stdout } = await client.run('hugeadm', '--explain');
      assert.equal(status, 0);
      const total = Math.floor((await client.meminfo())['MemTotal']! / 1024);
      assert.match(stdout, new RegExp(`^Total System Memory: ${total} MB$`, 'm'));
      assert.match(stdout, /^ +2097152 +20 +20 +24 +\*$/m);
      const now = (await client.read('proc/sys/vm/min_free_kbytes')).trim();
      assert.match(stdout, new RegExp(`min_free_kbytes of ${now} is too small`));
      const wanted = 11 * 2048 * (await zoneHeaders(client));
      assert.match(stdout, new RegExp(`min_free_kbytes value of ${wanted}$`, 'm'));
      assert.match(stdout, /shmmax value of 33554432 bytes may be sub-optimal/);
      assert.match(stdout, /^ +kernel\.shmmax = 50331648$/m);
      const group = (await client.read('proc/sys/vm/hugetlb_shm_group')).trim();
      assert.match(stdout, new RegExp(`^ +vm.hugetlb_shm_group = ${group}$`, 'm'));
    },
  },
  {
    program: 'hugeadm',
    command: '`hugeadm --dry-run …`',
    checked: 'prints what it would do; only pools, shmmax and shm group are written',
    async check(client) {
      await pool(client, 20);
      const { status, stdout } = await client.run(
        ...['hugeadm', '--dry-run', '--set-recommended-min_free_kbytes', '--enable-zone-movable'],
        ...['--create-global-mounts', '--thp-never', '--pool-pages-min', 'DEFAULT:21'],
        ...['--set-recommended-shmmax', '--set-shm-group', '1'],
      );
      assert.equal(status, 0);
      assert.match(stdout, /^HUGETLB_VERBOSE='\d+'\n/);
      const wanted = 11 * 2048 * (await zoneHeaders(client));
      assert.ok(stdout.includes(`echo "${wanted}" > /proc/sys/vm/min_free_kbytes\n`));
      assert.ok(stdout.includes('echo 1 > /proc/sys/vm/hugepages_treat_as_movable\n'));
      assert.ok(stdout.includes("echo 'never' > /sys/kernel/mm/transparent_hugepage/enabled\n"));
      assert.match(stdout, /^mount -t hugetlbfs none .*pagesize-2MB -o pagesize=2097152$/m);
      const paths = new Set((await client.writes()).map(([path]) => path));
      for (const path of [NR, '/proc/sys/kernel/shmmax', `${VM}hugetlb_shm_group`]) {
        assert.ok(paths.delete(path), path);
      }
      paths.delete(OVERCOMMIT);
      assert.deepEqual([...paths], []);
    },
  },
  {
    program: 'hugeadm',
    command: '`hugeadm`, many options in one call',
    checked: 'the order in which they are carried out',
    async check(client) {
      await pool(client, 6);
      const { status, stdout } = await client.run(
        ...['hugeadm', '--pool-pages-max', 'DEFAULT:30', '--pool-pages-min', 'DEFAULT:9'],
        ...['--set-shm-group', '1', '--set-recommended-shmmax', '--page-sizes-all'],
        ...['--set-recommended-min_free_kbytes', '--pool-list'],
      );
      assert.equal(status, 0);
      // The list comes before anything is changed, the sizes after all.
      assert.match(stdout, /^ +Size[^\n]*\n +2097152 +6 +6 +6 +\*\n[\s\S]*2097152\n[\s\d]*$/);
      const order = (await client.writes()).map(([path]) => path.replace(/^.*\//, ''));
      const first = (name: string) => order.indexOf(name);
      assert.equal(first('min_free_kbytes'), 0);
      assert.equal(first('shmmax'), 1);
      assert.equal(first('hugetlb_shm_group'), 2);
      assert.ok(first('nr_hugepages') > 2);
      assert.deepEqual(await listed(client), [2097152, 9, 9, 30]);
    },
  },
  {
    program: 'pagesize',
    command: '`pagesize`, `-a`, `-H`; `hugeadm --page-sizes-all`',
    checked: 'all page sizes, ascending',
    async check(client) {
      const huge = (await sizes(client)).map((kb) => `${kb * 1024}\n`).join('');
      assert.match(huge, /^2097152\n/);
      assert.equal(await client.out('pagesize'), '4096\n');
      assert.equal(await client.out('pagesize', '-a'), `4096\n${huge}`);
      assert.equal(await client.out('pagesize', '-H'), huge);
      assert.equal(await client.out('hugeadm', '--page-sizes-all'), huge);
    },
  },
];

/** Transparent huge pages: where the kernel has them. */
export const thp_rows: readonly ClientRow[] = [
  {
    program: 'hugeadm',
    command: '`hugeadm --thp-always`, `--thp-madvise`, `--thp-never`',
    checked: 'the policy arrives; an error where the kernel has none; nobody but root',
    on: { '2.6.35': 'refused: the kernel has none' },
    async check(client) {
      const file = `${THP}/enabled`;
      const has = await client.has(file);
      assert.equal(has, client.kernel === '6.1');
      for (const word of ['always', 'madvise', 'never']) {
        const { status, stderr } = await client.run('hugeadm', `--thp-${word}`);
        assert.equal(status, 0);
        if (has) assert.ok((await client.read(file)).includes(`[${word}]`), word);
        else assert.match(stderr, new RegExp(`Couldn't open /${file}: No such file`));
      }
      if (client.who === 'root') {
        const other = ['setpriv', '--reuid=65534', '--clear-groups', 'hugeadm', '--thp-always'];
        const { status, stderr } = await client.run(...other);
        assert.equal(status, 1);
        assert.match(stderr, /can only be set by root|does not support huge pages/);
      }
    },
  },
  {
    program: 'hugeadm',
    command: '`hugeadm --thp-khugepaged-pages`, `-scan-sleep`, `-alloc-sleep`',
    checked: 'three numbers arrive; errors where the kernel has none',
    on: { '2.6.35': 'refused: the kernel has none' },
    async check(client) {
      const { status, stderr } = await client.run(
        ...['hugeadm', '--thp-khugepaged-pages', '51', '--thp-khugepaged-scan-sleep', '52'],
        ...['--thp-khugepaged-alloc-sleep', '53'],
      );
      assert.equal(status, 0);
      for (const [name, value] of [
        ['pages_to_scan', '51\n'],
        ['scan_sleep_millisecs', '52\n'],
        ['alloc_sleep_millisecs', '53\n'],
      ] as const) {
        const file = `${THP}/khugepaged/${name}`;
        if (await client.has(file)) assert.equal(await client.read(file), value);
        else assert.match(stderr, new RegExp(`Couldn't open /${file}: No such file`));
      }
    },
  },
];

const MOUNTS = '/var/lib/hugetlbfs';

export const mount_rows: readonly ClientRow[] = [
  {
    program: 'hugeadm',
    command: '`hugeadm --create-mounts`, `-global-mounts`, `-user-mounts`, `-group-mounts`',
    checked: 'mounts that later calls see, with mode, owner and limits; EPERM as a user',
    async check(client) {
      const none = await client.run('hugeadm', '--list-all-mounts');
      assert.equal(none.status, 0);
      assert.match(none.stderr, /No hugetlbfs mount points found/);
      const made = await client.run('hugeadm', '--create-global-mounts');
      if (client.who === 'user') {
        // Differs: the host's kernel does not let user namespaces mount hugetlbfs.
        assert.equal(made.status, 1);
        assert.match(made.stderr, /Operation not permitted/);
        return;
      }
      assert.deepEqual([made.status, made.stdout, made.stderr], [0, '', '']);
      const twice = await client.run('hugeadm', '--create-global-mounts');
      assert.match(twice.stderr, /already mounted/);
      assert.equal(twice.status, 0);
      await silent(client, '--create-mounts');
      const limits = ['--max-size', '64M', '--max-inodes', '5'];
      await silent(client, '--create-user-mounts', 'nobody', ...limits);
      await silent(client, '--create-group-mounts', 'daemon');
      const list = await client.out('hugeadm', '--list-all-mounts');
      for (const [dir, mode, options] of [
        ['', '770 root root', ''],
        ['/global', '1777 root root', ''],
        ['/user/nobody', '700 nobody', ',nr_inodes=5.*size=67108864'],
        ['/group/daemon', '70 root daemon', ''],
      ]) {
        const at = `${MOUNTS}${dir}/pagesize-2MB`;
        assert.match(list, new RegExp(`^${at} .*rw.*${options}`, 'm'));
        assert.ok((await client.out('stat', '-c', '%a %U %G', at)).startsWith(mode!), dir);
      }
    },
  },
  {
    program: 'hugeadm',
    command: '`hugeadm --page-sizes`, `--list-all-mounts`',
    checked: 'sizes that have a pool and a mount',
    async check(client) {
      await pool(client, 0);
      assert.equal((await client.run('hugeadm', '--page-sizes')).stdout, '');
      await client.run('hugeadm', '--pool-pages-max', 'DEFAULT:16');
      const sizesWithMount = (await client.run('hugeadm', '--page-sizes')).stdout;
      assert.equal(sizesWithMount, client.who === 'root' ? '2097152\n' : '');
    },
  },
];
