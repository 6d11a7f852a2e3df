/** sentencepiece's normalizer: rules, spaces, marks. Source: google/sentencepiece, normalizer.cc. */
import { PieceType, type SentencePieceModel } from '../sentencepiece_model.ts';
import { Charsmap } from './charsmap.ts';
import { NormalizedText } from './normalized_text.ts';

/** What stands for a space. */
export const spaceMark = '\u2581';

/** Normalizes a text; prefix: with the space in front that the model asks for. `path` is for messages. */
export function spNormalizer(
  model: SentencePieceModel,
  path: string,
): (text: NormalizedText, prefix: boolean) => NormalizedText {
  const { precompiled_charsmap, add_dummy_prefix, remove_extra_whitespaces, escape_whitespaces } =
    model.normalizer_spec;
  const asSuffix = model.trainer_spec.treat_whitespace_as_suffix;
  const charsmap = precompiled_charsmap.length > 0 ? new Charsmap(precompiled_charsmap, path) : undefined;
  const matchUser = userSymbols(model.pieces);
  const space = escape_whitespaces ? spaceMark : ' ';

  return (text, prefix) => {
    const bytes = charsmap && Buffer.from(text.text);
    let out = '';
    const places: number[] = []; // unit of the text that a unit of `out` starts at
    let unit = 0;
    let byte = 0;
    const put = (what: string, at: number) => {
      for (let i = 0; i < what.length; i++) places.push(at);
      out += what;
    };
    /** Moves on and gives what stands for the text that was passed. */
    const next = (): string => {
      const user = matchUser(text.text, unit);
      const start = unit;
      const rule = user === 0 ? charsmap?.longest(bytes!, byte) : undefined;
      const stop = rule && byte + rule.length;
      do {
        const c = text.text.codePointAt(unit)!;
        unit += c > 0xffff ? 2 : 1;
        byte += c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
      } while (stop !== undefined ? byte < stop : unit < start + user);
      return rule ? rule.replacement : text.text.slice(start, unit);
    };
    const { length } = text.text;
    if (remove_extra_whitespaces)
      while (unit < length) {
        const before: [number, number] = [unit, byte];
        if (next() === ' ') continue;
        [unit, byte] = before;
        break;
      }
    if (unit === length) return new NormalizedText('', new Int32Array(), new Int32Array(), text.from);
    const dummy = prefix && add_dummy_prefix;
    if (dummy && !asSuffix) put(space, unit);
    let afterSpace = remove_extra_whitespaces;
    while (unit < length) {
      const start = unit;
      let piece = next();
      if (afterSpace) piece = piece.replace(/^ +/, '');
      if (piece === '') continue;
      afterSpace = remove_extra_whitespaces && piece.endsWith(' ');
      put(escape_whitespaces ? piece.replaceAll(' ', spaceMark) : piece, start);
    }
    let end = out.length;
    if (remove_extra_whitespaces) while (end > 0 && out.startsWith(space, end - space.length)) end -= space.length;
    const last = places[end] ?? length;
    out = out.slice(0, end);
    places.length = end;
    if (dummy && asSuffix) put(space, last);
    return aligned(text, out, places, last);
  };
}

/** A piece ends where the next one starts, as sentencepiece counts. */
function aligned(text: NormalizedText, out: string, places: number[], last: number): NormalizedText {
  const original = (unit: number) => text.starts[unit] ?? text.ends[unit - 1] ?? text.from;
  const starts = Int32Array.from(places, original);
  const ends = Int32Array.from(places, (_, i) => original(places[i + 1] ?? last));
  return new NormalizedText(out, starts, ends, text.from);
}

/** The length of the longest user-defined symbol at a place, 0 for none. */
export function userSymbols(pieces: SentencePieceModel['pieces']): (text: string, at: number) => number {
  const byFirst = new Map<string, string[]>();
  for (const { piece, type } of pieces)
    if (type === PieceType.USER_DEFINED) byFirst.set(piece[0]!, [...(byFirst.get(piece[0]!) ?? []), piece]);
  for (const list of byFirst.values()) list.sort((a, b) => b.length - a.length);
  return (text, at) => byFirst.get(text[at]!)?.find((piece) => text.startsWith(piece, at))?.length ?? 0;
}
