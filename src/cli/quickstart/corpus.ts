/**
 * The corpus of quickstart: files that the user names, or the documentation of the installed packages: Markdown, licences
 * and the doc comments of type declarations. Reduced to prose, without repeated paragraphs, cut into passages, every
 * twentieth of which is held out. A document is one sentence: in minutes a model learns to look at the words around a
 * mask, and few masks in a short text are the easiest to tell apart.
 */
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expandSources } from '../../data/glob.ts';
import { readDocuments } from '../../data/read.ts';
import { UsageError } from '../../util/errors.ts';
import { writeWhole } from '../../util/new_file.ts';

export interface Corpus {
  documents: number;
  passages: number;
  heldOut: number;
  characters: number;
  /** True when the text was cut off at the limit. */
  cut: boolean;
}

/** Characters of a passage, a few hundred tokens; paragraphs stay whole. */
const PASSAGE = 2000;
const HELD_OUT_EVERY = 20;
/** Characters of the shortest sentence. */
const SHORTEST = 20;
/** More would not be seen in the minutes that quickstart takes. */
const LARGEST = 64e6;
const SMALLEST = 20_000;

/**
 * Writes FOLDER/train.jsonl and FOLDER/validation.jsonl.
 * @throws UsageError if a source is missing or there is too little text, FormatError if a file cannot be read
 */
export async function collectCorpus(sources: readonly string[], folder: string): Promise<Corpus> {
  const seen = new Set<string>();
  const corpus: Corpus = { documents: 0, passages: 0, heldOut: 0, characters: 0, cut: false };
  const parts: Record<'train' | 'validation', string[]> = { train: [], validation: [] };
  for await (const text of sources.length > 0 ? userDocuments(sources) : documentation()) {
    const paragraphs = text.split(/\n\s*\n/).map((p) => p.trim());
    const fresh = paragraphs.filter((p) => p !== '' && isNew(p, seen));
    if (fresh.length === 0) continue;
    corpus.documents++;
    for (const passage of passages(fresh)) {
      const part = corpus.passages++ % HELD_OUT_EVERY === HELD_OUT_EVERY / 4 ? 'validation' : 'train';
      if (part === 'validation') corpus.heldOut++;
      for (const text of sentencesOf(passage)) parts[part].push(JSON.stringify({ text }));
      corpus.characters += passage.length;
    }
    if ((corpus.cut = corpus.characters > LARGEST)) break;
  }
  if (corpus.characters < SMALLEST)
    throw new UsageError(
      `corpus: ${corpus.characters} characters of text in ${sources.join(', ') || 'the installed packages'}, ` +
        `expected at least ${SMALLEST}; name more files or folders with --corpus`,
    );
  for (const [part, lines] of Object.entries(parts)) writeWhole(join(folder, `${part}.jsonl`), `${lines.join('\n')}\n`);
  return corpus;
}

/** A word of letters, without punctuation. */
export const plainWord = /^[\p{L}'’-]+$/u;

/** A text's sentences, headings and items of lists, without those of a few letters. */
export function sentencesOf(text: string): string[] {
  return text
    .split(/(?<=[.!?])\s+|\n+/)
    .map((sentence) => sentence.trim())
    .filter((sentence) => sentence.length >= SHORTEST);
}

/** Whether a paragraph has not been seen; short ones, such as headings, always count as new. */
function isNew(paragraph: string, seen: Set<string>): boolean {
  if (paragraph.length < 40) return true;
  const key = createHash('sha1').update(paragraph.toLowerCase().replace(/\W+/g, ' ')).digest('base64');
  return !seen.has(key) && Boolean(seen.add(key));
}

function* passages(paragraphs: readonly string[]): Generator<string> {
  let passage = '';
  for (const paragraph of paragraphs) {
    if (passage && passage.length + paragraph.length > PASSAGE) {
      yield passage;
      passage = '';
    }
    passage += (passage && '\n\n') + paragraph;
  }
  if (passage) yield passage;
}

async function* userDocuments(sources: readonly string[]): AsyncGenerator<string> {
  for (const { path } of expandSources(sources))
    for await (const record of readDocuments(path)) if ('text' in record) yield record.text;
}

/** Folders with installed packages: this package's, and those of npm itself. */
function packageFolders(): string[] {
  let root = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(root, 'package.json')) && root !== dirname(root)) root = dirname(root);
  const own = basename(dirname(root)) === 'node_modules' ? dirname(root) : join(root, 'node_modules');
  const prefix = dirname(dirname(process.execPath));
  return [own, join(prefix, 'lib/node_modules')].filter((folder) => existsSync(folder));
}

/** The documents of the installed packages, in a fixed order. */
async function* documentation(): AsyncGenerator<string> {
  for (const folder of packageFolders())
    for (const path of (readdirSync(folder, { recursive: true }) as string[]).sort()) {
      const name = basename(path);
      const isMarkdown = /^[^.]+\.(md|markdown)$/i.test(name); // README.fr.md and the like are translations
      const isProse = isMarkdown || /^(licen[cs]e|notice|authors|readme)[^.]*(\.txt)?$/i.test(name);
      const isDeclaration = name.endsWith('.d.ts');
      if (!isProse && !isDeclaration) continue;
      const text = readText(join(folder, path));
      const prose = isDeclaration ? docComments(text) : markdownProse(text);
      if (isMostlyLatin(prose)) yield prose;
    }
}

function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return ''; // a folder called README, or a file that is not ours to read
  }
}

/** Less than one letter in twenty from outside ASCII: a small vocabulary is best spent on one script. */
function isMostlyLatin(text: string): boolean {
  const others = text.match(/[^\0-\x7f]/g)?.length ?? 0;
  return others * 20 < text.length;
}

/** The prose of the doc comments in a type declaration file. */
function docComments(source: string): string {
  const comments = source.match(/\/\*\*[\s\S]*?\*\//g) ?? [];
  return comments
    .map((comment) => comment.slice(3, -2).replace(/^[ \t]*\*[ \t]?/gm, ''))
    .map((comment) => comment.replace(/^@(param|returns?|throws|deprecated)\s+(\{[^}]*\}\s*)?(\S+ +- +)?/gm, '\n'))
    .map((comment) => markdownProse(comment.replace(/^@\w+.*$/gm, '').replace(/\{@link\s+([^}\s]+)[^}]*\}/g, '$1')))
    .filter((comment) => comment.length > 40)
    .join('\n\n');
}

/** Markdown without code blocks, tables, images, HTML and the targets of links; wrapped lines are joined. */
export function markdownProse(markdown: string): string {
  return markdown
    .replace(/^---\n[\s\S]*?\n---\n/, '')
    .replace(/^[ \t]*(```|~~~)[\s\S]*?^[ \t]*\1[^\n]*$/gm, '')
    .replace(/<!--[\s\S]*?-->/g, '')
    .replace(/!\[[^\]]*\](\([^)]*\)|\[[^\]]*\])/g, '')
    .replace(/\[([^\]]*)\](\([^)]*\)|\[[^\]]*\])/g, '$1')
    .replace(/^\s*\[[^\]]+\]:.*$/gm, '')
    .replace(/<\/?[a-z][^>]*>/gi, '')
    .replace(/^\s*\|.*$/gm, '')
    .replace(/^\s*([-=*_]\s*){3,}$/gm, '')
    .replace(/^#+\s*(.*)$/gm, '\n$1\n')
    .replace(/[*_]{2,}/g, '')
    .replace(/[ \t]+/g, ' ')
    .replace(/^ /gm, '')
    .replace(/(\S) ?\n(?=[^\s\-*+>\d])/g, '$1 ')
    .trim();
}
