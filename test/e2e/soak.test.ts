/**
 * Soak: fio writes and verifies files of four times the emulated memory, while a process larger
 * than memory is swapped out and in, memory is compacted, and the huge page pool grows and shrinks.
 * Not one byte may be wrong, and the server's own memory stays under a stated bound.
 *
 * Here with 64 MiB of memory; `npm run soak` takes 512 MiB, PAGEBLOCK_SOAK=SIZE any other (MiB).
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { it } from 'node:test';
import { mountMachine, noFuse, serverPid } from '../helpers/mounts.ts';
import { run, sh } from '../helpers/processes.ts';
import { pagesMoved } from '../helpers/session.ts';

const MEMORY_MIB = Number(process.env['PAGEBLOCK_SOAK'] ?? 64);
const JOBS = 4;
/** MiB that the server may take beside the emulated memory: Node, its heap, the columns, buffers. */
const SERVER_MIB = 320;

const noFio = noFuse() || ((await run('which', ['fio'])).status !== 0 && 'fio is missing');
const timeout = 120_000 + MEMORY_MIB * 3000;

for (const kernel of ['2.6.35', '6.1']) {
  it(`fio verifies four times ${MEMORY_MIB} MiB, ${kernel}`, {
    skip: noFio,
    timeout,
  }, async (t) => {
    const swap = `${2 * MEMORY_MIB}M`;
    const mnt = await mountMachine(t, [
      ...['--kernel', kernel, '--memory', `${MEMORY_MIB}M`, '--swap', swap, '--cpus', '2'],
    ]);
    const pid = await serverPid(mnt);
    // Without lumpy reclaim 6.1 may find no huge page in memory as full as this, but it must try.
    const tried = `htlb_buddy_alloc_success${kernel === '6.1' ? '|htlb_buddy_alloc_fail' : ''}`;
    const out = await sh(
      `cd ${dirname(mnt)}
     spawn=mnt/sys/kernel/debug/pageblock/spawn
     echo 'anon ${MEMORY_MIB}M name=swapped' > $spawn; pid=$(head -1 $spawn)
     count() { grep -E "^($1) " mnt/proc/vmstat | (n=0; while read -r _ v; do n=$((n + v)); done; echo $n); }
     # A fast machine is through before enough has happened beside it: then once more.
     for round in 1 2 3 4 5 6 7 8 9 10; do
       fio --name=soak --directory=mnt/disk --ioengine=psync --rw=randwrite --bsrange=4k-128k \\
         --size=${MEMORY_MIB}m --numjobs=${JOBS} --verify=crc32c --verify_fatal=1 --do_verify=1 \\
         --group_reporting --output=fio.out & fio=$!
       while kill -0 $fio 2>/dev/null; do
         echo 1 > mnt/proc/sys/vm/compact_memory; compactions=$((compactions + 1))
         echo $((compactions % 4 * 3)) > mnt/proc/sys/vm/nr_hugepages
         echo "pid=$pid verify" > $spawn || echo "verify failed"
         echo "pid=$pid write" > $spawn || echo "write failed"
         sleep 0.05
       done
       wait $fio; status=$?
       [ $status -eq 0 ] || break
       [ $compactions -gt 3 ] && [ $(count 'compact_pages_moved|pgmigrate_success') -gt 1000 ] &&
         [ $(count '${tried}') -gt 2 ] && break
     done
     echo "pid=$pid verify" > $spawn || echo "verify failed"
     cat fio.out; echo "compactions $compactions"
     echo 0 > mnt/proc/sys/vm/nr_hugepages
     cat mnt/proc/vmstat; exit $status`,
      { timeout: timeout - 10_000 },
    );
    assert.match(out, /err= 0/);
    assert.doesNotMatch(out, /failed$/m);
    const count = (name: string): number =>
      Number(new RegExp(`^${name} (\\d+)$`, 'm').exec(out)?.[1]);
    assert.ok(count('compactions') > 3, out);
    assert.ok(pagesMoved(out) > 1000, out);
    assert.ok(count('pswpout') > 1000 && count('pswpin') > 1000, out);
    const tries = tried.split('|').reduce((sum, name) => sum + count(name), 0);
    assert.ok(tries > 2, out);
    const steals = [...out.matchAll(/^(pgsteal_\w+|\w*inodesteal) (\d+)$/gm)];
    // 6.1 counts each page by who took it and by what it held.
    const counted =
      kernel === '6.1' ? steals.filter(([, name]) => /_(anon|file)$/.test(name!)) : steals;
    const pages = counted.reduce((sum, [, , n]) => sum + Number(n), 0);
    assert.ok(pages * 4096 > 2 * MEMORY_MIB * 2 ** 20, out);
    const status = readFileSync(`/proc/${pid}/status`, 'utf8');
    const peak = Number(/^VmHWM:\s+(\d+) kB$/m.exec(status)?.[1]) / 1024;
    t.diagnostic(`server: ${peak.toFixed(0)} MiB at most`);
    assert.ok(peak < SERVER_MIB + MEMORY_MIB, `the server took ${peak.toFixed(0)} MiB`);
  });
}
