/** Token pieces to text, as the decoders of Hugging Face tokenizers do it. */
import type { DecoderStep } from './tokenizer_json.ts';

const BYTE = /^<0x[0-9A-Fa-f]{2}>$/;
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
      joined.push('\ufffd'.repeat(run.length));
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

/** The text of pieces. Without a decoder they are separated by spaces. */
export function decodePieces(pieces: string[], steps: readonly DecoderStep[] | null): string {
  if (steps === null) return pieces.join(' ');
  for (const step of steps) pieces = step === 'ByteFallback' ? byteFallback(pieces) : [pieces.join('')];
  return pieces.join('');
}
