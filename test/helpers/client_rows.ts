/**
 * Programs and what is checked of each: the rows of the table in docs/clients.md, which
 * test/unit/clients_doc.test.ts writes, and of test/e2e/clients.test.ts, which runs every row on
 * every kernel, as root and as an ordinary user.
 *
 * The rows of a group run one after the other on one machine; each sets up what it needs.
 */
import { file_rows } from './client_rows/files.ts';
import { hugeadm_rows, mount_rows, thp_rows } from './client_rows/hugeadm.ts';
import { monitoring_rows } from './client_rows/monitoring.ts';
import { numa_rows } from './client_rows/numa.ts';
import { procps_rows } from './client_rows/procps.ts';
import { suite_rows, trace_rows } from './client_rows/suites.ts';
import type { ClientGroup } from './client_rows/types.ts';

const TWO_NODES = ['--memory', '1G', '--nodes', '2', '--swap', '128M'];

export const CLIENT_GROUPS: readonly ClientGroup[] = [
  { name: 'huge pages', machine: TWO_NODES, rows: [...hugeadm_rows, ...thp_rows, ...mount_rows] },
  { name: 'procps', machine: TWO_NODES, rows: procps_rows },
  {
    name: 'NUMA tools',
    machine: ['--memory', '1G', '--nodes', '4', '--cpus', '4'],
    rows: numa_rows,
  },
  { name: 'sysstat and metrics', machine: TWO_NODES, rows: monitoring_rows },
  {
    name: 'files and test suites',
    machine: TWO_NODES,
    rows: [...trace_rows, ...file_rows, ...suite_rows],
  },
];
