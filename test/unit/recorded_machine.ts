/**
 * A machine in the state that a recorded set of /proc texts describes: layout and counters are
 * read from the texts and set directly, so that what our files print can be compared with them.
 */
import { machine_shape } from '../../src/arch.ts';
import { trace_init } from '../../src/fs/tracefs/trace.ts';
import { linux_2_6_35 } from '../../src/kernels/linux-2.6.35/profile.ts';
import { trace_2_6_35 } from '../../src/kernels/linux-2.6.35/trace_events.ts';
import { init_lowmem_reserve_ratio } from '../../src/kernels/linux-2.6.35/watermark.ts';
import { list_add } from '../../src/lib/list.ts';
import { free_list_head } from '../../src/mm/buddy.ts';
import { assemble_machine } from '../../src/mm/mm_init.ts';
import type { Machine, Zone } from '../../src/mm/mmzone.ts';
import { read_text } from '../golden/recordings.ts';

export const X86_64 = 'linux-2.6.35/files/x86_64-512M-numafake4';
export const X86 = 'linux-2.6.35/files/i386pae-2048M';

interface ZoneText {
  nid: number;
  name: string;
  /** The number behind a word, `spanned` for instance. */
  value(word: string): number;
  stats: number[];
  protection: number[];
}

function zones_of(zoneinfo: string): ZoneText[] {
  return zoneinfo
    .split(/^(?=Node )/m)
    .filter((text) => text !== '')
    .map((text) => {
      const head = /^Node (\d+), zone +(\S+)\n/.exec(text)!;
      const value = (word: string): number =>
        Number(new RegExp(`^ +(?:pages )?${word}:? +(-?\\d+)$`, 'm').exec(text)![1]);
      const stats = [...text.matchAll(/^ {4}n[ru]\w+ +(\d+)$/gm)].map((match) => Number(match[1]));
      const protection = /protection: \(([^)]*)\)/.exec(text)![1]!.split(', ').map(Number);
      return { nid: Number(head[1]), name: head[2]!, value, stats, protection };
    });
}

/** The zone that a row of a text is about. */
export function zone_of(m: Machine, nid: number, name: string): Zone {
  return m.populated_zones.find((zone) => zone.nid === nid && zone.name === name)!;
}

/** The machine of `files` in its state `state` ('boot', 'after' ...). */
export function recorded_machine(files: string, state: string): Machine {
  const x86 = files === X86;
  const shape = machine_shape(x86 ? 'x86' : 'x86_64', {
    memory: 0,
    cpus: 1,
    numa: !x86,
    compaction: true,
    page_shift: 12,
  });
  const texts = zones_of(read_text(`${files}/${state}/proc_zoneinfo`));
  const m = assemble_machine({
    shape,
    kernel: linux_2_6_35,
    zones: texts.map((text) => ({
      nid: text.nid,
      zone_idx: shape.zone_names.indexOf(text.name),
      start_pfn: text.value('start_pfn'),
      spanned_pages: text.value('spanned'),
      present_pages: text.value('present'),
    })),
  });
  for (const text of texts) set_zone(zone_of(m, text.nid, text.name), text);
  set_free_lists(m, read_text(`${files}/${state}/proc_buddyinfo`));
  set_types(m, read_text(`${files}/${state}/proc_pagetypeinfo`));
  init_lowmem_reserve_ratio(m);
  m.kernel.setup_per_zone_lowmem_reserve(m);
  trace_init(m, trace_2_6_35);
  return m;
}

function set_zone(zone: Zone, text: ZoneText): void {
  ['min', 'low', 'high'].forEach((word, i) => {
    zone.watermark[i] = text.value(word);
  });
  text.stats.forEach((value, i) => {
    zone.vm_stat[i] = value;
  });
  zone.pages_scanned = text.value('scanned');
  zone.pageset[0]!.count = text.value('count');
  zone.prev_priority = text.value('prev_priority');
  zone.inactive_ratio = text.value('inactive_ratio');
}

function set_free_lists(m: Machine, buddyinfo: string): void {
  for (const [, nid, name, counts] of buddyinfo.matchAll(/^Node (\d+), zone +(\S+) (.*)$/gm)) {
    const zone = zone_of(m, Number(nid), name!);
    zone.nr_free.set(counts!.trim().split(/ +/).map(Number));
  }
}

/** Fills the free lists and the block types; which frames stand for the blocks does not matter. */
function set_types(m: Machine, pagetypeinfo: string): void {
  const types = ['Unmovable', 'Reclaimable', 'Movable', 'Reserve', 'Isolate'];
  const next_pfn = new Map<Zone, number>();
  const rows = /^Node +(\d+), zone +(\S+), type +(\S+) (.*)$/gm;
  for (const [, nid, name, type, counts] of pagetypeinfo.matchAll(rows)) {
    const zone = zone_of(m, Number(nid), name!);
    counts!
      .trim()
      .split(/ +/)
      .forEach((count, order) => {
        for (let i = 0; i < Number(count); i++) {
          const pfn = next_pfn.get(zone) ?? zone.zone_start_pfn;
          next_pfn.set(zone, pfn + 1);
          list_add(m.memmap, pfn, free_list_head(zone, order, types.indexOf(type!)));
        }
      });
  }
  for (const [, nid, name, counts] of pagetypeinfo.matchAll(/^Node (\d+), zone +(\S+) (.*)$/gm)) {
    if (counts!.includes('type')) continue;
    const zone = zone_of(m, Number(nid), name!);
    let block = 0;
    counts!
      .trim()
      .split(/ +/)
      .forEach((count, type) => {
        for (let i = 0; i < Number(count); i++) zone.pageblock_flags[block++] = type;
      });
  }
}
