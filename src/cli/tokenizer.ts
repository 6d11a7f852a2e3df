import { createInterface } from 'node:readline';
import { expandSources } from '../data/glob.ts';
import { readDocuments } from '../data/read.ts';
import { openTokenizer } from '../tokenizer/auto_tokenizer.ts';
import { recipes } from '../tokenizer/recipes.ts';
import { trainTokenizer } from '../tokenizer/train.ts';
import { UsageError } from '../util/errors.ts';
import { choice, defineCommand, integer, many, number, path, text, toggle } from './command.ts';
import { ProgressBar } from './progress_bar.ts';

const megabytes = (bytes: number) => `${(bytes / 1e6).toFixed(1)} MB`;

async function* documentsOf(sources: readonly string[], field: string): AsyncGenerator<string> {
  for (const { path: file } of expandSources(sources))
    for await (const record of readDocuments(file, { field })) if ('text' in record) yield record.text;
}

export const tokenizerTrain = defineCommand({
  name: 'tokenizer train',
  summary: "Learn a BPE vocabulary from text by FAT5's recipe; writes tokenizer.json.",
  positionals: {
    usage: 'SOURCE…',
    doc: 'text and JSON Lines files (plain, .gz, .zst), folders, globs, - for standard input',
  },
  flags: {
    output: path('folder to write'),
    'vocab-size': integer('pieces in all, special tokens included', 32768),
    recipe: choice("order of the special tokens: FAT5's or T5's", recipes, 'fat5'),
    sentinels: integer('tokens <extra_id_0> … that mark masked spans', 256),
    'special-tokens': many(text('further special tokens')),
    'min-frequency': integer('pairs that occur less often are not merged', 2),
    'max-token-length': integer('pieces stay below this many characters', 20),
    'character-coverage': number('share of the text that the alphabet covers; the rest becomes bytes', 0.9999),
    field: text('JSON Lines: the field with the text', 'text'),
  },
  async run(flags, sources) {
    const bar = new ProgressBar('tokenizer');
    const { tokenizer, notes, statistics } = await trainTokenizer(
      {
        vocab_size: flags['vocab-size'],
        recipe: flags.recipe,
        sentinels: flags.sentinels,
        special_tokens: flags['special-tokens'],
        min_frequency: flags['min-frequency'],
        max_token_length: flags['max-token-length'],
        character_coverage: flags['character-coverage'],
      },
      documentsOf(sources, flags.field),
      ({ stage, bytes, pieces, vocab_size }) =>
        bar.update(
          stage === 'reading' ? undefined : pieces / vocab_size,
          stage === 'reading' ? `read ${megabytes(bytes)}` : `${pieces} of ${vocab_size} pieces`,
        ),
    );
    bar.done();
    for (const note of notes) console.error(`note: ${note}`);
    tokenizer.save(flags.output);
    const { documents, bytes, distinctWords } = statistics;
    console.log(
      `${flags.output}: ${tokenizer.vocab_size} pieces from ${documents} documents, ${megabytes(bytes)}, ${distinctWords} distinct words`,
    );
  },
});

/** The arguments, or the lines of standard input. */
export async function* inputLines(given: readonly string[]): AsyncGenerator<string> {
  if (given.length > 0) yield* given;
  else
    for await (const line of createInterface({ input: process.stdin, crlfDelay: Number.POSITIVE_INFINITY })) yield line;
}

export const tokenizerEncode = defineCommand({
  name: 'tokenizer encode',
  summary: 'Turn texts, arguments or lines of standard input, into token ids: one line each.',
  positionals: { usage: '[TEXT …]', doc: 'texts; the lines of standard input when there are none' },
  flags: {
    tokenizer: path('folder with tokenizer.json'),
    pieces: toggle('print the pieces instead of their ids'),
    'no-special-tokens': toggle('leave the end of sequence out'),
  },
  async run(flags, texts) {
    const tokenizer = openTokenizer(flags.tokenizer);
    for await (const line of inputLines(texts)) {
      const ids = tokenizer.encode(line, { add_special_tokens: !flags['no-special-tokens'] });
      console.log(flags.pieces ? JSON.stringify(ids.map((id) => tokenizer.id_to_token(id))) : ids.join(' '));
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
    tokenizer: path('folder with tokenizer.json'),
    'skip-special-tokens': toggle('leave special tokens out'),
  },
  async run(flags, lines) {
    const tokenizer = openTokenizer(flags.tokenizer);
    for await (const line of inputLines(lines)) {
      const ids = line.split(/[\s,]+/).filter((word) => word !== '');
      const wrong = ids.find((word) => !/^\d+$/.test(word));
      if (wrong !== undefined) throw new UsageError(`tokenizer decode: "${wrong}" is not a token id`);
      console.log(
        JSON.stringify(tokenizer.decode(ids.map(Number), { skip_special_tokens: flags['skip-special-tokens'] })),
      );
    }
  },
});
