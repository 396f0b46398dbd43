/**
 * Loads compiled modules so that what they import from each other is constant to V8.
 *
 * In an ES module each use of an imported name reads it from a cell, asks whether it is initialised
 * yet, and compares it with what it was before; an imported number is never a literal. The core is
 * many small functions and flags in many files, and spends a quarter of its time so. Here the text of
 * each module, as the compiler wrote it, is the body of a function that takes what it imports apart
 * into local constants: V8 then puts functions in line and numbers into instructions (Node 20). Files
 * and lines in stack traces are those of the modules. What is loaded so is another instance than what
 * `import` gives: a process that runs a core in this way must not mix the two.
 */
import { readFileSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { compileFunction } from 'node:vm';

/** Statements of the compiler's output that name another module, and that module. */
const FROM = /^(?:import|export) [^;]*? from '([^']+)';$/gm;

type Exports = Record<string, unknown>;

/** A module as the body of a function, and the names of the modules whose exports it is given. */
export interface Body {
  readonly body: string;
  readonly imports: readonly string[];
}

/** A file of compiled code and all that it imports by relative paths, in the order of evaluation. */
export function importsOf(file: string): string[] {
  const found = new Map<string, boolean>();
  const visit = (path: string): void => {
    const done = found.get(path);
    if (done === true) return;
    if (done === false) throw new Error(`${path} imports itself through others`);
    found.set(path, false);
    for (const [, name] of readFileSync(path, 'utf8').matchAll(FROM)) {
      if (name!.startsWith('.')) visit(resolve(dirname(path), name!));
    }
    // Once more, so that it stands behind what it imports.
    found.delete(path);
    found.set(path, true);
  };
  visit(resolve(file));
  return [...found.keys()];
}

/** `{ a, b as c }` as a pattern that takes an object apart. */
const pattern = (names: string): string => names.replace(/(\w+) as (\w+)/g, '$1: $2');

/**
 * The text of a module as the body of a function of `$`, its imports in order, and `$import`, which
 * loads what is needed later; and the names of the imports. `url` is the module's.
 */
export function functionBody(text: string, url = ''): Body {
  const imports: string[] = [];
  const exported: string[] = [];
  const body = text
    .replace(/^import (\{[^}]*\}) from '([^']+)';$/gm, (_, names: string, from: string) => {
      imports.push(from);
      return `const ${pattern(names)} = $[${imports.length - 1}];`;
    })
    .replace(/^import (\w+) from '([^']+)';$/gm, (_, name: string, from: string) => {
      imports.push(from);
      return `const ${name} = $[${imports.length - 1}].default;`;
    })
    .replace(/^export \{([^}]*)\} from '([^']+)';$/gm, (_, names: string, from: string) => {
      imports.push(from);
      for (const item of names.split(',')) {
        const [name, as = name] = item.trim().split(' as ');
        if (name !== '') exported.push(`${as}: $[${imports.length - 1}].${name}`);
      }
      return '';
    })
    .replace(
      /^export (const|class|(?:async )?function\*?) (\w+)/gm,
      (_, kind: string, name: string) => {
        exported.push(name);
        return `${kind} ${name}`;
      },
    )
    .replace(/^\/\/# sourceMappingURL=.*$/m, '')
    .replace(/\bimport\.meta\.url\b/g, () => JSON.stringify(url))
    .replace(/\bimport\('(\.[^']+)'\)/g, (_, name: string) => `$import('${name}')`);
  const other = /^(?:import|export)\b.*/m.exec(body);
  if (other !== null) throw new Error(`a statement that the linker does not know: ${other[0]}`);
  return { body: `'use strict';${body}\nreturn { ${exported.join(', ')} };`, imports };
}

/** Modules that were loaded together: each is there once. */
class Linked {
  private readonly loaded = new Map<string, Exports>();

  /** What a file of compiled code exports, and before it all that it imports. */
  async load(file: string): Promise<Exports> {
    const path = resolve(file);
    const order = importsOf(path).filter((module) => !this.loaded.has(module));
    const texts = order.map((module) =>
      functionBody(readFileSync(module, 'utf8'), pathToFileURL(module).href),
    );
    const packages = new Map<string, Exports>();
    for (const { imports } of texts) {
      for (const name of imports) {
        if (!name.startsWith('.')) packages.set(name, (await import(name)) as Exports);
      }
    }
    // From here on without a pause: who loads meanwhile must not evaluate a module again.
    for (const [i, module] of order.entries()) {
      if (this.loaded.has(module)) continue;
      this.loaded.set(module, this.evaluate(module, texts[i]!, packages));
    }
    return this.loaded.get(path)!;
  }

  private evaluate(path: string, text: Body, packages: Map<string, Exports>): Exports {
    const of = (name: string): string => resolve(dirname(path), name);
    const given = text.imports.map((name) => packages.get(name) ?? this.loaded.get(of(name)));
    const later = (name: string): Promise<Exports> => this.load(of(name));
    const filename = pathToFileURL(path).href;
    return compileFunction(text.body, ['$', '$import'], { filename })(given, later) as Exports;
  }
}

/** What a file of compiled code exports, with all that it imports loaded for it alone. */
export function load<T>(file: string): Promise<T> {
  return new Linked().load(file) as Promise<T>;
}
