/**
 * Saving, restoring and hashing a graph of plain data: the whole state of a machine in one buffer.
 *
 * Anything reachable from the root is written once, in the order in which it is first met, and
 * referred to afterwards: cycles and sharing survive, views of one buffer stay views of one buffer.
 * State must be data: numbers, strings, typed arrays, arrays, Maps, Sets, plain objects, instances
 * of registered classes. A function or an unknown class is a KernelBug that names it. What is code
 * and not state (a kernel's table, a file system's operations) is registered as an external and
 * written by name only; what is rebuilt (tracepoints) is registered with a factory.
 * Runs of zeroes in buffers take no space.
 */
import { BUG } from './bug.ts';
import { is_zero } from './bytes.ts';

type Ctor = abstract new (...args: never[]) => object;

export class SnapshotRegistry {
  private readonly classes: Map<string, Ctor> = new Map();
  private readonly class_names: Map<unknown, string> = new Map();
  private readonly externals: Map<string, object> = new Map();
  private readonly names: Map<object, string> = new Map();
  private readonly factories: Map<string, () => object> = new Map();
  private readonly stand_ins: Map<object, object> = new Map();

  /** Instances of this class are written field by field. Its name must be unique. */
  add_class(...ctors: Ctor[]): this {
    for (const ctor of ctors) this.add_class_as(ctor.name, ctor);
    return this;
  }

  /** A class under another name than its own, where two kernels have one of the same. */
  add_class_as(name: string, ctor: Ctor): this {
    if ((this.classes.get(name) ?? ctor) !== ctor) BUG('snapshot: two classes of one name');
    this.classes.set(name, ctor);
    this.class_names.set(ctor, name);
    return this;
  }

  /** This very object is written as its name and restored as whatever has that name then. */
  add_external(name: string, value: object): this {
    this.externals.set(name, value);
    this.names.set(value, name);
    return this;
  }

  /** Where `value` stands, `other` is written. */
  add_stand_in(value: object, other: object): this {
    this.stand_ins.set(value, other);
    return this;
  }

  stand_in(value: object): object {
    return this.stand_ins.get(value) ?? value;
  }

  /** Instances of this class hold no state: they are made afresh. */
  add_factory(ctor: Ctor, make: () => object): this {
    this.factories.set(ctor.name, make);
    return this;
  }

  external_name(value: object): string | undefined {
    return this.names.get(value);
  }

  external(name: string): object {
    return this.externals.get(name) ?? BUG(`snapshot: no external named ${name}`);
  }

  has_factory(name: string): boolean {
    return this.factories.has(name);
  }

  make(name: string): object {
    return this.factories.get(name)!();
  }

  prototype(name: string): object {
    return this.classes.get(name)?.prototype ?? BUG(`snapshot: class ${name} is not registered`);
  }

  /** The name under which an object's class is written. */
  class_name(value: object): string {
    return this.class_names.get(value.constructor) ?? value.constructor.name;
  }

  is_registered(value: object): boolean {
    return this.class_names.has(value.constructor);
  }
}

// Tags, one byte each.
const T_UNDEFINED = 0;
const T_NULL = 1;
const T_FALSE = 2;
const T_TRUE = 3;
const T_INT = 4;
const T_DOUBLE = 5;
const T_STRING = 6;
const T_BIGINT = 7;
const T_REF = 8;
const T_ARRAY = 9;
const T_MAP = 10;
const T_SET = 11;
const T_OBJECT = 12;
const T_CLASS = 13;
const T_EXTERNAL = 14;
const T_FACTORY = 15;
const T_BUFFER = 16;
const T_SHARED_BUFFER = 17;
const T_VIEW = 18;

const VIEWS = [
  Int8Array,
  Uint8Array,
  Int16Array,
  Uint16Array,
  Int32Array,
  Uint32Array,
  Float32Array,
  Float64Array,
] as const;

/** Buffers are written in pieces of this size; an all-zero piece as a count only. */
const PIECE = 4096;

/** Where the walk writes to: a growing buffer, or a hash. */
interface Sink {
  u8(value: number): void;
  u32(value: number): void;
  f64(value: number): void;
  bytes(data: Uint8Array): void;
}

class BufferSink implements Sink {
  private data = new Uint8Array(1 << 16);
  private view = new DataView(this.data.buffer);
  private length = 0;

  private room(bytes: number): number {
    const at = this.length;
    this.length += bytes;
    if (this.length > this.data.length) {
      const grown = new Uint8Array(Math.max(this.length, this.data.length * 2));
      grown.set(this.data);
      this.data = grown;
      this.view = new DataView(grown.buffer);
    }
    return at;
  }
  u8(value: number): void {
    const at = this.room(1);
    this.data[at] = value;
  }
  u32(value: number): void {
    const at = this.room(4);
    this.view.setUint32(at, value, true);
  }
  f64(value: number): void {
    const at = this.room(8);
    this.view.setFloat64(at, value, true);
  }
  bytes(data: Uint8Array): void {
    const at = this.room(data.length);
    this.data.set(data, at);
  }
  take(): Uint8Array {
    return this.data.slice(0, this.length);
  }
}

/** Two 32-bit multiply-and-rotate lanes over 32-bit words; not for adversaries. */
class HashSink implements Sink {
  private a = 0x9e3779b1 | 0;
  private b = 0x85ebca6b | 0;
  private readonly f = new Float64Array(1);
  private readonly words = new Uint32Array(this.f.buffer);

  u32(value: number): void {
    this.a = Math.imul(this.a ^ value, 0xcc9e2d51);
    this.a = (this.a << 15) | (this.a >>> 17);
    this.b = Math.imul(this.b + value, 0x1b873593);
    this.b = ((this.b << 13) | (this.b >>> 19)) ^ this.a;
  }
  u8(value: number): void {
    this.u32(value);
  }
  f64(value: number): void {
    this.f[0] = value;
    this.u32(this.words[0]!);
    this.u32(this.words[1]!);
  }
  bytes(data: Uint8Array): void {
    let i = 0;
    if (data.byteOffset % 4 === 0) {
      const words = new Uint32Array(data.buffer, data.byteOffset, data.length >> 2);
      for (; i < words.length; i++) this.u32(words[i]!);
      i *= 4;
    }
    for (; i < data.length; i++) this.u32(data[i]!);
    this.u32(data.length);
  }
  take(): string {
    const hex = (x: number): string => (x >>> 0).toString(16).padStart(8, '0');
    return hex(Math.imul(this.a ^ (this.a >>> 16), 0x85ebca6b)) + hex(this.b);
  }
}

/** Saves everything reachable from `root`. */
export function save_snapshot(root: object, registry: SnapshotRegistry): Uint8Array {
  const sink = new BufferSink();
  new Walk(sink, registry).value(root, 'root');
  return sink.take();
}

/** A hash of everything reachable from `root`: 16 hexadecimal digits. */
export function hash_snapshot(root: object, registry: SnapshotRegistry): string {
  const sink = new HashSink();
  new Walk(sink, registry).value(root, 'root');
  return sink.take();
}

/** The fields of the objects of a class. */
interface Shape {
  readonly id: number;
  readonly keys: readonly string[];
}

class Walk {
  private readonly sink: Sink;
  private readonly registry: SnapshotRegistry;
  private readonly seen: Map<object, number> = new Map();
  private readonly encoder = new Encoder();
  /** By class: the sets of fields that were met. */
  private readonly shapes: Map<string, Shape[]> = new Map();
  private nr_shapes = 0;

  constructor(sink: Sink, registry: SnapshotRegistry) {
    this.sink = sink;
    this.registry = registry;
  }

  private string(s: string): void {
    const bytes = this.encoder.encode(s);
    this.sink.u32(bytes.length);
    this.sink.bytes(bytes);
  }

  /** `where` names the place for the message of a bug. */
  value(x: unknown, where: string): void {
    const sink = this.sink;
    switch (typeof x) {
      case 'undefined':
        sink.u8(T_UNDEFINED);
        return;
      case 'boolean':
        sink.u8(x ? T_TRUE : T_FALSE);
        return;
      case 'number':
        if (Number.isInteger(x) && x >= -(2 ** 31) && x < 2 ** 31 && !Object.is(x, -0)) {
          sink.u8(T_INT);
          sink.u32(x >>> 0);
          return;
        }
        sink.u8(T_DOUBLE);
        sink.f64(x);
        return;
      case 'string':
        sink.u8(T_STRING);
        this.string(x);
        return;
      case 'bigint':
        sink.u8(T_BIGINT);
        this.string(x.toString());
        return;
      case 'object':
        if (x === null) {
          sink.u8(T_NULL);
          return;
        }
        this.object(x, where);
        return;
      default:
        BUG(`snapshot: ${where} is a ${typeof x}, not data`);
    }
  }

  private object(original: object, where: string): void {
    const sink = this.sink;
    const x = this.registry.stand_in(original);
    const known = this.seen.get(x);
    if (known !== undefined) {
      sink.u8(T_REF);
      sink.u32(known);
      return;
    }
    const external = this.registry.external_name(x);
    if (external !== undefined) {
      sink.u8(T_EXTERNAL);
      this.string(external);
      return;
    }
    this.seen.set(x, this.seen.size);
    if (Array.isArray(x)) {
      sink.u8(T_ARRAY);
      sink.u32(x.length);
      for (let i = 0; i < x.length; i++) this.value(x[i], where);
    } else if (x instanceof Map) {
      sink.u8(T_MAP);
      sink.u32(x.size);
      for (const [key, item] of x) {
        this.value(key, where);
        this.value(item, where);
      }
    } else if (x instanceof Set) {
      sink.u8(T_SET);
      sink.u32(x.size);
      for (const item of x) this.value(item, where);
    } else if (ArrayBuffer.isView(x)) {
      this.view(x as Uint8Array, where);
    } else if (x instanceof ArrayBuffer || x instanceof SharedArrayBuffer) {
      sink.u8(x instanceof ArrayBuffer ? T_BUFFER : T_SHARED_BUFFER);
      this.buffer(x);
    } else {
      this.fields(x, where);
    }
  }

  private fields(x: object, where: string): void {
    const sink = this.sink;
    const proto = Object.getPrototypeOf(x);
    const plain = proto === Object.prototype || proto === null;
    const name = plain ? 'object' : this.registry.class_name(x);
    if (!plain && this.registry.has_factory(name)) {
      sink.u8(T_FACTORY);
      this.string(name);
      return;
    }
    if (!plain && !this.registry.is_registered(x)) {
      BUG(`snapshot: ${where} is of class ${name}, which is not registered`);
    }
    sink.u8(plain ? T_OBJECT : T_CLASS);
    const { keys } = this.shape(plain ? '' : name, x as Record<string, unknown>);
    for (const key of keys) this.value((x as Record<string, unknown>)[key], `${name}.${key}`);
  }

  /**
   * Writes which fields an object has, in their order: a number, and behind a new number the class's
   * name ('' for none), the fields' names, and whether the first object has a number in each.
   */
  private shape(name: string, x: Record<string, unknown>): Shape {
    const keys = Object.keys(x);
    let known = this.shapes.get(name);
    if (known === undefined) {
      known = [];
      this.shapes.set(name, known);
    }
    const found = known.find(
      (s) => s.keys.length === keys.length && s.keys.every((key, i) => key === keys[i]),
    );
    if (found !== undefined) {
      this.sink.u32(found.id);
      return found;
    }
    const shape = { id: this.nr_shapes++, keys };
    known.push(shape);
    this.sink.u32(shape.id);
    this.string(name);
    this.sink.u32(keys.length);
    for (const key of keys) {
      this.string(key);
      this.sink.u8(typeof x[key] === 'number' ? 1 : 0);
    }
    return shape;
  }

  private view(x: Uint8Array, where: string): void {
    const kind = VIEWS.findIndex((view) => x instanceof view);
    if (kind < 0) BUG(`snapshot: ${where} is a view of a kind that is not state`);
    this.sink.u8(T_VIEW);
    this.sink.u8(kind);
    this.sink.f64(x.byteOffset);
    this.sink.f64(x.length);
    this.value(x.buffer, where);
  }

  /** Length, then (zero bytes, data length, data)*. */
  private buffer(x: ArrayBuffer | SharedArrayBuffer): void {
    const sink = this.sink;
    const bytes = x.byteLength;
    sink.f64(bytes);
    let zeroes = 0;
    for (let at = 0; at < bytes; at += PIECE) {
      const length = Math.min(PIECE, bytes - at);
      const piece = new Uint8Array(x, at, length);
      if (is_zero(piece, 0, length)) {
        zeroes += length;
        continue;
      }
      sink.f64(zeroes);
      sink.u32(length);
      sink.bytes(piece);
      zeroes = 0;
    }
    sink.f64(zeroes);
    sink.u32(0);
  }
}

/** UTF-8, without the host's TextEncoder: src/ runs everywhere. Surrogates are kept one by one. */
class Encoder {
  encode(s: string): Uint8Array {
    const bytes: number[] = [];
    for (let i = 0; i < s.length; i++) {
      const c = s.charCodeAt(i);
      if (c < 0x80) bytes.push(c);
      else if (c < 0x800) bytes.push(0xc0 | (c >> 6), 0x80 | (c & 0x3f));
      else bytes.push(0xe0 | (c >> 12), 0x80 | ((c >> 6) & 0x3f), 0x80 | (c & 0x3f));
    }
    return Uint8Array.from(bytes);
  }
}

/** The graph that save_snapshot wrote. Throws KernelBug for anything else. */
export function load_snapshot<T extends object>(data: Uint8Array, registry: SnapshotRegistry): T {
  return new Loader(data, registry).value() as T;
}

/** What objects of one shape are made from: JSON text with all fields, empty. */
interface LoadedShape {
  readonly keys: readonly string[];
  readonly template: string;
  readonly prototype: object | null;
}

class Loader {
  private readonly data: Uint8Array;
  private readonly in: DataView;
  private readonly registry: SnapshotRegistry;
  private readonly objects: object[] = [];
  private readonly shapes: LoadedShape[] = [];
  private at = 0;

  constructor(data: Uint8Array, registry: SnapshotRegistry) {
    this.data = data;
    this.in = new DataView(data.buffer, data.byteOffset, data.length);
    this.registry = registry;
  }

  private u8(): number {
    return this.in.getUint8(this.at++);
  }
  private u32(): number {
    this.at += 4;
    return this.in.getUint32(this.at - 4, true);
  }
  private f64(): number {
    this.at += 8;
    return this.in.getFloat64(this.at - 8, true);
  }
  private string(): string {
    const end = this.u32() + this.at;
    let s = '';
    while (this.at < end) {
      const c = this.u8();
      if (c < 0x80) s += String.fromCharCode(c);
      else if (c < 0xe0) s += String.fromCharCode(((c & 0x1f) << 6) | (this.u8() & 0x3f));
      else {
        const high = (c & 0xf) << 12;
        const mid = (this.u8() & 0x3f) << 6;
        s += String.fromCharCode(high | mid | (this.u8() & 0x3f));
      }
    }
    return s;
  }

  private add<T extends object>(x: T): T {
    this.objects.push(x);
    return x;
  }

  value(): unknown {
    const tag = this.u8();
    switch (tag) {
      case T_UNDEFINED:
        return undefined;
      case T_NULL:
        return null;
      case T_FALSE:
        return false;
      case T_TRUE:
        return true;
      case T_INT:
        return this.u32() | 0;
      case T_DOUBLE:
        return this.f64();
      case T_STRING:
        return this.string();
      case T_BIGINT:
        return BigInt(this.string());
      case T_REF:
        return this.objects[this.u32()];
      case T_EXTERNAL:
        return this.registry.external(this.string());
      case T_FACTORY: {
        const at = this.objects.length;
        this.objects.push({});
        this.objects[at] = this.registry.make(this.string());
        return this.objects[at];
      }
      case T_ARRAY: {
        const array: unknown[] = this.add([]);
        const length = this.u32();
        for (let i = 0; i < length; i++) array.push(this.value());
        return array;
      }
      case T_MAP: {
        const map = this.add(new Map<unknown, unknown>());
        for (let n = this.u32(); n > 0; n--) {
          const key = this.value();
          map.set(key, this.value());
        }
        return map;
      }
      case T_SET: {
        const set = this.add(new Set<unknown>());
        for (let n = this.u32(); n > 0; n--) set.add(this.value());
        return set;
      }
      case T_OBJECT:
      case T_CLASS:
        return this.fields();
      case T_BUFFER:
      case T_SHARED_BUFFER:
        return this.buffer(tag === T_SHARED_BUFFER);
      case T_VIEW:
        return this.view();
      default:
        return BUG('load_snapshot: this is not a snapshot');
    }
  }

  private fields(): object {
    const id = this.u32();
    if (id === this.shapes.length) this.shapes.push(this.shape());
    const { keys, template, prototype } = this.shapes[id]!;
    // With all fields there from the start: an engine that sees a dozen fields added one by one takes
    // the object for a dictionary, and every access to it is several times slower from then on.
    const x = this.add(JSON.parse(template) as Record<string, unknown>);
    if (prototype !== null) Object.setPrototypeOf(x, prototype);
    for (const key of keys) x[key] = this.value();
    return x;
  }

  private shape(): LoadedShape {
    const name = this.string();
    const keys: string[] = [];
    const fields: string[] = [];
    for (let n = this.u32(); n > 0; n--) {
      const key = this.string();
      keys.push(key);
      fields.push(`${JSON.stringify(key)}:${this.u8() === 1 ? '0' : 'null'}`);
    }
    const prototype = name === '' ? null : this.registry.prototype(name);
    return { keys, template: `{${fields.join()}}`, prototype };
  }

  private view(): object {
    const at = this.objects.length;
    this.objects.push({});
    const kind = VIEWS[this.u8()]!;
    const offset = this.f64();
    const length = this.f64();
    const view = new kind(this.value() as ArrayBuffer, offset, length);
    this.objects[at] = view;
    return view;
  }

  private buffer(shared: boolean): object {
    const bytes = this.f64();
    const buffer = this.add(shared ? new SharedArrayBuffer(bytes) : new ArrayBuffer(bytes));
    const to = new Uint8Array(buffer);
    for (let at = 0; ; ) {
      at += this.f64();
      const length = this.u32();
      if (length === 0) return buffer;
      to.set(this.data.subarray(this.at, this.at + length), at);
      this.at += length;
      at += length;
    }
  }
}
