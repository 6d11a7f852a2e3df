import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { findTokenizer } from '../tokenizer/find_tokenizer.ts';
import { UsageError } from '../util/errors.ts';
import { defineCommand, path, toggle } from './command.ts';

/** The arguments, or the lines of standard input. */
export async function* inputLines(given: readonly string[]): AsyncGenerator<string> {
  if (given.length > 0) yield* given;
  else
    for await (const line of createInterface({ input: process.stdin, crlfDelay: Number.POSITIVE_INFINITY })) yield line;
}

/** The arguments, or the lines of standard input as they arrive, those of one read together. */
async function* lineBatches(given: readonly string[]): AsyncGenerator<readonly string[]> {
  if (given.length > 0) {
    yield given;
    return;
  }
  let pending: string[] = []; // of a line that has not ended
  for await (const part of process.stdin.setEncoding('utf8') as AsyncIterable<string>) {
    const lines = part.split(/\r?\n/);
    pending.push(lines[0]!);
    if (lines.length === 1) continue;
    lines[0] = pending.join('').replace(/\r$/, '');
    pending = [lines.pop()!];
    yield lines;
  }
  const last = pending.join('');
  if (last !== '') yield [last];
}

export const tokenizerEncode = defineCommand({
  name: 'tokenizer encode',
  summary: 'Turn texts, arguments or lines of standard input, into token ids: one line each.',
  positionals: { usage: '[TEXT …]', doc: 'texts; the lines of standard input when there are none' },
  flags: {
    tokenizer: path('folder with a tokenizer, or a name on the hub'),
    pieces: toggle('print the pieces instead of their ids'),
    'no-special-tokens': toggle('leave the end of sequence out'),
  },
  async run(flags, texts) {
    const tokenizer = await findTokenizer(flags.tokenizer);
    for await (const batch of lineBatches(texts)) {
      const { ids, offsets } = tokenizer.encodeBatch(batch, { add_special_tokens: !flags['no-special-tokens'] });
      let shown = '';
      for (let i = 0; i < batch.length; i++) {
        const row = ids.subarray(offsets[i], offsets[i + 1]);
        shown += flags.pieces ? JSON.stringify(Array.from(row, (id) => tokenizer.id_to_token(id))) : row.join(' ');
        shown += '\n';
      }
      if (!process.stdout.write(shown)) await once(process.stdout, 'drain');
    }
  },
});

export const tokenizerDecode = defineCommand({
  name: 'tokenizer decode',
  summary: 'Turn lines of token ids into text, as JSON strings so that a text stays one line.',
  positionals: {
    usage: '[IDS …]',
    doc: 'ids apart by spaces, quoted together; the lines of standard input when there are none',
  },
  flags: {
    tokenizer: path('folder with a tokenizer, or a name on the hub'),
    'skip-special-tokens': toggle('leave special tokens out'),
  },
  async run(flags, lines) {
    const tokenizer = await findTokenizer(flags.tokenizer);
    for await (const line of inputLines(lines)) {
      const ids = line.split(/[\s,]+/).filter((word) => word !== '');
      const wrong = ids.find((word) => !/^\d+$/.test(word));
      if (wrong !== undefined)
        throw new UsageError(`tokenizer decode: "${wrong}" is not a token id, expected whole numbers`);
      console.log(
        JSON.stringify(tokenizer.decode(ids.map(Number), { skip_special_tokens: flags['skip-special-tokens'] })),
      );
    }
  },
});
