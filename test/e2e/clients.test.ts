/**
 * Unmodified programs on a mounted machine: every row of docs/clients.md, on every kernel, as root
 * and as an ordinary user. What they print is what the mount says, what they write arrives, and the
 * host is afterwards what it was before.
 */
import { after, before, describe, it } from 'node:test';
import { CLIENT_GROUPS } from '../helpers/client_rows.ts';
import { Client, cannotBe, EVERYBODY, KERNELS, missing } from '../helpers/clients.ts';
import { hostUnchanged } from '../helpers/host_state.ts';

hostUnchanged(before, after);

for (const kernel of KERNELS) {
  for (const who of EVERYBODY) {
    const skip = missing() || cannotBe(who);
    // Most of the time programs wait for the next second: two machines at a time.
    describe(`programs on ${kernel} as ${who}`, { concurrency: 2 }, () => {
      for (const { name, machine, rows } of CLIENT_GROUPS) {
        it(name, { skip, timeout: 300_000 }, async (t) => {
          const client = await Client.mount(t, who, ['--kernel', kernel, ...machine]);
          client.openShell(t);
          for (const row of rows) {
            const title = `${row.command}: ${row.checked}`.replaceAll('`', '');
            await t.test(title, { skip: missing(row.program) }, () => row.check(client));
          }
        });
      }
    });
  }
}
