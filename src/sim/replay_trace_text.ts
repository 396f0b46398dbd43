/**
 * The text of 2.6.35's page-allocator tracepoints, from the numbers in them: what a recorded line
 * must look like. Only for checking recordings; a mounted machine's trace is printed by its kernel.
 * Linux: include/trace/events/kmem.h, kernel/trace/trace_output.c (ftrace_print_flags_seq).
 */

/** Bits to names, in the order in which the kernel's greedy match tries them. */
const GFP_NAMES: readonly [number, string][] = [
  [0x200da, 'GFP_HIGHUSER_MOVABLE'],
  [0x200d2, 'GFP_HIGHUSER'],
  [0x200d0, 'GFP_USER'],
  [0x800d0, 'GFP_TEMPORARY'],
  [0xd0, 'GFP_KERNEL'],
  [0x50, 'GFP_NOFS'],
  [0x20, 'GFP_ATOMIC'],
  [0x10, 'GFP_NOIO'],
  [0x20, 'GFP_HIGH'],
  [0x10, 'GFP_WAIT'],
  [0x40, 'GFP_IO'],
  [0x100, 'GFP_COLD'],
  [0x200, 'GFP_NOWARN'],
  [0x400, 'GFP_REPEAT'],
  [0x800, 'GFP_NOFAIL'],
  [0x1000, 'GFP_NORETRY'],
  [0x4000, 'GFP_COMP'],
  [0x8000, 'GFP_ZERO'],
  [0x10000, 'GFP_NOMEMALLOC'],
  [0x20000, 'GFP_HARDWALL'],
  [0x40000, 'GFP_THISNODE'],
  [0x80000, 'GFP_RECLAIMABLE'],
  [0x08, 'GFP_MOVABLE'],
];

/** `GFP_KERNEL|GFP_COMP|0x4`; no bits at all print as GFP_NOWAIT. */
export function print_gfp_flags(gfp: number): string {
  if (gfp === 0) return 'GFP_NOWAIT';
  const names: string[] = [];
  let left = gfp;
  for (const [bits, name] of GFP_NAMES) {
    if ((left & bits) !== bits) continue;
    names.push(name);
    left &= ~bits;
  }
  if (left !== 0) names.push('0x' + left.toString(16));
  return names.join('|');
}

/** The bits of such a text; -1 when a name is unknown. */
export function parse_gfp_flags(text: string): number {
  let gfp = 0;
  for (const name of text.split('|')) {
    if (name === 'GFP_NOWAIT') continue;
    const bits = GFP_NAMES.find((entry) => entry[1] === name)?.[0] ?? Number(name);
    if (!Number.isInteger(bits)) return -1;
    gfp |= bits;
  }
  return gfp;
}

/** What the kernel makes of a failed request's page with a virtual memmap (reference C11). */
const NO_PAGE = 'page=(null) pfn=15811495352273469440';
const VMEMMAP = 0xffffea0000000000n;

/** `page=… pfn=…`: the address of the page's descriptor, and its frame. */
export function print_page(pfn: number | null, sizeof_struct_page: number): string {
  if (pfn === null) return NO_PAGE;
  const address = VMEMMAP + BigInt(pfn) * BigInt(sizeof_struct_page);
  return `page=${address.toString(16).padStart(16, '0')} pfn=${pfn}`;
}

/** The fields of each event, in the order in which they are printed behind the page. */
const FIELDS: Record<string, readonly string[]> = {
  mm_page_alloc: ['order', 'migratetype', 'gfp_flags'],
  mm_page_free_direct: ['order'],
  mm_pagevec_free: ['order', 'cold'],
  mm_page_alloc_zone_locked: ['order', 'migratetype', 'percpu_refill'],
  mm_page_pcpu_drain: ['order', 'migratetype'],
  mm_page_alloc_extfrag: [
    'alloc_order',
    'fallback_order',
    'pageblock_order',
    'alloc_migratetype',
    'fallback_migratetype',
    'fragmenting',
    'change_ownership',
  ],
};

/**
 * What is wrong with the text of an event, or null: the page's address must follow from its frame,
 * the fields must be there in order, and those that follow from others must agree with them.
 * Events that are not the page allocator's are not looked at.
 */
export function check_event_text(
  name: string,
  text: string,
  sizeof_struct_page: number,
): string | null {
  const names = FIELDS[name];
  if (names === undefined) return null;
  const values: Map<string, string> = new Map();
  for (const field of text.split(' ')) {
    const at = field.indexOf('=');
    values.set(field.slice(0, at), field.slice(at + 1));
  }
  const number = (key: string): number => Number(values.get(key));
  const pfn = values.get('page') === '(null)' ? null : number('pfn');
  if (pfn !== null && !Number.isInteger(pfn)) return 'no frame number';
  let expected = print_page(pfn, sizeof_struct_page);
  for (const key of names) {
    let value = values.get(key) ?? '';
    if (key === 'gfp_flags') value = print_gfp_flags(parse_gfp_flags(value));
    if (key === 'percpu_refill') value = number('order') === 0 ? '1' : '0';
    if (key === 'fragmenting')
      value = number('fallback_order') < number('pageblock_order') ? '1' : '0';
    if (key === 'change_ownership') {
      value = number('alloc_migratetype') === number('fallback_migratetype') ? '1' : '0';
    }
    expected += ` ${key}=${value}`;
  }
  return expected === text ? null : `recorded '${text}', ours '${expected}'`;
}
