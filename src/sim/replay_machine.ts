/** The kernel and the machine shape that recordings of 2.6.35 are replayed with. */
import { machine_shape } from '../arch.ts';
import { linux_2_6_35 } from '../kernels/linux-2.6.35/profile.ts';
import type { KernelProfile, Shape } from '../mm/mmzone.ts';

export const REPLAY_KERNEL: KernelProfile = linux_2_6_35;

/** x86-64 with 4 KiB pages; records say how many CPUs and how large a pageblock. */
export const REPLAY_SHAPE: Shape = machine_shape('x86_64', {
  memory: 2 ** 30,
  cpus: 1,
  numa: true,
  compaction: true,
  page_shift: 12,
});
