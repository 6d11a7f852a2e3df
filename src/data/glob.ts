/**
 * The files behind what a user names as sources: files, folders (recursively, every file of a known type), globs
 * (`*`, `?`, `[abc]`, `{a,b}` within a name, `**` for any folders) and '-' for standard input.
 */
import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { UsageError } from '../util/errors.ts';

/** A file to read: `bytes` as stored (0 for standard input). */
export interface SourceFile {
  path: string;
  bytes: number;
}

const isGlob = (text: string): boolean => /[*?[{]/.test(text);

/** Endings of files that are documents: what a folder is searched for. */
const known = /\.(txt|text|md|markdown|rst|jsonl|ndjson)(\.(gz|zst))?$/i;

/** Every file below a folder, sorted by path. */
function walk(folder: string): string[] {
  const files: string[] = [];
  const visit = (path: string): void => {
    const entries = readdirSync(path, { withFileTypes: true });
    for (const entry of entries.sort((a, b) => (a.name < b.name ? -1 : 1))) {
      const child = join(path, entry.name);
      if (entry.isDirectory()) visit(child);
      else if (entry.isFile() || (entry.isSymbolicLink() && statSync(child, { throwIfNoEntry: false })?.isFile()))
        files.push(child);
    }
  };
  visit(folder);
  return files;
}

/** The regular expression of a glob. */
export function globExpression(glob: string): RegExp {
  let depth = 0;
  const body = glob.replace(/\*\*\/|\*\*|\*|\?|\[[^\]]+\]|[{},.+^$()|\\[\]]/g, (part) => {
    if (part === '**/') return '(?:[^/]+/)*';
    if (part === '**') return '.*';
    if (part === '*') return '[^/]*';
    if (part === '?') return '[^/]';
    if (part === '{') depth++;
    if (part === '{') return '(?:';
    if (part === ',') return depth > 0 ? '|' : ',';
    if (part === '}') return depth-- > 0 ? ')' : '\\}';
    if (part.length > 1) return part.replace(/^\[!/, '[^').replaceAll('\\', '\\\\');
    return `\\${part}`;
  });
  return new RegExp(`^${body}$`);
}

function expandGlob(glob: string): string[] {
  const parts = glob.split('/');
  const fixed = parts.slice(0, parts.findIndex(isGlob));
  const folder = fixed.join('/') || (glob.startsWith('/') ? '/' : '.');
  if (!statSync(folder, { throwIfNoEntry: false })?.isDirectory()) return [];
  const expression = globExpression(glob.replace(/^(\.\/)+/, ''));
  return walk(folder).filter((path) => expression.test(path));
}

/** The files that sources name, in a fixed order. @throws UsageError if a source is missing or names no file */
export function expandSources(sources: readonly string[]): SourceFile[] {
  if (sources.length === 0) throw new UsageError('sources: none given, expected files, folders, globs or "-"');
  const files: SourceFile[] = [];
  for (const source of sources) {
    if (source === '-') {
      files.push({ path: '-', bytes: 0 });
      continue;
    }
    const stat = statSync(source, { throwIfNoEntry: false });
    if (!stat && !isGlob(source)) throw new UsageError(`${source}: not found, expected a file, a folder or a glob`);
    const paths = !stat
      ? expandGlob(source)
      : stat.isDirectory()
        ? walk(source).filter((p) => known.test(p))
        : [source];
    if (paths.length === 0)
      throw new UsageError(
        `${source}: no file ${stat ? 'ends in .txt, .md, .rst or .jsonl (plain, .gz or .zst)' : 'matches'}`,
      );
    for (const path of paths) files.push({ path, bytes: statSync(path).size });
  }
  const seen = new Set<string>();
  return files.filter(({ path }) => !seen.has(path) && seen.add(path));
}
