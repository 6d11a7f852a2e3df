/** What a vocabulary can be asked; vocabularies and merges of a tokenizer.json, checked entry by entry. */
import { FormatError } from '../util/errors.ts';
import { type AddedToken, ID_LIMIT } from './schema.ts';

/** Pieces and their ids. */
export interface Vocabulary {
  /** One more than the highest id. */
  readonly count: number;
  idOf(piece: string): number | undefined;
  pieceOf(id: number): string | undefined;
  /** Piece -> id. */
  toMap(): Map<string, number>;
}

/** A vocabulary as strings; `owners` has the piece of each id. */
export function stringVocabulary(ids: Map<string, number>, owners: readonly (string | undefined)[]): Vocabulary {
  return { count: owners.length, idOf: (piece) => ids.get(piece), pieceOf: (id) => owners[id], toMap: () => ids };
}

const show = (value: unknown) => {
  const text = JSON.stringify(value) ?? 'nothing';
  return text.length > 80 ? `${text.slice(0, 80)}…` : text;
};

/** An object piece -> id as a map; every id once. @throws FormatError naming file, piece and id */
export function readVocabulary(entries: Record<string, unknown>, path: string): Map<string, number> {
  const vocab = new Map<string, number>();
  const owners: (string | undefined)[] = []; // by id
  for (const piece of Object.keys(entries)) {
    const value = entries[piece];
    if (typeof value !== 'number' || !Number.isInteger(value) || value < 0 || value >= ID_LIMIT)
      throw new FormatError(
        `${path}: model.vocab gives ${show(piece)} the id ${show(value)}, expected an integer from 0 to ${ID_LIMIT - 1}`,
      );
    if (owners[value] !== undefined)
      throw new FormatError(
        `${path}: model.vocab gives ${show(owners[value])} and ${show(piece)} the same id ${value}`,
      );
    owners[value] = piece;
    vocab.set(piece, value);
  }
  return vocab;
}

/** Unigram's pairs piece, score; the id is the place. @throws FormatError naming file and place */
export function readScores(entries: unknown[], path: string): [string, number][] {
  if (entries.length > ID_LIMIT)
    throw new FormatError(`${path}: model.vocab has ${entries.length} pieces, expected at most ${ID_LIMIT}`);
  for (let id = 0; id < entries.length; id++) {
    const entry = entries[id];
    if (!Array.isArray(entry) || entry.length !== 2 || typeof entry[0] !== 'string' || !Number.isFinite(entry[1]))
      throw new FormatError(`${path}: model.vocab[${id}] is ${show(entry)}, expected a piece and its score`);
  }
  return entries as [string, number][];
}

/** Merges are pairs, or in older files "left right". @throws FormatError naming file and place */
export function readMerges(merges: unknown[], path: string): [string, string][] {
  const found: [string, string][] = [];
  for (let i = 0; i < merges.length; i++) {
    const merge = merges[i];
    const parts = typeof merge === 'string' ? merge.split(' ') : merge;
    if (!Array.isArray(parts) || parts.length !== 2 || parts.some((part) => typeof part !== 'string'))
      throw new FormatError(`${path}: model.merges[${i}] is ${show(merge)}, expected two pieces`);
    found.push(parts as [string, string]);
  }
  return found;
}

/** Added tokens may repeat the vocabulary, not contradict it. */
export function checkAddedTokens(tokens: readonly AddedToken[], vocabulary: Vocabulary, path: string): void {
  const owners = new Map<number, string>();
  for (const { content, id } of tokens) {
    const owner = owners.get(id) ?? vocabulary.pieceOf(id);
    const known = vocabulary.idOf(content);
    if ((owner !== undefined && owner !== content) || (known !== undefined && known !== id))
      throw new FormatError(
        `${path}: added token ${show(content)} has the id ${id}, but ${
          known !== undefined ? `model.vocab gives it ${known}` : `that is the id of ${show(owner)}`
        }`,
      );
    owners.set(id, content);
  }
}
