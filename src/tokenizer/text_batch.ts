/** Many texts in one buffer, as native code takes them. */
import { UsageError } from '../util/errors.ts';

/** Texts one after the other in UTF-8: text i is bytes[offsets[i] … offsets[i+1]), and offsets has one entry more than there are texts. */
export interface TextBatch {
  bytes: Uint8Array;
  offsets: Uint32Array;
}

const BATCH_BYTES = 1 << 30;
const utf8 = new TextEncoder();

export function joinTexts(texts: readonly string[]): TextBatch {
  const parts = texts.map((text) => utf8.encode(text));
  const offsets = new Uint32Array(texts.length + 1);
  let total = 0;
  parts.forEach((part, i) => {
    offsets[i + 1] = total += part.length;
  });
  if (total > BATCH_BYTES) throw tooLarge(total);
  if (parts.length === 1) return { bytes: parts[0]!, offsets };
  const bytes = new Uint8Array(total);
  parts.forEach((part, i) => {
    bytes.set(part, offsets[i]);
  });
  return { bytes, offsets };
}

/** The texts as strings; bytes that are not UTF-8 become U+FFFD. */
export function textsOf(bytes: Uint8Array, offsets: Uint32Array): string[] {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return Array.from({ length: offsets.length - 1 }, (_, i) => buffer.toString('utf8', offsets[i], offsets[i + 1]));
}

const tooLarge = (bytes: number) =>
  new UsageError(`encodeBatch: ${bytes} bytes of text, expected at most ${BATCH_BYTES}; encode fewer texts at a time`);

/** Bytes of all texts. Native code trusts what this has checked. */
export function checkOffsets(bytes: Uint8Array, offsets: Uint32Array): number {
  if (offsets.length === 0) throw new UsageError('encodeBatch: offsets is empty, expected one entry more than texts');
  for (let i = 1; i < offsets.length; i++)
    if (offsets[i]! < offsets[i - 1]!)
      throw new UsageError(`encodeBatch: offsets[${i}] is ${offsets[i]}, expected at least ${offsets[i - 1]}`);
  if (offsets.at(-1)! > bytes.length)
    throw new UsageError(`encodeBatch: offsets end at ${offsets.at(-1)}, the text has ${bytes.length} bytes`);
  const size = offsets.at(-1)! - offsets[0]!;
  if (size > BATCH_BYTES) throw tooLarge(size);
  return size;
}
