import { once } from 'node:events';
import type { TextLines } from '../data/read.ts';
import { UsageError } from '../util/errors.ts';
import { defineCommand, path, toggle } from './command.ts';
import { tokenizerAt } from './places.ts';
import { standardInputLines } from './standard_input.ts';

/** The arguments, or the lines of standard input as they arrive, those of one read together. */
async function* batchesOf(command: string, given: readonly string[]): AsyncGenerator<TextLines> {
  if (given.length > 0) yield { first: 1, lines: given };
  else yield* standardInputLines(command);
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
    const tokenizer = await tokenizerAt(flags.tokenizer);
    for await (const { lines: batch } of batchesOf('tokenizer encode', texts)) {
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
  async run(flags, given) {
    const tokenizer = await tokenizerAt(flags.tokenizer);
    for await (const { first, lines } of batchesOf('tokenizer decode', given))
      for (const [i, line] of lines.entries()) {
        const words = line.split(/[\s,]+/).filter((word) => word !== '');
        const wrong = words.find((word) => !/^\d+$/.test(word) || Number(word) >= tokenizer.vocab_size);
        if (wrong !== undefined)
          throw new UsageError(
            `tokenizer decode: line ${first + i}: "${wrong}" is not a token id, expected whole numbers below ${tokenizer.vocab_size}`,
          );
        console.log(
          JSON.stringify(tokenizer.decode(words.map(Number), { skip_special_tokens: flags['skip-special-tokens'] })),
        );
      }
  },
});
