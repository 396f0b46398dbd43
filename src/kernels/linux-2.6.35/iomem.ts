/**
 * /proc/iomem, /proc/cmdline and /proc/filesystems: what the machine looked like to the kernel that
 * booted it.
 *
 * RAM is that of the machine; the firmware's areas, the kernel image and the PCI devices are those of
 * the recorded machines (QEMU "pc"). A reader who asks where RAM lies gets the frames that the zones
 * are made of. Linux: kernel/resource.c (r_show), arch/x86/kernel/setup.c, fs/proc/cmdline.c,
 * fs/filesystems.c. Differs: ppc64 has no such list of resources, so that the file is absent there;
 * no device can be used.
 */
import type { FileRow } from '../../lib/file_row.ts';
import type { SeqFile } from '../../lib/seq_file.ts';
import type { Machine } from '../../mm/mmzone.ts';

/** First and last address, depth below the root, name. */
type Resource = readonly [start: number, end: number, depth: number, name: string];

const GIB = 2 ** 30;
const LOW_MEMORY: Readonly<Record<string, readonly Resource[]>> = {
  x86_64: [
    [0xa0000, 0xbffff, 0, 'PCI Bus 0000:00'],
    [0xf0000, 0xfffff, 0, 'reserved'],
  ],
  x86: [
    [0xa0000, 0xbffff, 0, 'PCI Bus 0000:00'],
    [0xa0000, 0xbffff, 1, 'Video RAM area'],
    [0xc0000, 0xc9bff, 0, 'Video ROM'],
    [0xca000, 0xca5ff, 0, 'Adapter ROM'],
    [0xf0000, 0xfffff, 0, 'reserved'],
    [0xf0000, 0xfffff, 1, 'System ROM'],
  ],
};
const KERNEL_IMAGE: Readonly<Record<string, readonly Resource[]>> = {
  x86_64: [
    [0x1000000, 0x1221bf6, 1, 'Kernel code'],
    [0x1221bf7, 0x130dbd7, 1, 'Kernel data'],
    [0x1372000, 0x13d4487, 1, 'Kernel bss'],
  ],
  x86: [
    [0x1000000, 0x124cf0a, 1, 'Kernel code'],
    [0x124cf0b, 0x132cd13, 1, 'Kernel data'],
    [0x137e000, 0x13df71b, 1, 'Kernel bss'],
  ],
};
const DEVICES: readonly Resource[] = [
  [0xfd000000, 0xfdffffff, 1, '0000:00:02.0'],
  [0xfe000000, 0xfe003fff, 1, '0000:00:03.0'],
  [0xfe000000, 0xfe003fff, 2, 'virtio-pci'],
  [0xfebe0000, 0xfebeffff, 1, '0000:00:02.0'],
  [0xfebf0000, 0xfebf0fff, 1, '0000:00:02.0'],
  [0xfebf1000, 0xfebf1fff, 1, '0000:00:03.0'],
  [0xfebf1000, 0xfebf1fff, 2, 'virtio-pci'],
];

/** The resources of a machine of this architecture, in the order of their addresses. */
function iomem_resources(m: Machine): Resource[] {
  const { machine, page_shift } = m.shape;
  const zones = m.populated_zones;
  const end_pfn = zones.reduce((end, z) => Math.max(end, z.zone_start_pfn + z.spanned_pages), 0);
  // The last frames below 3 GiB are the firmware's; RAM that found no place there follows at 4 GiB.
  const end = end_pfn * 2 ** page_shift;
  const low_end = end > 4 * GIB ? 3 * GIB - 0x23000 : end;
  const high_end = Math.max(end, 4 * GIB);
  const list: Resource[] = [
    [0, 0xfff, 0, 'reserved'],
    [0x1000, 0x9fbff, 0, 'System RAM'],
    [0x9fc00, 0x9ffff, 0, 'reserved'],
    ...LOW_MEMORY[machine]!,
    [0x100000, low_end - 1, 0, 'System RAM'],
    ...KERNEL_IMAGE[machine]!,
    [low_end, low_end + 0x23000 - 1, 0, 'reserved'],
    [low_end + 0x23000, 0xfebfffff, 0, 'PCI Bus 0000:00'],
    ...DEVICES,
    [0xfec00000, 0xfec003ff, 0, 'IOAPIC 0'],
  ];
  if (machine === 'x86_64') list.push([0xfed00000, 0xfed003ff, 0, 'HPET 0']);
  list.push([0xfee00000, 0xfee00fff, 0, 'Local APIC'], [0xfffc0000, 0xffffffff, 0, 'reserved']);
  if (high_end > 4 * GIB) list.push([4 * GIB, high_end - 1, 0, 'System RAM']);
  list.push([high_end, high_end + 2 * GIB - 1, 0, 'PCI Bus 0000:00']);
  // Below 1 TiB an interrupt controller's addresses, unless RAM reaches that far.
  const top = 0xfd00000000;
  if (high_end + 2 * GIB <= top) list.push([top, 0xffffffffff, 0, 'reserved']);
  return list;
}

const hex = (address: number): string => address.toString(16).padStart(8, '0');

/** kernel/resource.c: r_show. */
function iomem_show(seq: SeqFile, m: Machine): void {
  for (const [start, end, depth, name] of iomem_resources(m)) {
    seq.puts(`${'  '.repeat(depth)}${hex(start)}-${hex(end)} : ${name}\n`);
  }
}

/** The file systems of the recorded kernel, in the order in which they registered themselves. */
const FILESYSTEMS: readonly (readonly [name: string, needs_device: boolean])[] = [
  ['sysfs', false],
  ['rootfs', false],
  ['bdev', false],
  ['proc', false],
  ['tmpfs', false],
  ['devtmpfs', false],
  ['debugfs', false],
  ['sockfs', false],
  ['pipefs', false],
  ['anon_inodefs', false],
  ['devpts', false],
  ['ext3', true],
  ['ext2', true],
  ['ramfs', false],
  ['hugetlbfs', false],
];

export const iomem_files: readonly FileRow<Machine>[] = [
  {
    path: '/proc/cmdline',
    mode: 0o444,
    show(seq, m) {
      seq.puts('console=ttyS0 panic=-1');
      if (m.nodes.length > 1) seq.puts(' numa=fake=').put_dec(m.nodes.length);
      seq.puts('\n');
    },
    doc: 'the command line that the kernel was booted with',
  },
  {
    path: '/proc/filesystems',
    mode: 0o444,
    show(seq) {
      for (const [name, needs_device] of FILESYSTEMS) {
        seq
          .puts(needs_device ? '\t' : 'nodev\t')
          .puts(name)
          .puts('\n');
      }
    },
    doc: 'the file systems that the kernel knows',
  },
  {
    path: '/proc/iomem',
    mode: 0o444,
    show: iomem_show,
    when: (m) => m.shape.machine !== 'ppc64',
    doc: 'where RAM, the kernel and devices lie in physical memory',
  },
];
