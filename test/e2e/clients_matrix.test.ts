/**
 * Every program of docs/clients.md on every kernel.
 */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { CLIENT_ROWS, KERNELS } from '../helpers/client_matrix.ts';
import { Client, EVERYBODY, missing } from '../helpers/clients.ts';

for (const kernel of KERNELS) {
  describe(`programs on ${kernel}`, () => {
    for (const row of CLIENT_ROWS) {
      const name = `${row.command.join(' ').slice(0, 60)}: ${row.checked}`;
      it(name, { skip: missing(row.program), timeout: 60_000 }, async (t) => {
        const machine = ['--kernel', kernel, '--memory', '512M', '--nodes', '2'];
        const client = await Client.mount(t, EVERYBODY[0]!, machine);
        await client.write('proc/sys/vm/nr_hugepages', '5\n');
        const disk = join(client.mnt, 'disk');
        const command = ['env', `PAGEBLOCK_DISK=${disk}`, ...row.command];
        const result = await client.run(...command);
        assert.equal(result.status, 0, result.stderr);
        await row.check(client, result.stdout);
      });
    }
  });
}
