/**
 * What a recorded line of a 2.6.35 page-allocator event must look like: the numbers in it, printed
 * again by the kernel's own rows (kernels/linux-2.6.35/trace_events.ts).
 */
import { event_by_name, type TraceArch, values_text } from '../fs/tracefs/trace_events.ts';
import { parse_gfp_flags } from '../kernels/linux-2.6.35/trace_events.ts';

/**
 * What is wrong with the text of an event, or null: the page's address must follow from its frame,
 * the fields must be there in order, and those that follow from others must agree with them.
 * Events that are not the page allocator's are not looked at.
 */
export function check_event_text(name: string, text: string, arch: TraceArch): string | null {
  const event = event_by_name(arch.format, name);
  if (event < 0 || arch.layouts[event]![0]!.kind !== 'page') return null;
  const recorded: Map<string, string> = new Map();
  for (const field of text.split(' ')) {
    const at = field.indexOf('=');
    recorded.set(field.slice(0, at), field.slice(at + 1));
  }
  const values = new Float64Array(16);
  arch.layouts[event]!.forEach((field, i) => {
    const value = recorded.get(field.name) ?? '';
    if (field.name === 'gfp_flags') values[i] = parse_gfp_flags(value);
    else if (field.kind !== 'page') values[i] = Number(value);
    else values[i] = value === '(null)' ? -1 : Number(recorded.get('pfn'));
  });
  if (values.some((value) => !Number.isInteger(value))) return 'a field is not a number';
  const expected = values_text(arch, event, values);
  return expected === text ? null : `recorded '${text}', ours '${expected}'`;
}
