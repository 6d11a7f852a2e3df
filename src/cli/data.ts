import { type PrepareOptions, type PrepareProgress, prepare } from '../data/prepare.ts';
import { documentEncoder } from '../train/document_encoder.ts';
import { choice, defineCommand, integer, many, path, text, toggle } from './command.ts';
import { tokenizerAt } from './places.ts';
import { ProgressBar } from './progress_bar.ts';
import { stopSignal } from './signals.ts';

const automatic = 'auto';

export const dataPrepare = defineCommand({
  name: 'data prepare',
  summary: 'Turn text into token shards; goes on where an interrupted run stopped.',
  positionals: {
    usage: 'SOURCE…',
    doc: 'text and JSON Lines files (plain, .gz, .zst), folders, globs, - for standard input',
  },
  flags: {
    tokenizer: path('folder with a tokenizer, or a name on the hub'),
    output: path('folder to write'),
    validation: many(path('held-out sources')),
    'validation-every': integer('hold about one document in this many out; 0: none', 0),
    format: choice("of every source; auto: by the file's name", [automatic, 'text', 'jsonl'], automatic),
    document: choice(
      'text: what one document is; auto: a file, a line of standard input',
      [automatic, 'file', 'line', 'blank-line'],
      automatic,
    ),
    field: text('JSON Lines: the field with the text', 'text'),
    'skip-bad': toggle('count unusable lines and leave them out'),
    'shard-tokens': integer('tokens after which a shard ends', 2 ** 27),
  },
  async run(flags, sources) {
    const options: PrepareOptions = {
      sources,
      validation_sources: flags.validation,
      validation_every: flags['validation-every'],
      output: flags.output,
      tokenizer: documentEncoder(await tokenizerAt(flags.tokenizer)),
      field: flags.field,
      skip_bad: flags['skip-bad'],
      shard_tokens: flags['shard-tokens'],
      ...(flags.format !== automatic && { format: flags.format }),
      ...(flags.document !== automatic && { document: flags.document }),
    };
    const bar = new ProgressBar('data');
    const { documents, tokens, bad, empty, complete } = await prepare(options, {
      progress: (p) => bar.update(p.total_bytes > 0 ? p.bytes / p.total_bytes : undefined, progressText(p)),
      bad: (message) => console.error(`bad: ${message}`),
      signal: stopSignal('finished shards stay'),
    }).finally(() => bar.done());
    if (!complete) {
      console.log(`interrupted after ${documents} documents in finished shards; the same command goes on from there`);
      process.exitCode = 130;
      return;
    }
    const left = [bad > 0 && `${bad} bad`, empty > 0 && `${empty} empty`].filter(Boolean).join(' and ');
    console.log(`${flags.output}: ${documents} documents, ${tokens} tokens${left && `; ${left} left out`}`);
  },
});

/** What a progress line says. */
export function progressText({ documents, tokens, bad, seconds }: PrepareProgress): string {
  const million = (n: number) => `${(n / 1e6).toFixed(1)} M`;
  const speed = seconds > 0 ? `  ${million(tokens / seconds)} tokens/s` : '';
  return `${documents} documents  ${million(tokens)} tokens${speed}${bad > 0 ? `  ${bad} bad` : ''}`;
}
