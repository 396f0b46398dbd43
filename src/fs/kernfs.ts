/**
 * The virtual files: Vnodes made from rows (lib/file_row.ts). Here, and nowhere else, are the
 * rules of procfs, sysctl, sysfs and debugfs: when contents are made, what an open checks, which
 * errno a refused action gets. Rows know only what they print and take.
 *
 * The directory tree is built once from the rows' paths; directories of processes come and go
 * (RowDirectory). Nodes stay the same objects, with the same inode numbers, while they exist.
 * Linux: fs/proc/{generic,inode,proc_sysctl}.c, fs/sysfs/{file,dir,inode}.c, fs/debugfs,
 * fs/seq_file.c. The errnos are the recorded ones (test/golden/linux-2.6.35/files). Differs: a
 * write never returns more than it was given, as compact_memory's does in Linux: FUSE forbids it.
 */
import {
  EACCES,
  EEXIST,
  EINVAL,
  EIO,
  EISDIR,
  ENODEV,
  ENOENT,
  ENOTDIR,
  EPERM,
  EXDEV,
} from '../lib/errno.ts';
import {
  type FileRow,
  type RowContext,
  type RowDirectory,
  type RowKind,
  row_kind,
} from '../lib/file_row.ts';
import { is_job, type Job } from '../lib/kthread.ts';
import { SeqFile } from '../lib/seq_file.ts';
import type { WriteRecord } from '../lib/write_log.ts';
import type { Machine } from '../mm/mmzone.ts';
import {
  type Attr,
  type Caller,
  type Dirent,
  O_ACCMODE,
  O_RDONLY,
  O_TRUNC,
  O_WRONLY,
  type OpenFile,
  S_IFDIR,
  S_IFMT,
  S_IFREG,
  type SetAttr,
  type StatFs,
  Vnode,
} from './vfs.ts';

const MAY_READ = 4;
const MAY_WRITE = 2;

/** procfs numbers its entries from here on; everything below is free for other file systems. */
const FIRST_INO = 0xf0000000;
/** Directories of processes: room for this many numbers each, from here on. */
const FIRST_DYNAMIC_INO = 0xf8000000;
const INOS_PER_DYNAMIC = 32;

/** The one file whose own writes are not noted. */
const WRITE_LOG = '/sys/kernel/debug/pageblock/writes';

/** What all nodes of one tree share. */
class KernfsRoot {
  readonly m: Machine;
  /** Whom the files belong to; this user is the emulated root. */
  readonly uid: number;
  readonly gid: number;
  private next_ino = FIRST_INO;

  constructor(m: Machine, uid: number, gid: number) {
    this.m = m;
    this.uid = uid;
    this.gid = gid;
  }

  new_ino(): number {
    return this.next_ino++;
  }

  is_root(caller: Caller): boolean {
    return caller.uid === 0 || caller.uid === this.uid;
  }
}

/** What files and directories have in common: attributes and the right to change them. */
abstract class KernfsNode extends Vnode {
  readonly root: KernfsRoot;
  readonly kind: RowKind;
  readonly ino: number;
  /** As in the mount, '/proc/meminfo'. */
  path = '';
  protected mode: number;
  uid: number;
  gid: number;
  private atime: number;
  private mtime: number;
  private ctime: number;

  constructor(root: KernfsRoot, kind: RowKind, ino: number, mode: number) {
    super();
    this.root = root;
    this.kind = kind;
    this.ino = ino;
    this.mode = mode;
    this.uid = root.uid;
    this.gid = root.gid;
    this.atime = this.mtime = this.ctime = root.m.clock.boot_time_ms;
  }

  abstract nlink(): number;
  abstract size(): number;

  override getattr(): Attr {
    const proc = this.kind === 'proc' || this.kind === 'sysctl';
    return {
      ino: this.ino,
      mode: this.mode,
      nlink: this.nlink(),
      uid: this.uid,
      gid: this.gid,
      rdev: 0,
      size: this.size(),
      blksize: proc ? 1024 : 2 ** this.root.m.shape.page_shift,
      blocks: 0,
      atime: this.atime,
      mtime: this.mtime,
      ctime: this.ctime,
    };
  }

  /** Whether `caller` may do what `want` says; 0 or -EACCES. */
  permission(want: number, caller: Caller): number {
    let bits = this.mode & 7;
    if (this.kind === 'sysctl') {
      // kernel/sysctl.c: test_perm. The bits bind root too.
      if (this.root.is_root(caller)) bits = (this.mode >> 6) & 7;
      else if (caller.gid === this.gid) bits = (this.mode >> 3) & 7;
    } else {
      if (this.root.is_root(caller)) return 0;
      if (caller.uid === this.uid) bits = (this.mode >> 6) & 7;
      else if (caller.gid === this.gid) bits = (this.mode >> 3) & 7;
    }
    return (want & ~bits) === 0 ? 0 : -EACCES;
  }

  /** Truncation is accepted and ignored; sysctl entries keep their mode and owner. */
  override setattr(attr: SetAttr, caller: Caller): number {
    const chmod = attr.mode !== undefined || attr.uid !== undefined || attr.gid !== undefined;
    if (chmod && this.kind === 'sysctl') return -EPERM;
    if (chmod && !this.root.is_root(caller) && caller.uid !== this.uid) return -EPERM;
    if (attr.size !== undefined) {
      const err = this.permission(MAY_WRITE, caller);
      if (err < 0) return err;
    }
    if (attr.mode !== undefined) this.mode = (this.mode & S_IFMT) | (attr.mode & 0o7777);
    if (attr.uid !== undefined) this.uid = attr.uid;
    if (attr.gid !== undefined) this.gid = attr.gid;
    if (attr.atime !== undefined) this.atime = attr.atime;
    if (attr.mtime !== undefined) this.mtime = attr.mtime;
    this.ctime = this.root.m.clock.real_ms();
    return 0;
  }

  override statfs(): StatFs {
    return { bsize: 4096, blocks: 0, bfree: 0, bavail: 0, files: 0, ffree: 0, namelen: 255 };
  }
}

class KernfsFile extends KernfsNode {
  readonly row: FileRow<Machine>;
  readonly id: number;
  readonly object: unknown;

  constructor(
    root: KernfsRoot,
    row: FileRow<Machine>,
    kind: RowKind,
    ino: number,
    id: number,
    object: unknown,
  ) {
    super(root, kind, ino, S_IFREG | row.mode);
    this.row = row;
    this.id = id;
    this.object = object;
  }

  override nlink(): number {
    return 1;
  }

  override size(): number {
    return this.kind === 'sysfs' ? 2 ** this.root.m.shape.page_shift : 0;
  }

  override open(flags: number, caller: Caller): OpenFile | number {
    const access = flags & O_ACCMODE;
    const reads = access !== O_WRONLY;
    const writes = access !== O_RDONLY;
    let want = (reads ? MAY_READ : 0) | (writes ? MAY_WRITE : 0);
    if ((flags & O_TRUNC) !== 0) want |= MAY_WRITE;
    const err = this.permission(want, caller);
    if (err < 0) return err;
    if (this.kind === 'sysfs') {
      // sysfs_open_file: some bit for the access must be set, whoever asks.
      if (reads && (this.mode & 0o444) === 0) return -EACCES;
      if (writes && (this.mode & 0o222) === 0) return -EACCES;
    }
    const { faults } = this.root.m;
    if (faults.files.length > 0) {
      const failed = faults.answer(this.path, 'open');
      if (failed < 0) return failed;
    }
    const file = new KernfsOpen(this, flags, caller);
    const opened = this.row.open?.(this.root.m, file.ctx) ?? 0;
    return opened < 0 ? opened : file;
  }
}

/** One open file: the contents as they were when they were first read, and what rows are told. */
class KernfsOpen implements OpenFile {
  private readonly file: KernfsFile;
  readonly ctx: RowContext;
  private snapshot: Uint8Array | null = null;

  constructor(file: KernfsFile, flags: number, caller: Caller) {
    this.file = file;
    const { id, object } = file;
    this.ctx = { id, object, caller: { ...caller }, flags, pos: 0, data: null };
  }

  read(buf: Uint8Array, pos: number): number {
    const { row, kind, root } = this.file;
    const failed = this.fault('read');
    if (failed < 0) return failed;
    if (row.read_at !== undefined) return row.read_at(root.m, pos, buf, this.ctx);
    if (row.show === undefined) return kind === 'proc' || kind === 'sysfs' ? -EIO : -EINVAL;
    if (buf.length === 0) return 0;
    // A number of /proc/sys cannot be read piecemeal: behind the first read is the end.
    if (kind === 'sysctl' && pos !== 0 && row.string !== true) return 0;
    if (this.snapshot === null || pos === 0 || kind === 'sysctl') {
      const seq = new SeqFile();
      const err = row.show(seq, root.m, this.ctx);
      if (typeof err === 'number' && err < 0) return err;
      this.snapshot = this.shown(seq.bytes());
    }
    const piece = this.snapshot.subarray(pos, pos + buf.length);
    buf.set(piece);
    return piece.length;
  }

  write(buf: Uint8Array, pos: number): number | Job {
    const { path, root } = this.file;
    if (path === WRITE_LOG) return this.store(buf, pos);
    const record = root.m.write_log.begin(root.m.clock.now_ms, path, text_of(buf), this.ctx.caller);
    const failed = this.fault('write');
    const result = failed < 0 ? failed : this.store(buf, pos);
    if (is_job(result)) return note_result(result, record);
    record.result = result;
    return result;
  }

  delay(op: 'read' | 'write'): number {
    const { faults } = this.file.root.m;
    return faults.files.length > 0 ? faults.delay(this.file.path, op) : 0;
  }

  /** What a tester put in the place of an answer (lib/faults.ts): a negative errno, or 0. */
  private fault(op: 'read' | 'write'): number {
    const { path, kind, root } = this.file;
    const { faults } = root.m;
    if (faults.nodes.length > 0 && kind === 'sysfs' && faults.is_gone(path)) return -ENODEV;
    return faults.files.length > 0 ? faults.answer(path, op) : 0;
  }

  /** The contents with what a tester changed in them. */
  private shown(bytes: Uint8Array): Uint8Array {
    const { path, root } = this.file;
    const { faults } = root.m;
    if (faults.nodes.length > 0) faults.note_read(path);
    const none = faults.nodes.length + faults.values.length + faults.texts.length === 0;
    if (none || !faults.changes(path)) return bytes;
    return new SeqFile().puts(faults.change(path, text_of(bytes))).bytes();
  }

  private store(buf: Uint8Array, pos: number): number | Job {
    const { row, kind, root } = this.file;
    let length = buf.length;
    if (kind === 'sysfs') {
      // sysfs_write_file: one page at a time, less a byte in old kernels; nothing for nothing.
      if (length === 0) return 0;
      const page = 2 ** root.m.shape.page_shift;
      length = Math.min(length, root.m.kernel.sysfs_takes_whole_pages ? page : page - 1);
    }
    if (row.store === undefined) return kind === 'proc' || kind === 'sysfs' ? -EIO : -EINVAL;
    this.ctx.pos = pos;
    const taken = row.store(root.m, text_of(buf.subarray(0, length)), this.ctx);
    if (kind === 'sysfs') this.snapshot = null;
    return is_job(taken) ? clamp_job(taken, length) : Math.min(taken, length);
  }

  release(): void {
    this.snapshot = null;
    const { row, root } = this.file;
    row.release?.(root.m, this.ctx);
  }

  fsync(_datasync: boolean): number {
    return this.file.kind === 'sysfs' || this.file.kind === 'debugfs' ? 0 : -EINVAL;
  }
}

/** Bytes as the text that rows see: one character a byte. */
function text_of(bytes: Uint8Array): string {
  let text = '';
  for (let i = 0; i < bytes.length; i++) text += String.fromCharCode(bytes[i]!);
  return text;
}

function* note_result(job: Job, record: WriteRecord): Job {
  const result = yield* job;
  record.result = result;
  return result;
}

function* clamp_job(job: Job, length: number): Job {
  return Math.min(yield* job, length);
}

/** A directory. Entries are kept in the order in which the rows list them. */
export class KernfsDir extends KernfsNode {
  private readonly entries = new Map<string, Vnode>();
  private subdirs = 0;
  private dynamic: DynamicDirs | null = null;
  private readonly sysctl_top: boolean;

  constructor(root: KernfsRoot, kind: RowKind, ino: number, mode: number, sysctl_top = false) {
    super(root, kind, ino, S_IFDIR | mode);
    this.sysctl_top = sysctl_top;
  }

  add(name: string, node: Vnode): void {
    this.entries.set(name, node);
    if ((node.getattr().mode & S_IFMT) === S_IFDIR) this.subdirs++;
  }

  /** The entry of this name when it is always there. */
  get(name: string): Vnode | undefined {
    return this.entries.get(name);
  }

  set_dynamic(dynamic: DynamicDirs): void {
    this.dynamic = dynamic;
  }

  /** Linux counts no links of sysctl directories: 0, and 1 for /proc/sys itself. */
  override nlink(): number {
    if (this.kind === 'sysctl') return this.sysctl_top ? 1 : 0;
    return 2 + this.subdirs + (this.dynamic?.count() ?? 0);
  }

  override size(): number {
    return 0;
  }

  override lookup(name: string): Vnode | number {
    if (this.root.m.faults.hides(this.path, name)) return -ENOENT;
    return this.entries.get(name) ?? this.dynamic?.lookup(name) ?? -ENOENT;
  }

  override readdir(): Dirent[] | number {
    const list: Dirent[] = [];
    for (const [name, node] of this.entries) {
      if (this.root.m.faults.hides(this.path, name)) continue;
      const attr = node.getattr();
      list.push({ name, ino: attr.ino, mode: attr.mode & S_IFMT });
    }
    this.dynamic?.list(list);
    return list;
  }

  override create(name: string): number {
    return this.refuse_new(name, -EACCES);
  }
  override mkdir(name: string): number {
    return this.refuse_new(name, -EPERM);
  }
  override mknod(name: string): number {
    return this.refuse_new(name, -EPERM);
  }
  override symlink(name: string): number {
    return this.refuse_new(name, -EPERM);
  }

  override link(name: string, target: Vnode): number {
    if (!(target instanceof KernfsNode) || fs_of(target.kind) !== fs_of(this.kind)) return -EXDEV;
    return this.refuse_new(name, -EPERM);
  }

  /** In proc a name that is not there fails in the look-up already. */
  private refuse_new(name: string, err: number): number {
    if (typeof this.lookup(name) !== 'number') return -EEXIST;
    return fs_of(this.kind) === 'proc' ? -ENOENT : err;
  }

  override unlink(name: string): number {
    return this.refuse_removal(name, false);
  }
  override rmdir(name: string): number {
    return this.refuse_removal(name, true);
  }

  private refuse_removal(name: string, directory: boolean): number {
    const node = this.lookup(name);
    if (typeof node === 'number') return node;
    if (this.kind === 'sysctl') return -EACCES;
    const is_dir = (node.getattr().mode & S_IFMT) === S_IFDIR;
    if (directory && !is_dir) return -ENOTDIR;
    if (!directory && is_dir) return -EISDIR;
    return -EPERM;
  }

  override rename(name: string, new_parent: Vnode, new_name: string): number {
    if (!(new_parent instanceof KernfsDir)) return -EXDEV;
    if (fs_of(new_parent.kind) !== fs_of(this.kind)) return -EXDEV;
    const node = this.lookup(name);
    if (typeof node === 'number') return node;
    const target = new_parent.lookup(new_name);
    if (typeof target === 'number' && fs_of(this.kind) === 'proc') return -ENOENT;
    return this.kind === 'sysctl' || new_parent.kind === 'sysctl' ? -EACCES : -EPERM;
  }
}

/** The file system that a kind belongs to: what rename and link cannot cross. */
function fs_of(kind: RowKind): string {
  return kind === 'sysctl' ? 'proc' : kind;
}

/** The directories of one RowDirectory, made when looked up and kept while their object lives. */
class DynamicDirs {
  private readonly root: KernfsRoot;
  private readonly spec: RowDirectory<Machine>;
  private readonly kind: RowKind;
  private readonly rows: { name: string; row: FileRow<Machine> }[];
  private readonly cache = new Map<string, { object: object; dir: KernfsDir }>();

  constructor(root: KernfsRoot, spec: RowDirectory<Machine>) {
    this.root = root;
    this.spec = spec;
    this.kind = row_kind(spec.path);
    const prefix = spec.path + '/';
    this.rows = spec.rows
      .filter((row) => row.when === undefined || row.when(root.m))
      .map((row) => ({ name: row.path.slice(prefix.length), row }));
  }

  count(): number {
    return this.spec.names(this.root.m).length;
  }

  lookup(name: string): KernfsDir | undefined {
    const object = this.spec.find(this.root.m, name);
    const cached = this.cache.get(name);
    if (object === null) {
      this.cache.delete(name);
      return undefined;
    }
    if (cached?.object === object) return cached.dir;
    const dir = this.make(name, object);
    this.cache.set(name, { object, dir });
    return dir;
  }

  private make(name: string, object: object): KernfsDir {
    const id = Number(name);
    const ino = FIRST_DYNAMIC_INO + id * INOS_PER_DYNAMIC;
    const owner = this.spec.owner?.(object) ?? this.root;
    const dir = new KernfsDir(this.root, this.kind, ino, this.spec.mode);
    for (let i = 0; i < this.rows.length; i++) {
      const { name: file_name, row } = this.rows[i]!;
      const file = new KernfsFile(this.root, row, this.kind, ino + 1 + i, id, object);
      file.path = row.path.replace('{pid}', name);
      file.uid = owner.uid;
      file.gid = owner.gid;
      dir.add(file_name, file);
    }
    dir.uid = owner.uid;
    dir.gid = owner.gid;
    return dir;
  }

  list(to: Dirent[]): void {
    const names = this.spec.names(this.root.m);
    for (const name of names) {
      to.push({ name, ino: FIRST_DYNAMIC_INO + Number(name) * INOS_PER_DYNAMIC, mode: S_IFDIR });
    }
    if (this.cache.size <= names.length) return;
    const alive = new Set(names);
    for (const name of this.cache.keys()) if (!alive.has(name)) this.cache.delete(name);
  }
}

/** Modes of directories by kind. */
function dir_mode(kind: RowKind): number {
  return kind === 'proc' || kind === 'sysctl' ? 0o555 : 0o755;
}

/**
 * Builds a tree from rows. The result is the directory '/', with the top directories of the rows'
 * paths in it. `uid` and `gid` own the files and are the emulated root.
 */
export function kernfs_mount(
  m: Machine,
  rows: readonly FileRow<Machine>[],
  directories: readonly RowDirectory<Machine>[],
  uid: number,
  gid: number,
): KernfsDir {
  const root = new KernfsRoot(m, uid, gid);
  const top = new KernfsDir(root, 'sysfs', 1, 0o755);
  for (const row of rows) {
    if (row.when !== undefined && !row.when(m)) continue;
    if (row.path.includes('{nid}')) {
      for (const node of m.nodes) {
        add_file(root, top, row, row.path.replace('{nid}', String(node.nid)), node.nid);
      }
    } else if (row.path.includes('{cpu}')) {
      for (let cpu = 0; cpu < m.shape.nr_cpus; cpu++) {
        add_file(root, top, row, row.path.replace('{cpu}', String(cpu)), cpu);
      }
    } else {
      add_file(root, top, row, row.path, -1);
    }
  }
  for (const spec of directories) {
    const parent = spec.path.slice(0, spec.path.lastIndexOf('/'));
    make_dir(root, top, parent).set_dynamic(new DynamicDirs(root, spec));
  }
  return top;
}

function add_file(
  root: KernfsRoot,
  top: KernfsDir,
  row: FileRow<Machine>,
  path: string,
  id: number,
): void {
  const slash = path.lastIndexOf('/');
  const dir = make_dir(root, top, path.slice(0, slash));
  const file = new KernfsFile(root, row, row_kind(path), root.new_ino(), id, null);
  file.path = path;
  dir.add(path.slice(slash + 1), file);
}

/** The directory at `path`, made with its parents where it is missing. */
function make_dir(root: KernfsRoot, top: KernfsDir, path: string): KernfsDir {
  let dir = top;
  let at = '';
  for (const name of path.split('/').slice(1)) {
    at += '/' + name;
    let next = dir.get(name);
    if (next === undefined) {
      const kind = row_kind(at);
      const top_of_sysctl = kind === 'sysctl' && dir.kind !== 'sysctl';
      const made = new KernfsDir(root, kind, root.new_ino(), dir_mode(kind), top_of_sysctl);
      made.path = at;
      dir.add(name, made);
      next = made;
    }
    dir = next as KernfsDir;
  }
  return dir;
}
