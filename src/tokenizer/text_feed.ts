/** Gathers documents into large pieces of UTF-8 for native code. */

const CHUNK_BYTES = 16 << 20;
const utf8 = new TextEncoder();

/** Calls `send` with full chunks; text i of a chunk is bytes[offsets[i] … offsets[i+1]). The arrays are reused. */
export class TextFeed {
  private readonly send: (bytes: Uint8Array, offsets: Uint32Array) => void;
  private readonly chunk = new Uint8Array(CHUNK_BYTES);
  private ends: number[] = [0];

  constructor(send: (bytes: Uint8Array, offsets: Uint32Array) => void) {
    this.send = send;
  }

  add(text: string | Uint8Array): void {
    let rest = typeof text === 'string' ? utf8.encode(text) : text;
    while (rest.length > CHUNK_BYTES) {
      const end = cutPoint(rest);
      this.append(rest.subarray(0, end));
      rest = rest.subarray(end);
    }
    this.append(rest);
  }

  private append(bytes: Uint8Array): void {
    if (this.ends.at(-1)! + bytes.length > CHUNK_BYTES) this.flush();
    const start = this.ends.at(-1)!;
    this.chunk.set(bytes, start);
    this.ends.push(start + bytes.length);
  }

  flush(): void {
    if (this.ends.length > 1) this.send(this.chunk.subarray(0, this.ends.at(-1)), Uint32Array.from(this.ends));
    this.ends = [0];
  }
}

/** Where to cut a document that is longer than a chunk: behind a line, else between characters. */
function cutPoint(bytes: Uint8Array): number {
  const line = bytes.lastIndexOf(10, CHUNK_BYTES - 1);
  if (line > 0) return line + 1;
  let end = CHUNK_BYTES;
  while (end > CHUNK_BYTES - 4 && (bytes[end]! & 0xc0) === 0x80) end--;
  return end;
}
