/** The models that look words up: WordPiece cuts a word into its longest known beginnings, WordLevel takes it whole. */
import { FormatError } from '../../util/errors.ts';
import type { WordLevelModel, WordPieceModel } from '../tokenizer_json.ts';
import type { Model, Token } from './model.ts';

function unknownId(vocab: ReadonlyMap<string, number>, unk_token: string, who: string): number {
  const id = vocab.get(unk_token);
  if (id !== undefined) return id;
  throw new FormatError(`${who}: model.unk_token ${JSON.stringify(unk_token)} is not in model.vocab`);
}

/** `who` names the file. */
export function wordPieceModel(model: WordPieceModel, who: string): Model {
  const { vocab, unk_token, continuing_subword_prefix: prefix, max_input_chars_per_word: limit } = model;
  const unknown = unknownId(vocab, unk_token, who);
  let longest = 0;
  for (const piece of vocab.keys()) longest = Math.max(longest, piece.length);
  return {
    tokenize(text) {
      const whole = [{ id: unknown, token: unk_token, start: 0, end: text.length }];
      if ([...text].length > limit) return whole;
      const tokens: Token[] = [];
      for (let start = 0; start < text.length; ) {
        const before = start > 0 ? prefix : '';
        let end = Math.min(text.length, start + longest);
        let id: number | undefined;
        for (; end > start; end--) {
          id = vocab.get(before + text.slice(start, end));
          if (id !== undefined) break;
        }
        if (id === undefined) return whole;
        tokens.push({ id, token: before + text.slice(start, end), start, end });
        start = end;
      }
      return tokens;
    },
  };
}

export function wordLevelModel({ vocab, unk_token }: WordLevelModel, who: string): Model {
  return {
    tokenize(text) {
      const id = vocab.get(text);
      const found = id === undefined ? { id: unknownId(vocab, unk_token, who), token: unk_token } : { id, token: text };
      return [{ ...found, start: 0, end: text.length }];
    },
  };
}
