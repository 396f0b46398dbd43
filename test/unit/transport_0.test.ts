/** Transport 0 against the conformance suite: no kernel, no /dev/fuse. */
import { JobRunner } from '../../mount/jobs.ts';
import { Operations } from '../../mount/ops.ts';
import { InProcessTransport } from '../../mount/transport_0.ts';
import { conformance } from '../e2e/transport.conformance.ts';
import { inProcessClient } from '../helpers/client.ts';
import { fakeRoot } from '../helpers/fakeTree.ts';

conformance('in-process', async () => {
  const transport = new InProcessTransport(new Operations(fakeRoot(), new JobRunner()));
  await transport.mount();
  return { client: inProcessClient(transport), end: () => transport.unmount() };
});
