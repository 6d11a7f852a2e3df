/** The post-processors of tokenizer.json: what they put around texts, and how they trim offsets. */
import type { PostProcessor } from '../schema.ts';
import { BYTE_CHARACTERS } from './byte_level.ts';
import { type Encoding, mergeEncodings, specialEncoding } from './encoding.ts';
import { isSpace } from './unicode.ts';

/** One or two texts to the encodings that follow one another. */
type Process = (texts: Encoding[], addSpecialTokens: boolean) => Encoding[];

export interface PostProcess {
  /** Special tokens around one text, and around two. */
  added: readonly [number, number];
  /** What is put before, between and behind: for native code, which writes ids only. */
  run(texts: Encoding[], addSpecialTokens: boolean): Encoding;
}

export function compilePostProcessor(part: PostProcessor | null): PostProcess {
  const process = part === null ? (texts: Encoding[]) => texts : compile(part);
  return {
    added: part === null ? [0, 0] : [addedBy(part, 'single'), addedBy(part, 'pair')],
    run: (texts, addSpecialTokens) => {
      return mergeEncodings(process(texts.map(numbered), addSpecialTokens));
    },
  };
}

/** Texts know which they are; so do their overflows. */
const numbered = (text: Encoding, i: number): Encoding => ({
  ...text,
  type_ids: text.ids.map(() => i),
  sequences: text.ids.map(() => i),
  overflowing: text.overflowing.map((part) => numbered(part, i)),
});

/** T5's template: one token behind each text. */
export const endOfSequence = (token: string, id: number): PostProcessor => {
  const text = (name: 'A' | 'B') => ({ Sequence: { id: name, type_id: 0 } });
  const end = { SpecialToken: { id: token, type_id: 0 } };
  return {
    type: 'TemplateProcessing',
    single: [text('A'), end],
    pair: [text('A'), end, text('B'), end],
    special_tokens: { [token]: { id: token, ids: [id], tokens: [token] } },
  };
};

function addedBy(part: PostProcessor, which: 'single' | 'pair'): number {
  switch (part.type) {
    case 'Sequence':
      return part.processors.reduce((sum, step) => sum + addedBy(step, which), 0);
    case 'TemplateProcessing':
      return part[which].reduce(
        (sum, piece) =>
          sum + ('SpecialToken' in piece ? (part.special_tokens[piece.SpecialToken.id]?.ids.length ?? 0) : 0),
        0,
      );
    case 'BertProcessing':
      return which === 'single' ? 2 : 3;
    case 'RobertaProcessing':
      return which === 'single' ? 2 : 4;
    case 'ByteLevel':
      return 0;
  }
}

function compile(part: PostProcessor): Process {
  switch (part.type) {
    case 'Sequence': {
      const steps = part.processors.map(compile);
      return (texts, add) => steps.reduce((now, step) => step(now, add), texts);
    }
    case 'TemplateProcessing':
      return (texts, add) =>
        (texts.length === 1 ? part.single : part.pair).flatMap((piece) => {
          if ('SpecialToken' in piece) {
            const { id, type_id } = piece.SpecialToken;
            const { tokens, ids } = part.special_tokens[id]!;
            return add ? [specialEncoding(tokens, ids, type_id)] : [];
          }
          const { id, type_id } = piece.Sequence;
          const text = texts[id === 'A' ? 0 : 1];
          return text ? [{ ...text, type_ids: text.type_ids.map(() => type_id) }] : [];
        });
    case 'BertProcessing': {
      const { cls, sep } = part;
      return (texts, add) => (!add ? texts : texts.map((text, i) => around(text, i === 0 ? [cls] : [], [sep], i)));
    }
    case 'RobertaProcessing': {
      const { cls, sep, trim_offsets, add_prefix_space } = part;
      return (texts, add) => {
        const flat = texts.map((text) => {
          const trimmed = trim_offsets ? trimOffsets(text, add_prefix_space) : text;
          return { ...trimmed, type_ids: trimmed.type_ids.map(() => 0) };
        });
        return add ? flat.map((text, i) => around(untyped(text), [i === 0 ? cls : sep], [sep], 0)) : flat;
      };
    }
    case 'ByteLevel':
      return (texts) => (part.trim_offsets ? texts.map((text) => trimOffsets(text, part.add_prefix_space)) : texts);
  }
}

const untyped = (text: Encoding): Encoding => ({
  ...text,
  type_ids: text.ids.map(() => 0),
  overflowing: text.overflowing.map(untyped),
});

type Token = readonly [string, number];

/** A text and each of its overflows between tokens. */
function around(text: Encoding, before: readonly Token[], behind: readonly Token[], type_id: number): Encoding {
  const special = (tokens: readonly Token[]) =>
    specialEncoding(
      tokens.map(([token]) => token),
      tokens.map(([, id]) => id),
      type_id,
    );
  return mergeEncodings([special(before), text, special(behind)]);
}

const isMark = (c: string | undefined) => c !== undefined && (c === BYTE_CHARACTERS[32] || isSpace(c));

/** Offsets without the spaces at the ends of a token. */
function trimOffsets(encoding: Encoding, addPrefixSpace: boolean): Encoding {
  const offsets = encoding.tokens.map((token, i): [number, number] => {
    let [start, end] = encoding.offsets[i]!;
    let leading = 0;
    while (isMark(token[leading])) leading++;
    let trailing = 0;
    while (isMark(token.at(-1 - trailing))) trailing++;
    if (leading > 0) {
      if ((i === 0 || start === 0) && addPrefixSpace && leading === 1) leading = 0;
      start = Math.min(start + leading, end);
    }
    if (trailing > 0 && end >= trailing) end = Math.max(end - trailing, start);
    return [start, end];
  });
  const overflowing = encoding.overflowing.map((part) => trimOffsets(part, addPrefixSpace));
  return { ...encoding, offsets, overflowing };
}
