/** The decoders of tokenizer.json: pieces to text. */
import type { Decoder } from '../schema.ts';
import { spelledBytes } from './byte_level.ts';
import { prependScheme } from './pre_tokenizers.ts';
import { compilePattern } from './regex.ts';

type Decode = (pieces: string[]) => string[];

/** The text of pieces. Without a decoder they are separated by spaces. @throws FormatError for a pattern */
export function compileDecoder(part: Decoder | null, who: string): (pieces: string[]) => string {
  if (part === null) return (pieces) => pieces.join(' ');
  const decode = compile(part, who);
  return (pieces) => decode(pieces).join('');
}

function compile(part: Decoder, who: string): Decode {
  switch (part.type) {
    case 'Sequence': {
      const steps = part.decoders.map((step) => compile(step, who));
      return (pieces) => steps.reduce((now, step) => step(now), pieces);
    }
    case 'ByteLevel':
      return (pieces) => {
        const bytes = pieces.map((piece) => {
          const spelled = spelledBytes(piece);
          return spelled ? Buffer.from(spelled) : Buffer.from(piece);
        });
        return [Buffer.concat(bytes).toString()];
      };
    case 'Metaspace': {
      const keepsFirst = prependScheme(part) === 'never';
      return (pieces) =>
        pieces.map((piece, i) => piece.replaceAll(part.replacement, i === 0 && !keepsFirst ? '' : ' '));
    }
    case 'ByteFallback':
      return byteFallback;
    case 'Fuse':
      return (pieces) => [pieces.join('')];
    case 'Replace': {
      const pattern = compilePattern(part.pattern, who);
      return (pieces) => pieces.map((piece) => piece.replace(pattern, () => part.content));
    }
    case 'WordPiece':
      return (pieces) =>
        pieces.map((piece, i) => {
          const joined =
            i === 0 ? piece : piece.startsWith(part.prefix) ? piece.slice(part.prefix.length) : ` ${piece}`;
          return part.cleanup ? cleanUpWords(joined) : joined;
        });
    case 'BPEDecoder':
      return (pieces) => pieces.map((piece, i) => piece.replaceAll(part.suffix, i === pieces.length - 1 ? '' : ' '));
    case 'Strip':
      return (pieces) => pieces.map((piece) => strip(piece, part.content, part.start, part.stop));
    case 'CTC':
      return (pieces) =>
        pieces
          .filter((piece, i) => i === 0 || piece !== pieces[i - 1])
          .map((piece) => {
            const text = piece.replaceAll(part.pad_token, '');
            return part.cleanup ? cleanUpWords(text).replaceAll(part.word_delimiter_token, ' ') : text;
          })
          .filter((text) => text !== '');
  }
}

const BYTE = /^<0x(?:[0-9A-Fa-f]{2}|\+[0-9A-Fa-f])>$/;
const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** Joins runs of byte tokens into the characters they spell; a run that is not UTF-8 gives one U+FFFD per byte. */
function byteFallback(pieces: string[]): string[] {
  const joined: string[] = [];
  let run: number[] = [];
  const flush = () => {
    if (run.length === 0) return;
    try {
      joined.push(utf8.decode(Uint8Array.from(run)));
    } catch {
      for (let i = 0; i < run.length; i++) joined.push('\ufffd');
    }
    run = [];
  };
  for (const piece of pieces) {
    if (BYTE.test(piece)) run.push(Number.parseInt(piece.slice(3, 5), 16));
    else {
      flush();
      joined.push(piece);
    }
  }
  flush();
  return joined;
}

/** Takes up to `start` and `stop` times a character off the ends. */
function strip(piece: string, content: string, start: number, stop: number): string {
  const characters = [...piece];
  let from = 0;
  while (from < start && characters[from] === content) from++;
  let to = characters.length;
  while (to > from && characters.length - to < stop && characters[to - 1] === content) to--;
  return characters.slice(from, to).join('');
}

/** English without the spaces that a word tokenizer leaves: transformers' clean_up_tokenization_spaces. */
export function cleanUp(text: string): string {
  const steps: [string, string][] = [
    [' .', '.'],
    [' ?', '?'],
    [' !', '!'],
    [' ,', ','],
    [" ' ", "'"],
    [" n't", "n't"],
    [" 'm", "'m"],
    [" 's", "'s"],
    [" 've", "'ve"],
    [" 're", "'re"],
  ];
  return steps.reduce((now, [from, to]) => now.replaceAll(from, to), text);
}

/** What the decoders WordPiece and CTC make of it. */
const cleanUpWords = (text: string) => cleanUp(text).replaceAll(' do not', " don't");
