/**
 * What test suites and the kernel's tools do to these files. LTP, mmtests, the kernel's selftests,
 * page-types and the trace scripts are no Debian packages: these rows do the same calls, or hold the
 * text against the same input rules, and say so in the table.
 */
import assert from 'node:assert/strict';
import { type Client, numbers } from '../clients.ts';
import type { ClientRow } from './types.ts';

const TRACING = 'sys/kernel/debug/tracing';

/** Every file once in each of three parallel rounds; prints what was refused. */
const READ_ALL = `
import errno, os, sys, threading
top = sys.argv[1]
files = [os.path.join(d, f) for d, _, fs in os.walk(top) for f in fs if f != 'trace_pipe']
refused, done = set(), []
def read_all():
    for path in files:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
            try:
                # pagemap goes on for gigabytes
                for _ in range(8):
                    if not os.read(fd, 4096): break
            finally: os.close(fd)
            done.append(path)
        except OSError as e:
            refused.add(errno.errorcode[e.errno] + ' ' + path[len(top):])
threads = [threading.Thread(target=read_all) for _ in range(3)]
for t in threads: t.start()
for t in threads: t.join()
print(len(files), len(done))
for what in sorted(refused): print(what)
`;

/** One open file that is read and written in turn, as compaction_test has it. */
const ONE_DESCRIPTOR = `
import os, sys
fd = os.open('/proc/sys/vm/nr_hugepages', os.O_RDWR | os.O_NONBLOCK)
def read():
    os.lseek(fd, 0, os.SEEK_SET)
    return os.read(fd, 20).decode()
def write(text):
    os.lseek(fd, 0, os.SEEK_SET)
    assert os.write(fd, text.encode()) == len(text)
before = read()
write('0')
assert read() == '0\\n'
write(sys.argv[1])
got = read()
write(before)
assert read() == before
print(got, end='')
`;

/** Frames with each flag: 64 bits a frame, read in blocks of 512 kB until nothing comes. */
const PAGE_TYPES = `
import os, struct, sys
def words(name):
    fd, at, values = os.open('/proc/' + name, os.O_RDONLY), 0, []
    while True:
        block = os.pread(fd, 65536 * 8, at)
        if not block: return values
        assert len(block) % 8 == 0
        values += struct.unpack('<%dQ' % (len(block) // 8), block)
        at += len(block)
flags, counts = words('kpageflags'), words('kpagecount')
print(len(flags), len(counts))
# Only the head of a transparent huge page tells that it is on an LRU list.
nr = lambda word, bit: 512 if bit == 5 and word >> 15 & word >> 22 & 1 else 1
for bit in [5, 7, 10, 12, 17]: print(sum(nr(word, bit) for word in flags if word >> bit & 1))
`;

const python = (client: Client, script: string, ...args: string[]) =>
  client.out('python3', '-c', script, ...args);

/**
 * The input rules of the kernel tree's two trace scripts: what a line must look like, with a column
 * of flags only for the second one. Others are passed over in silence.
 */
const PAGEALLOC_LINE = /^\s*([a-zA-Z0-9-]*)\s*(\[\d+\])\s*([\d.]+):\s*(\w+):\s*(.*)$/;
const VMSCAN_LINE =
  /^\s*([a-zA-Z0-9-]*)\s*(\[\d+\])(?:\s*[^\s\d][^\s]{2,})?\s*([\d.]+):\s*(\w+):\s*(.*)$/;

/** How the details of an event are read, made of the text in its format file. */
function detailPattern(format: string): RegExp {
  const text = /^print fmt:\s*"(.*?)"/m.exec(format)![1]!;
  const numbered = text.replace(/0x%lx/g, '0x[0-9a-f]+').replace(/%p/g, '[0-9a-f]+');
  return new RegExp(
    `^${numbered.replace(/%l?u/g, '\\d+').replace(/%l?d/g, '-?\\d+').replace(/%s/g, '\\S+')}$`,
  );
}

interface TraceEvent {
  readonly process: string;
  readonly time: number;
  readonly name: string;
  readonly details: string;
}

/** Every line of a trace, each of which must be taken by a script. */
function traceEvents(text: string, line: RegExp): TraceEvent[] {
  const events: TraceEvent[] = [];
  for (const each of text.trimEnd().split('\n')) {
    if (/LOST|^#/.test(each)) continue;
    const match = line.exec(each);
    assert.ok(match !== null, each);
    events.push({
      process: match[1]!,
      time: Number(match[3]),
      name: match[4]!,
      details: match[5]!,
    });
  }
  return events;
}

/** What a reader of trace_pipe gets while a script runs, with some events on. */
async function piped(client: Client, events: string, script: string): Promise<string> {
  const at = client.mnt.replace(/mnt$/, 'trace');
  return client.sh(`cd /sys/kernel/debug/tracing; echo 32768 > buffer_size_kb
    for e in ${events}; do [ ! -d $e ] || echo 1 > $e/enable; done
    timeout -s INT 60 cat trace_pipe > ${at} & pipe=$!
    ${script}
    sleep 0.5; for e in ${events}; do [ ! -d $e ] || echo 0 > $e/enable; done
    sleep 0.3; kill -INT $pipe; wait; cat ${at}; rm ${at}`);
}

/** The option with which lines have the column of flags, and without. */
const FLAGS = {
  '2.6.35': ['latency-format', 'nolatency-format'],
  '6.1': ['irq-info', 'noirq-info'],
} as const;

/** On a fresh machine: where pools have come and gone, no type of memory runs short. */
export const trace_rows: readonly ClientRow[] = [
  {
    program: 'bash',
    command: 'the input rules of the page allocator trace script, on `trace_pipe`',
    checked:
      'every line has their shape, fallbacks fit the format file; `nolatency-format` turns the column of flags off',
    on: { '6.1': 'checked; there the option is `noirq-info`' },
    async check(client) {
      const [on, off] = FLAGS[client.kernel];
      await client.write(`${TRACING}/trace_options`, `${off}\n`);
      const text = await piped(
        client,
        'events/kmem/mm_page*',
        `echo 'kernel 6000' > /sys/kernel/debug/pageblock/spawn
         for i in $(seq 20); do head -c 262144 /dev/zero > ${client.mnt}/disk/trace$i; done
         rm ${client.mnt}/disk/trace*`,
      );
      const format = `${TRACING}/events/kmem/mm_page_alloc_extfrag/format`;
      const pattern = detailPattern(await client.read(format));
      const counts = new Map<string, number>();
      for (const { process, name, details } of traceEvents(text, PAGEALLOC_LINE)) {
        assert.match(process, /-\d+$/);
        counts.set(name, (counts.get(name) ?? 0) + 1);
        if (name === 'mm_page_alloc_extfrag') assert.match(details, pattern);
      }
      const freed = client.kernel === '6.1' ? 'mm_page_free' : 'mm_page_free_direct';
      for (const name of ['mm_page_alloc', 'mm_page_alloc_extfrag', freed]) {
        assert.ok(counts.get(name)! > 0, `${name}: ${JSON.stringify([...counts])}`);
      }
      // Lines that the script would pass over in silence, and the way back.
      await client.sh(`cd /sys/kernel/debug/tracing; echo > trace
        echo ${on} > trace_options; echo 1 > events/kmem/mm_page_alloc/enable
        head -c 65536 /dev/zero > ${client.mnt}/disk/trace; rm ${client.mnt}/disk/trace
        echo 0 > events/kmem/mm_page_alloc/enable`);
      const lines = async () => {
        const trace = await client.read(`${TRACING}/trace`);
        return trace.split('\n').filter((line) => /mm_page_alloc: /.test(line));
      };
      const flagged = await lines();
      assert.ok(flagged.length > 0 && flagged.every((line) => !PAGEALLOC_LINE.test(line)));
      await client.write(`${TRACING}/trace_options`, `${off}\n`);
      const plain = await lines();
      assert.ok(plain.length >= flagged.length && plain.every((line) => PAGEALLOC_LINE.test(line)));
    },
  },
  {
    program: 'bash',
    command: 'the input rules of the reclaim trace script, on `trace_pipe`',
    checked:
      'every line has their shape and fits its format file, with flags and without; reclaim that begins ends',
    on: { '2.6.35': 'absent: its events came later' },
    async check(client) {
      if (client.kernel === '2.6.35') {
        assert.equal(await client.has(`${TRACING}/events/vmscan`), false);
        return;
      }
      const size = Math.floor((await client.meminfo())['MemFree']! / 1024) - 24;
      for (const option of FLAGS[client.kernel]) {
        await client.write(`${TRACING}/trace_options`, `${option}\n`);
        const text = await piped(
          client,
          'events/vmscan/mm_*',
          `echo 'anon ${size}M' > /sys/kernel/debug/pageblock/spawn
           head -c 50331648 /dev/zero > ${client.mnt}/disk/trace; rm ${client.mnt}/disk/trace
           cat /sys/kernel/debug/pageblock/spawn > /sys/kernel/debug/pageblock/kill`,
        );
        const patterns = new Map<string, RegExp>();
        const open = new Map<string, number>();
        const counts = new Map<string, number>();
        for (const { process, time, name, details } of traceEvents(text, VMSCAN_LINE)) {
          if (!patterns.has(name)) {
            const format = await client.read(`${TRACING}/events/vmscan/${name}/format`);
            patterns.set(name, detailPattern(format));
          }
          assert.match(details, patterns.get(name)!, name);
          counts.set(name, (counts.get(name) ?? 0) + 1);
          if (name === 'mm_vmscan_direct_reclaim_begin') open.set(process, time);
          if (name === 'mm_vmscan_direct_reclaim_end') {
            assert.ok(time >= open.get(process)!);
            open.delete(process);
          }
        }
        assert.equal(open.size, 0);
        for (const name of ['kswapd_wake', 'kswapd_sleep', 'wakeup_kswapd', 'lru_isolate']) {
          assert.ok(counts.get(`mm_vmscan_${name}`)! > 0, JSON.stringify([...counts]));
        }
      }
    },
  },
];

export const suite_rows: readonly ClientRow[] = [
  {
    program: 'python3',
    command: "the reads of LTP's read_all and proc01",
    checked: 'three parallel readers of every file: only what is for writing is refused',
    async check(client) {
      for (const dir of ['proc', 'sys']) {
        const top = `${client.mnt}/${dir}`;
        const [counts, ...refused] = (await python(client, READ_ALL, top)).trim().split('\n');
        const [files = 0, read = 0] = numbers(counts);
        assert.ok(files > 40, counts);
        assert.equal(read, 3 * (files - refused.length), refused.join('\n'));
        for (const line of refused) {
          assert.match(
            line,
            /^(EACCES .*\/(compact|compact_memory|drop_caches)|EINVAL \/kernel\/(debug|tracing)\/.*(kill|trace_marker))$/,
          );
        }
        assert.ok(refused.length > 0);
      }
    },
  },
  {
    program: 'python3',
    command: 'the calls of the selftest compaction_test',
    checked: 'one O_RDWR descriptor of `nr_hugepages`: read, 0, many, read, back',
    async check(client) {
      const half = Math.floor((await client.meminfo())['MemFree']! / 2048 / 2);
      const got = Number(await python(client, ONE_DESCRIPTOR, String(half)));
      // It asks for a quarter of four fifths of what was free.
      assert.ok(got >= half * 2 * 0.8 * 0.25, `${got} of ${half}`);
    },
  },
  {
    program: 'bash',
    command: 'the prelude of the selftest runner',
    checked: 'caches dropped, pool and shmmax set from the shell and put back',
    async check(client) {
      const out = await client.sh(`vm=/proc/sys/vm; k=/proc/sys/kernel
        shmmax=$(cat $k/shmmax) shmall=$(cat $k/shmall) nr=$(cat $vm/nr_hugepages)
        size=$(awk '/^Hugepagesize:/ {print $2}' /proc/meminfo)
        free=$(awk '/^HugePages_Free:/ {print $2}' /proc/meminfo)
        echo 3 > $vm/drop_caches; echo $((8 + nr - free)) > $vm/nr_hugepages
        echo 268435456 > $k/shmmax; echo 4194304 > $k/shmall
        echo $size; awk '/^HugePages_Free:/ {print $2}' /proc/meminfo; cat $k/shmmax $k/shmall
        echo $nr > $vm/nr_hugepages; echo $shmmax > $k/shmmax; echo $shmall > $k/shmall
        [ "$(cat $k/shmmax) $(cat $k/shmall) $(cat $vm/nr_hugepages)" = "$shmmax $shmall $nr" ]`);
      assert.equal(out, '2048\n8\n268435456\n4194304\n');
    },
  },
  {
    program: 'bash',
    command: "mmtests' eight monitors, as loops of date and cat",
    checked:
      'every sample is whole: buddyinfo, pagetypeinfo, zoneinfo, vmstat, meminfo, slabinfo, nodes',
    async check(client) {
      const out = await client.sh(`dir=$(mktemp -d); cd $dir
        nodes=$(awk '/^Node/ {print $2 + 0}' /proc/zoneinfo | sort -u)
        watch() { for i in 1 2 3; do echo "time: $(date +%s)"; cat $2; sleep 0.3; done > $1; }
        for f in buddyinfo pagetypeinfo zoneinfo vmstat meminfo slabinfo; do watch $f /proc/$f & done
        for f in meminfo numastat; do
          watch node-$f "$(for n in $nodes; do echo /sys/devices/system/node/node$n/$f; done)" &
        done
        echo 30 > /proc/sys/vm/nr_hugepages; wait; echo 0 > /proc/sys/vm/nr_hugepages
        for f in *; do
          awk -v name=$f '/^time:/ { n++; next } { lines[n]++ }
            END { print name, n, lines[1], lines[2], lines[3] }' $f
        done; cd /; rm -r $dir`);
      const rows = out.trim().split('\n');
      assert.equal(rows.length, 8, out);
      for (const row of rows) {
        const [name, samples, ...lines] = row.split(' ');
        assert.equal(samples, '3', row);
        assert.ok(Number(lines[0]) > 1, row);
        assert.equal(new Set(lines).size, 1, `${name}: ${lines}`);
      }
    },
  },
  {
    program: 'bash',
    command: "mmtests' reservation of huge pages",
    checked: 'rounds of `nr_hugepages` and `drop_caches` 0, 1, 2 until all are there',
    on: { '6.1': 'checked: 0 is refused, which harms nothing' },
    async check(client) {
      const out = await client.sh(`for round in $(seq 40); do
          echo 200 > /proc/sys/vm/nr_hugepages
          for what in 0 1 2; do echo $what > /proc/sys/vm/drop_caches || echo "refused $what"; done 2>/dev/null
          got=$(cat /proc/sys/vm/nr_hugepages); [ $got -lt 200 ] || break
        done; echo $got; echo 0 > /proc/sys/vm/nr_hugepages`);
      assert.match(out, client.kernel === '6.1' ? /^(refused 0\n)+200\n$/ : /^200\n$/);
    },
  },
  {
    program: 'python3',
    command: 'the reads of page-types',
    checked:
      'a word for every frame; LRU, slab, free, anonymous and huge frames against the counters',
    async check(client) {
      await client.write('sys/kernel/debug/pageblock/spawn', 'anon 30M\n');
      await client.write('proc/sys/vm/nr_hugepages', '7\n');
      const [lengths, lru, slab, free, anon, huge] = (await python(client, PAGE_TYPES))
        .trim()
        .split('\n');
      const info = await client.meminfo();
      const ends = (await client.read('proc/zoneinfo')).split(/^Node /m).map((zone) => {
        const number = (pattern: RegExp) => Number(pattern.exec(zone)?.[1] ?? 0);
        return number(/spanned +(\d+)/) + number(/start_pfn: +(\d+)/);
      });
      const last = Math.max(...ends);
      assert.deepEqual(numbers(lengths), [last, last]);
      // What only the swap cache still has is anonymous too.
      const inSwapCache = Number(anon) - info['AnonPages']! / 4;
      assert.ok(inSwapCache >= 0 && inSwapCache <= info['SwapCached']! / 4, anon);
      assert.ok(Number(anon) >= 30 * 256);
      assert.equal(Number(huge), 7 * 512);
      assert.ok(Math.abs(Number(lru) - (info['Active']! + info['Inactive']!) / 4) < 100, lru);
      assert.ok(Number(slab) > 0 && Number(slab) <= info['Slab']! / 4, slab);
      // 2.6.35 marks the first frame of a free block, 6.1 all of them.
      let blocks = 0;
      for (const line of (await client.read('proc/buddyinfo')).trim().split('\n')) {
        numbers(line.replace(/^Node \d+, zone +\S+/, '')).forEach((count, order) => {
          blocks += client.kernel === '6.1' ? count * 2 ** order : count;
        });
      }
      assert.equal(Number(free), blocks);
      await client.write('proc/sys/vm/nr_hugepages', '0\n');
    },
  },
];
