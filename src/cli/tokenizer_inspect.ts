import { basename } from 'node:path';
import { expandSources } from '../data/glob.ts';
import { readDocuments } from '../data/read.ts';
import { TokenizerMeter, type TokenizerStatistics } from '../tokenizer/statistics.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import { defineCommand, many, optional, path, text } from './command.ts';
import { tokenizerAt } from './places.ts';
import { ProgressBar } from './progress_bar.ts';

const percent = (share: number) => `${(100 * share).toFixed(share > 0 && share < 0.001 ? 4 : 2)} %`;
const ratio = (a: number, b: number) => (b === 0 ? '-' : (a / b).toFixed(3));

/** What is known about a tokenizer without any text. */
function summary(folder: string, { file, vocab_size, sentinels, modeTokens }: Tokenizer): string {
  const { type } = file.model;
  const special = file.added_tokens.filter((token) => token.special).length;
  const modes = modeTokens ? ', mode tokens' : '';
  return `${folder}: ${type}, ${vocab_size} pieces, ${special} of them special (${sentinels.length} sentinels${modes})`;
}

const columns = [
  ...['text', 'MB', 'words', 'tokens', 'tokens/word', 'bytes/token'],
  ...['coverage', 'unknown', 'bytes', 'pieces used'],
];

function row(name: string, found: TokenizerStatistics, vocabSize: number): string[] {
  const { bytes, words, characters, known, tokens, unknown, byteTokens, used } = found;
  const share = (count: number) => (tokens === 0 ? '-' : percent(count / tokens));
  return [
    name,
    (bytes / 1e6).toFixed(2),
    `${words}`,
    `${tokens}`,
    ratio(tokens, words),
    ratio(bytes, tokens),
    characters === 0 ? '-' : percent(known / characters),
    share(unknown),
    share(byteTokens),
    percent(used / vocabSize),
  ];
}

/** Lines of aligned columns, the first to the left, numbers to the right. */
function aligned(rows: string[][]): string[] {
  const widths = rows[0]!.map((_, i) => Math.max(...rows.map((cells) => cells[i]!.length)));
  return rows.map((cells) =>
    cells
      .map((cell, i) => (i === 0 ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!)))
      .join('  ')
      .trimEnd(),
  );
}

function change(name: string, ours: number, theirs: number): string {
  const more = ours / theirs - 1;
  return `${name}: ${ours} tokens against ${theirs}, ${percent(Math.abs(more))} ${more <= 0 ? 'fewer' : 'more'}`;
}

export const tokenizerInspect = defineCommand({
  name: 'tokenizer inspect',
  summary: 'Show how texts are cut into pieces, and how well a tokenizer fits corpora, against another if wished.',
  positionals: { usage: '[TEXT …]', doc: 'texts to show the pieces of' },
  flags: {
    tokenizer: path('folder with a tokenizer, its file, or a name on the hub'),
    against: optional(path('another one to compare with')),
    corpus: many(path('files to count, one row each: one file per language; folders and globs too')),
    field: text('JSON Lines: the field with the text', 'text'),
  },
  details: () =>
    [
      'tokens/word (fertility): how many pieces a word, a run without spaces, is cut into',
      'coverage: share of the characters that the vocabulary can spell',
      'unknown: share of the tokens that lose their text; bytes: share that spell characters outside the vocabulary',
    ].join('\n'),
  async run({ tokenizer: folder, against, corpus, field }, texts) {
    const folders = against === undefined ? [folder] : [folder, against];
    const tokenizers = await Promise.all(folders.map((each) => tokenizerAt(each)));
    tokenizers.forEach((tokenizer, i) => {
      console.log(summary(folders[i]!, tokenizer));
    });
    for (const each of texts)
      for (const [i, tokenizer] of tokenizers.entries()) {
        const ids = tokenizer.encode(each, { add_special_tokens: false });
        const pieces = ids.map((id) => tokenizer.id_to_token(id) ?? '').join(' | ');
        console.log(`${i === 0 ? '' : `${folders[i]}: `}${ids.length} pieces: ${pieces}`);
      }
    if (corpus.length === 0) return;
    const bar = new ProgressBar('tokenizer');
    const rows = [columns];
    const changes: string[] = [];
    for (const source of expandSources(corpus)) {
      const meters = tokenizers.map((tokenizer) => new TokenizerMeter(tokenizer));
      for await (const record of readDocuments(source.path, { field }))
        if ('text' in record)
          for (const meter of meters) {
            meter.add(record.text);
            bar.update(undefined, source.path);
          }
      const found = meters.map((meter) => meter.result());
      const name = basename(source.path);
      found.forEach((statistics, i) => {
        rows.push(row(i === 0 ? name : `  ${folders[i]}`, statistics, tokenizers[i]!.vocab_size));
      });
      if (found.length > 1) changes.push(change(name, found[0]!.tokens, found[1]!.tokens));
    }
    bar.done();
    console.log(['', ...aligned(rows), ...changes].join('\n'));
  },
});
