/**
 * `run` and `shell` themselves: a program in them is as it would be without, but for the machine
 * that it sees; the host stays as it was, whatever happens. And the reference state, whose numbers
 * programs must show: examples/reference.machine.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { chmodSync, cpSync, existsSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { mounts } from '../../mount/mountinfo.ts';
import { packageRoot } from '../../mount/native.ts';
import { exporting } from '../helpers/client_rows/monitoring.ts';
import { Client, cannotBe, EVERYBODY, missing, numbers, WRITES } from '../helpers/clients.ts';
import { hostState, hostUnchanged } from '../helpers/host_state.ts';
import { MAIN, notRoot, pageblock, tempDir } from '../helpers/mounts.ts';
import { run, sh } from '../helpers/processes.ts';

const options = { skip: missing(), timeout: 120_000 };
const asRoot = { skip: notRoot() || missing(), timeout: 120_000 };

hostUnchanged(before, after);

for (const who of EVERYBODY) {
  describe(`run as ${who}`, () => {
    const skip = missing() || cannotBe(who);
    const here = { skip, timeout: 120_000 };

    it('covers everything that it should', here, async (t) => {
      const client = await Client.mount(t, who, ['--nodes', '2', '--memory', '512M']);
      for (const path of [
        'proc/buddyinfo',
        'proc/zoneinfo',
        'proc/sys/vm/swappiness',
        'proc/swaps',
      ]) {
        assert.equal(await client.out('cat', `/${path}`), await client.read(path), path);
      }
      const listing = 'cd /sys/devices/system/node; echo node*; ls /proc/sys/vm /sys/kernel/debug';
      const seen = await client.sh(listing);
      assert.match(seen, /^node0 node1$/m);
      assert.match(seen, /^hugepages_treat_as_movable$/m);
      assert.match(seen, /^extfrag$/m);
      assert.doesNotMatch(seen, /user_reserve_kbytes|watermark_scale_factor/);
      // What the machine does not have is not the host's either.
      assert.equal(await client.sh('! [ -d /sys/kernel/tracing ] || ls /sys/kernel/tracing'), '');
      // What belongs to the process itself is the host's.
      assert.equal(await client.sh('[ /proc/self -ef /proc/$BASHPID ]; cat <(echo ok)'), 'ok\n');
      assert.match(await client.out('cat', '/proc/self/cmdline'), /^cat\0\/proc\/self\/cmdline\0$/);
      // No program is in between.
      assert.match(await client.out('grep', 'SigIgn', '/proc/self/status'), /^SigIgn:\t0+$/m);
    });

    it('hides what the machine does not have', here, async (t) => {
      const client = await Client.mount(t, who, ['--memory', '256M', '--no-numa']);
      const nodes = '[ ! -e /sys/devices/system/node ] && ls -d /sys/devices/system/cpu/cpu0';
      assert.equal(await client.sh(nodes), '/sys/devices/system/cpu/cpu0\n');
      assert.equal(await client.out('cat', '/proc/buddyinfo'), await client.read('proc/buddyinfo'));
    });

    it('keeps one namespace for all calls', here, async (t) => {
      const client = await Client.mount(t, who, ['--memory', '256M']);
      const [one, two] = await Promise.all(
        [1, 2].map(() => client.out('readlink', '/proc/self/ns/mnt')),
      );
      assert.equal(one, two);
      assert.notEqual(one, await sh('readlink /proc/self/ns/mnt'));
      await client.sh('mount -t tmpfs kept /mnt && echo 1 > /mnt/file');
      assert.equal(await client.out('cat', '/mnt/file'), '1\n');
      assert.ok(!mounts().some(({ source }) => source === 'kept'));
      // A new machine on the same place has a new one.
      await client.pageblock(['umount', client.mnt]);
      await client.pageblock(['mount', client.mnt, '--memory', '128M']);
      assert.equal((await client.run('cat', '/mnt/file')).status, 1);
      const info = await client.meminfo();
      assert.match(
        await client.out('cat', '/proc/meminfo'),
        new RegExp(`MemTotal: +${info['MemTotal']} `),
      );
    });

    it('writes a log', here, async (t) => {
      const client = await Client.mount(t, who, ['--memory', '256M']);
      await client.write('proc/sys/vm/swappiness', '11\n');
      const log = client.mnt.replace(/mnt$/, 'log');
      const script = 'echo 5 > /proc/sys/vm/nr_hugepages; echo x > /proc/sys/vm/swappiness; exit 3';
      const result = await client.pageblock([
        'run',
        client.mnt,
        '--log',
        log,
        '--',
        'sh',
        '-c',
        script,
      ]);
      assert.equal(result.status, 3);
      const lines = readFileSync(log, 'utf8').trim().split('\n');
      const records = lines.map((line) => JSON.parse(line) as Record<string, unknown>);
      assert.deepEqual(
        records.map(({ path, bytes, result, error }) => [path, bytes, result, error]),
        [
          ['/proc/sys/vm/nr_hugepages', '5\n', 2, undefined],
          ['/proc/sys/vm/swappiness', 'x\n', -22, 'EINVAL'],
        ],
      );
      const killed = await client.pageblock([
        ...['run', client.mnt, '--log', log, '--', 'sh', '-c', 'kill -TERM $$'],
      ]);
      assert.equal(killed.signal, 'SIGTERM');
      assert.equal(readFileSync(log, 'utf8'), '');
      const nowhere = await client.pageblock([
        'run',
        client.mnt,
        '--log',
        '/nowhere/l',
        '--',
        'true',
      ]);
      assert.match(nowhere.stderr, /^pageblock: cannot write \/nowhere\/l \(ENOENT\): [^\n]+\n$/);
    });
  });
}

it('passes streams, status, signals and directory on', options, async (t) => {
  const client = await Client.mount(t, EVERYBODY[0]!, ['--memory', '256M']);
  const inside = ['run', client.mnt, '--'];
  const cat = await client.pageblock([...inside, 'sh', '-c', 'cat; echo err >&2; exit 42'], {
    input: 'in\0\xff',
  });
  assert.deepEqual([cat.status, cat.stdout, cat.stderr], [42, 'in\0\xff', 'err\n']);
  const none = await client.run('no-such-program');
  assert.deepEqual(
    [none.status, none.stderr],
    [127, 'pageblock: no program no-such-program: install it, or give its path\n'],
  );
  const directory = await client.run('/tmp');
  assert.deepEqual([directory.status, directory.stderr.split('\n').length], [126, 2]);
  assert.equal((await client.pageblock(['run', client.mnt, '--log', '--', 'true'])).status, 2);
  assert.equal((await client.run('sh', '-c', 'kill -KILL $$')).signal, 'SIGKILL');
  const pwd = await client.pageblock([...inside, 'pwd'], { cwd: '/usr/lib' });
  assert.equal(pwd.stdout, '/usr/lib\n');
  const odd = await client.run('printf', '[%s]', '', 'a b', '$x', "'", '--', '-n');
  assert.equal(odd.stdout, "[][a b][$x]['][--][-n]");
  // A reader that goes away ends the program, not with an error message.
  assert.equal(await sh(`${process.execPath} ${MAIN} run ${client.mnt} -- yes | head -1`), 'y\n');

  for (const signal of ['SIGTERM', 'SIGINT', 'SIGUSR1'] as const) {
    const script = `trap 'echo got; exit 9' ${signal.slice(3)}; echo ready; while :; do sleep 0.05; done`;
    const child = spawn(process.execPath, [MAIN, ...inside, 'bash', '-c', script]);
    let text = '';
    child.stdout.on('data', (chunk: Buffer) => {
      text += chunk;
      if (String(chunk).includes('ready')) child.kill(signal);
    });
    const status = await new Promise((resolve) => child.on('close', resolve));
    assert.deepEqual([text, status], ['ready\ngot\n', 9], signal);
  }
});

it("shell: reads commands as the user's shell does", options, async (t) => {
  const client = await Client.mount(t, EVERYBODY[0]!, ['--memory', '256M']);
  const env = { ...process.env, SHELL: '/bin/sh' };
  const input = 'wc -l < /proc/buddyinfo; echo $PAGEBLOCK; exit 4\n';
  const result = await client.pageblock(['shell', client.mnt], { env, input });
  const lines = (await client.read('proc/buddyinfo')).trim().split('\n').length;
  assert.deepEqual([result.status, result.stdout], [4, `${lines}\n${client.mnt}\n`]);
});

it('says in one line what is in the way', options, async (t) => {
  const none = await pageblock(['run', '/tmp', '--', 'true']);
  assert.equal(none.status, 1);
  assert.match(none.stderr, /^pageblock: \/tmp is not mounted: pageblock mount \/tmp mounts it\n$/);
  assert.equal((await pageblock(['run', '/tmp'])).status, 2);
  const client = await Client.mount(t, EVERYBODY[0]!, ['--memory', '256M']);
  const env = { ...process.env, PATH: '/nowhere' };
  const run = await client.pageblock(['run', client.mnt, '--', '/bin/true'], { env });
  assert.equal(run.status, 0, 'programs are looked for where they always are');
});

it('refuses when a file is not covered', asRoot, async (t) => {
  const client = await Client.mount(t, 'root', ['--memory', '256M', '--nodes', '2']);
  for (const path of [
    '/proc/sys/vm',
    '/sys/kernel/mm',
    '/sys/devices/system/node',
    '/proc/meminfo',
  ]) {
    await client.out('umount', path);
    const result = await client.run('sh', '-c', 'echo started');
    assert.deepEqual([result.status, result.stdout], [1, ''], path);
    assert.equal(
      result.stderr,
      `pageblock: ${path} is not covered by ${client.mnt}: nothing was started\n`,
    );
    // A new namespace is whole again.
    await client.pageblock(['umount', client.mnt]);
    await client.pageblock(['mount', client.mnt, '--memory', '256M', '--nodes', '2']);
  }
});

it('changes nothing on the host, not even when the server is killed', asRoot, async (t) => {
  const state = await hostState();
  const client = await Client.mount(t, 'root', ['--memory', '512M', '--nodes', '2']);
  const script =
    'echo 20 > /proc/sys/vm/nr_hugepages; echo 1 > /proc/sys/vm/overcommit_memory; ' +
    'echo 99999999 > /proc/sys/kernel/shmmax; echo 12345 > /proc/sys/vm/min_free_kbytes; ' +
    'echo 3 > /sys/kernel/mm/hugepages/hugepages-2048kB/nr_overcommit_hugepages; ' +
    'mkdir -p /var/lib/hugetlbfs/x; mount -t tmpfs none /mnt; ';
  await client.sh(script);
  const { stdout } = await client.pageblock(['status', client.mnt]);
  const pid = Number(/^pid +(\d+)$/m.exec(stdout)![1]);
  // Killed in the middle: whatever is written from then on arrives nowhere.
  const ready = client.mnt.replace(/mnt$/, 'ready');
  const late =
    `: > ${ready}; sleep 2; ${script} cat /proc/meminfo; sysctl -w vm.swappiness=1; ` +
    'PATH=$PATH:/usr/sbin; hugeadm --pool-pages-min DEFAULT:9 --set-recommended-shmmax; ' +
    'hugeadm --create-global-mounts; sysctl -w vm.nr_hugepages=7';
  const running = client.run('bash', '-c', late);
  while (!existsSync(ready)) await sleep(20);
  process.kill(pid, 'SIGKILL');
  const result = await running;
  assert.notEqual(result.status, 0);
  assert.match(result.stderr, /Transport endpoint is not connected/);
  const again = await client.run('true');
  assert.equal(again.status, 1);
  assert.match(again.stderr, /was killed: pageblock umount/);
  await client.pageblock(['umount', client.mnt]);
  assert.equal(await hostState(), state);
  // The one who kept the namespace has seen it too.
  const holder = async () => run('pgrep', ['-f', `pageblock-run ${client.mnt}( |$)`]);
  for (let i = 0; i < 50 && (await holder()).status === 0; i++) await sleep(100);
  assert.equal((await holder()).status, 1);
});

for (const who of EVERYBODY) {
  it(`is the reference state, as ${who}`, {
    skip: missing('hugeadm', 'free', 'vmstat', 'numastat', 'numactl', 'sar') || cannotBe(who),
    timeout: 120_000,
  }, async (t) => {
    const config = join(packageRoot(), 'examples/reference.machine');
    // An ordinary user may not be let into the checkout.
    const copy = tempDir(t);
    for (const name of ['machine', 'zoneinfo', 'buddyinfo']) {
      cpSync(config.replace(/machine$/, name), join(copy, `reference.${name}`));
    }
    chmodSync(copy, 0o755);
    const client = await Client.mount(t, who, ['--config', join(copy, 'reference.machine')]);
    client.openShell(t);
    const row = async (line: number, ...command: string[]) =>
      numbers((await client.out(...command)).split('\n')[line]);
    const pools = await client.out('hugeadm', '--pool-list');
    assert.deepEqual(pools.split('\n').slice(1, 3).map(numbers), [
      [2097152, 40, 48, 56],
      [1073741824, 0, 0, 0],
    ]);
    assert.match(pools, /^ +2097152 .*\*$/m);
    const { stdout } = await client.run('hugeadm', '--explain');
    assert.match(stdout, /^Total System Memory: 4007 MB$/m);
    assert.match(
      stdout,
      /^in the system which minimally requires a min_free_kbytes value of 180224$/m,
    );
    assert.match(stdout, /kernel\.shmmax = 117440512$/m);

    await client.writes();
    await client.out('hugeadm', '--pool-pages-max', 'DEFAULT:8G');
    assert.deepEqual(await client.writes(), [
      ['/proc/sys/vm/nr_overcommit_hugepages', '4056'],
      ['/proc/sys/vm/nr_hugepages', '40'],
    ]);
    await client.write('proc/sys/vm/nr_overcommit_hugepages', '16\n');
    await client.writes();
    await client.run('hugeadm', '--pool-pages-min', 'DEFAULT:64M');
    assert.deepEqual((await client.writes()).slice(0, 2), [
      ['/proc/sys/vm/nr_overcommit_hugepages', '24'],
      ['/proc/sys/vm/nr_hugepages', '32'],
    ]);
    await client.out('hugeadm', '--set-recommended-min_free_kbytes');
    assert.deepEqual(await client.writes(), [['/proc/sys/vm/min_free_kbytes', '180224']]);

    const used = [4103360, 830304, 2349056, 12000, 1060000, 3273056];
    assert.deepEqual(await row(1, 'free', '-k'), used);
    assert.deepEqual(await row(2, 'free', '-k'), [2097152, 16384, 2080768]);
    assert.deepEqual((await row(2, 'vmstat')).slice(2, 6), [16384, 2349056, 20000, 1040000]);
    const numastat = await client.out('numastat', '-m');
    assert.match(numastat, /^MemTotal +2007\.19 +2000\.00 +4007\.19$/m);
    assert.match(numastat, /^HugePages_Total +56\.00 +40\.00 +96\.00$/m);
    const hardware = await client.out('numactl', '-H');
    assert.match(hardware, /^node 0 size: 2007 MB$/m);
    assert.match(hardware, /^node 1 size: 2000 MB$/m);
    const average = async (...args: string[]) =>
      numbers(/^Average: +(.*)$/m.exec(await client.out('sar', ...args, '1', '1'))![1]);
    assert.deepEqual(await average('-H'), [81920, 16384, 16.67, 10240, 16384]);
    const memory = await average('-r', 'ALL');
    assert.deepEqual([memory[2], memory[3], memory[6], memory[7]], [658304, 16.04, 300000, 4.84]);
    if (missing('prometheus-node-exporter') === false) {
      await exporting(client, async (text) => {
        assert.match(text, /^node_buddyinfo_blocks\{node="0",size="10",zone="DMA32"\} 300$/m);
        assert.match(text, /^node_memory_MemTotal_bytes 4\.20184064e\+09$/m);
      });
    }
  });
}

it('--fault and --config: what is wrong with them', options, async (t) => {
  const client = await Client.mount(t, EVERYBODY[0]!, [
    ...['--memory', '256M', '--fault', 'pool 7', '--fault', 'file /proc/vmstat delay=300'],
    ...['--fault', 'file /proc/swaps EIO', '--fault', 'file /proc/zoneinfo EACCES'],
    ...['--fault', 'file /proc/sys/vm/swappiness write EAGAIN count=1'],
    ...['--nodes', '2', '--fault', 'node 1 after=1'],
  ]);
  const denied = await client.run('cat', '/proc/zoneinfo');
  assert.equal(denied.stderr, 'cat: /proc/zoneinfo: Permission denied\n');
  const again = await client.run('sysctl', '-w', 'vm.swappiness=7');
  assert.match(again.stderr, /Resource temporarily unavailable/);
  assert.equal(await client.out('sysctl', '-w', 'vm.swappiness=7'), 'vm.swappiness = 7\n');
  // A node that goes away between two reads: the first of its files can still be read.
  const node = '/sys/devices/system/node/node1';
  const gone = await client.run(
    'sh',
    '-c',
    `cat ${node}/distance; sleep 1.1; cat ${node}/distance`,
  );
  assert.deepEqual([gone.status, gone.stdout], [1, '20 10\n']);
  assert.match(gone.stderr, /No such (device|file or directory)/);
  await client.sh('echo 50 > /proc/sys/vm/nr_hugepages');
  assert.equal(await client.out('cat', '/proc/sys/vm/nr_hugepages'), '7\n');
  const swaps = await client.run('cat', '/proc/swaps');
  assert.deepEqual([swaps.status, swaps.stderr], [1, 'cat: /proc/swaps: Input/output error\n']);
  const began = performance.now();
  assert.match(await client.read('proc/vmstat'), /^nr_free_pages/);
  assert.ok(performance.now() - began >= 300);
  assert.match(await client.read(WRITES), /"path":"\/proc\/sys\/vm\/nr_hugepages","bytes":"50\\n"/);

  const file = client.mnt.replace(/mnt$/, 'machine');
  const at = client.mnt.replace(/mnt$/, 'other');
  const refused = async (text: string, message: RegExp) => {
    await client.outside('sh', ['-c', 'printf %s "$1" > "$2"', 'sh', text, file]);
    const result = await client.pageblock(['mount', at, '--config', file]);
    assert.equal(result.status, 1, text);
    assert.match(result.stderr, message);
  };
  await refused('memory = lots\n', /^pageblock: .*machine:1: A size such as 512M or 2G is needed/);
  await refused('# x\nfoo = 1\n', /machine:2: mount has no option foo\n$/);
  await refused('nonsense\n', /machine:1: a line is /);
  await refused('memory < file\n', /machine:1: a line is /);
  await refused('/proc/meminfo < none\n', /machine:1: cannot read .*none \(ENOENT\): /);
  await refused('/proc/none < machine\n', /machine:1: \/proc\/none refused .*\(ENOENT\)/);
  await refused('/proc/sys/vm/swappiness = 900', /machine:1: .*refused '900' \(EINVAL\)/);
  await refused('/proc/none = 900', /machine:1: .*\(ENOENT\)/);
  const fault = await client.pageblock(['mount', at, '--fault', 'pool lots']);
  assert.match(fault.stderr, /^pageblock: no such fault: 'pool lots'; [^\n]+\n$/);
  const typo = await client.pageblock(['mount', at, '--fault', 'file /proc/meninfo EIO']);
  assert.match(typo.stderr, /^pageblock: --fault [^\n]+ has no file \/proc\/meninfo\n$/);
  rmSync(file);
});
