/** GPT-2's writing of bytes as visible characters. */

const visible = (byte: number) => (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte !== 0xad);

/** The character of each byte. */
export const BYTE_CHARACTERS: readonly string[] = (() => {
  let next = 256;
  return Array.from({ length: 256 }, (_, byte) => String.fromCharCode(visible(byte) ? byte : next++));
})();

const bytes = new Map(BYTE_CHARACTERS.map((character, byte) => [character, byte]));

/** The bytes that a piece spells, or undefined when a character of it stands for none. */
export function spelledBytes(piece: string): number[] | undefined {
  const found: number[] = [];
  for (const c of piece) {
    const byte = bytes.get(c);
    if (byte === undefined) return undefined;
    found.push(byte);
  }
  return found;
}
