import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { prepare } from '../../data/prepare.ts';
import { readDocuments } from '../../data/read.ts';
import { spansOf } from '../../eval/fill.ts';
import { heldOutLoss } from '../../eval/held_out.ts';
import { writeTexts } from '../../eval/texts.ts';
import { t5Config } from '../../model/config.ts';
import { parameterCount } from '../../model/parameter_table.ts';
import { T5ForConditionalGeneration } from '../../model/t5.ts';
import { openTokenizer } from '../../tokenizer/auto_tokenizer.ts';
import { trainTokenizer } from '../../tokenizer/train.ts';
import { newestCheckpoint } from '../../train/checkpoint.ts';
import type { TrainConfig } from '../../train/config.ts';
import { loadTrainConfig, printTrainConfig } from '../../train/config_file.ts';
import { documentEncoder } from '../../train/document_encoder.ts';
import { duration, type EvaluationRecord, readMetrics, type TrainRecord } from '../../train/metrics.ts';
import { pretrain } from '../../train/pretrain.ts';
import { LiveLine, type Reporter } from '../../train/reporter.ts';
import { UsageError } from '../../util/errors.ts';
import { lockFolder } from '../../util/lock.ts';
import { makeFolder, writeWhole } from '../../util/new_file.ts';
import { defineCommand, many, number, path } from '../command.ts';
import { progressText } from '../data.ts';
import { ProgressBar } from '../progress_bar.ts';
import { stopSignal } from '../signals.ts';
import { collectCorpus } from './corpus.ts';
import { planRun } from './plan.ts';
import { type ReportData, report } from './report.ts';
import { maskedSentences, question, score, spread } from './sentences.ts';
import { Stages } from './stages.ts';

const VOCABULARY = 4096;
const SENTINELS = 64;
/** Held-out sentences that the model is asked about, and how many of them are shown. */
const SENTENCES = 300;
const SHOWN = 6;
/** Seconds for what comes after the training. */
const RESERVE = 5;
const settingsFile = fileURLToPath(new URL('../../../../configs/tiny.yaml', import.meta.url));

const count = (n: number): string => Math.round(n).toLocaleString('en');

export const quickstart = defineCommand({
  name: 'quickstart',
  summary: 'From raw text to a small pre-trained T5 in minutes; goes on where it was interrupted.',
  flags: {
    corpus: many(
      path('text and JSON Lines files, folders or globs; the documentation of the installed packages when left out'),
    ),
    minutes: number('minutes that all of it may take', 5),
    output: path('folder for everything that is made', 'runs/quickstart'),
  },
  async run({ corpus, minutes, output }) {
    if (minutes <= 0) throw new UsageError(`quickstart: --minutes: expected more than 0, got ${minutes}`);
    const release = lockFolder(output, 'give another --output', '.quickstart.lock');
    try {
      await makeAll(output, corpus, minutes);
    } finally {
      release();
    }
  },
});

async function makeAll(output: string, corpus: readonly string[], minutes: number): Promise<void> {
  const stages = new Stages(output, corpus, minutes);
  const folders = {
    corpus: join(output, 'corpus'),
    tokenizer: join(output, 'tokenizer'),
    shards: join(output, 'shards'),
    plan: join(output, 'plan.yaml'),
  };
  await makeCorpus(stages, corpus, folders.corpus);
  await makeTokenizer(stages, folders.corpus, folders.tokenizer);
  await makeShards(stages, folders);
  await makePlan(stages, folders, 60 * minutes);
  const config = loadTrainConfig(folders.plan);
  if (!(await train(stages, config))) {
    console.log('interrupted; the same command goes on from here');
    process.exitCode = 130;
    return;
  }
  await finish(stages, config, folders.corpus);
}

async function makeCorpus(stages: Stages, sources: readonly string[], folder: string): Promise<void> {
  makeFolder(folder);
  const { documents, characters, heldOut, passages, cut } = await stages.run('corpus', async () => ({
    ...(await collectCorpus(sources, folder)),
  }));
  const from = sources.length > 0 ? sources.join(', ') : 'the documentation of the installed packages';
  say(1, 'corpus', `${count(documents)} documents, ${(characters / 1e6).toFixed(1)} M characters from ${from}`);
  say(
    0,
    '',
    `${heldOut} of ${count(passages)} passages are held out${cut ? '; the rest of the text is left out' : ''}`,
  );
}

async function makeTokenizer(stages: Stages, corpus: string, folder: string): Promise<void> {
  const { pieces, words } = await stages.run('tokenizer', async () => {
    const bar = new ProgressBar('tokenizer');
    const options = { vocab_size: VOCABULARY, sentinels: SENTINELS };
    const trained = await trainTokenizer(options, texts(join(corpus, 'train.jsonl')), (p) =>
      bar.update(p.pieces / p.vocab_size, `${p.pieces} pieces`),
    );
    bar.done();
    trained.tokenizer.save(folder);
    return { pieces: trained.tokenizer.vocab_size, words: trained.statistics.distinctWords };
  });
  say(2, 'tokenizer', `${count(pieces)} BPE pieces from ${count(words)} distinct words`);
}

async function* texts(file: string): AsyncGenerator<string> {
  for await (const record of readDocuments(file)) if ('text' in record) yield record.text;
}

async function makeShards(
  stages: Stages,
  folders: { corpus: string; tokenizer: string; shards: string },
): Promise<void> {
  const { tokens } = await stages.run('shards', async () => {
    const bar = new ProgressBar('tokens');
    const manifest = await prepare(
      {
        sources: [join(folders.corpus, 'train.jsonl')],
        validation_sources: [join(folders.corpus, 'validation.jsonl')],
        output: folders.shards,
        tokenizer: documentEncoder(openTokenizer(folders.tokenizer)),
      },
      { progress: (p) => bar.update(p.bytes / p.total_bytes, progressText(p)) },
    );
    bar.done();
    return { tokens: manifest.tokens };
  });
  say(3, 'tokens', `${count(tokens)} tokens in shards`);
}

async function makePlan(
  stages: Stages,
  folders: { tokenizer: string; shards: string; plan: string },
  budget: number,
): Promise<void> {
  await stages.run('plan', async () => {
    const left = Math.max(RESERVE, budget - stages.seconds - RESERVE);
    const config = await planRun(
      settingsFile,
      {
        name: basename(stages.folder),
        runs_directory: dirname(stages.folder),
        tokenizer: folders.tokenizer,
        'data.folder': folders.shards,
      },
      openTokenizer(folders.tokenizer),
      left,
    );
    writeWhole(folders.plan, printTrainConfig(config));
    return {};
  });
}

/** Trains to the end of the plan; false when somebody interrupted. */
async function train(stages: Stages, config: TrainConfig): Promise<boolean> {
  const { model, data, train: settings } = config;
  say(
    4,
    'model',
    `${count(parameterCount(t5Config(model)))} parameters, ${model.num_layers} + ${model.num_decoder_layers} layers of width ${model.d_model}`,
  );
  say(
    0,
    '',
    `${count(settings.steps)} steps of ${settings.rows} rows, ${data.max_length} + ${data.max_labels_length} tokens, UL2`,
  );
  const { finished } = await stages
    .run('training', async () => {
      const end = await pretrain(config, {
        reporter: new QuickstartReporter(),
        evaluate: heldOutLoss,
        signal: stopSignal(),
      });
      if (end === 'interrupted') throw new Interrupted();
      return { finished: true };
    })
    .catch((error: unknown) => {
      if (error instanceof Interrupted) return { finished: false };
      throw error;
    });
  return finished;
}

class Interrupted extends Error {}

/** Milliseconds between two lines of progress where there is no terminal. */
const SELDOM = 15_000;

/** The live line, and a line for each evaluation. */
class QuickstartReporter implements Reporter {
  private readonly out = new LiveLine();
  private shown = performance.now();

  progress(text: string): void {
    this.out.progress(`   ${text}`);
    if (process.stdout.isTTY || performance.now() - this.shown < SELDOM) return;
    this.shown = performance.now();
    this.out.line(`   ${text}`);
  }
  train(_record: TrainRecord): void {}
  evaluation({ step, nll, accuracy }: EvaluationRecord): void {
    this.out.line(
      `   step ${step}: held-out NLL ${nll.toFixed(3)}, ${(100 * accuracy).toFixed(1)} % of the target tokens right`,
    );
  }
  saved(_folder: string): void {}
  note(text: string): void {
    this.out.line(`   ${text}`);
  }
  done(): void {
    this.out.done();
  }
}

/** Fills sentences, writes the report, says how to go on. */
async function finish(stages: Stages, config: TrainConfig, corpus: string): Promise<void> {
  const output = stages.folder;
  const folder = newestCheckpoint(join(output, 'checkpoints'))!;
  const tokenizer = openTokenizer(folder);
  const model = await T5ForConditionalGeneration.from_pretrained(folder, { device: config.train.device });
  const sentences = maskedSentences(join(corpus, 'validation.jsonl'), SENTENCES);
  const options = { max_new_tokens: 12, mode: 'R' } as const;
  const written = sentences.length > 0 ? await writeTexts(model, tokenizer, sentences.map(question), options) : [];
  const answers = written.map((text) => spansOf(text).get(0) ?? '');
  const { right, of, frequent } = score(sentences, answers);
  const records = readMetrics(join(output, 'metrics.jsonl'));
  const held = records.filter((r): r is EvaluationRecord => r.kind === 'evaluation');
  say(5, 'result', `held-out NLL ${held[0]!.nll.toFixed(3)} before, ${held.at(-1)!.nll.toFixed(3)} after training`);
  if (of > 0)
    say(
      0,
      '',
      `${right} of ${of} masked words of held-out sentences right; always "${frequent.word}": ${frequent.right}`,
    );
  const fills = spread(sentences.length, SHOWN).map((i) => ({ ...sentences[i]!, answer: answers[i]! }));
  for (const { masked, word, answer } of fills) {
    const remark = answer === word ? 'right' : `was: ${word}`;
    say(0, '', `${masked.replace('<extra_id_0>', `[${answer || '…'}]`)}  (${remark})`);
  }
  const page = join(output, 'report.html');
  const commands = [
    {
      command: `npx fat5 generate ${output} "A text with a <extra_id_0> in it." --text`,
      why: 'Fill masks of your own.',
    },
    { command: `npx fat5 evaluate ${output}`, why: 'Measure the held-out loss again.' },
    {
      command: 'npx fat5 quickstart --corpus your/texts --output runs/mine --minutes 30',
      why: 'Your own text, and more time.',
    },
    {
      command: `npx fat5 pretrain ${join(output, 'config.yaml')} name=longer train.steps=20000`,
      why: 'The same model, trained for longer.',
    },
  ];
  const words = { right, of, frequent };
  writeWhole(page, report({ facts: factsOf(stages, config, model), records, fills, words, commands }));
  say(6, 'report', page);
  console.log(`\nGo on with:\n${commands.map(({ command }) => `  ${command}`).join('\n')}`);
}

function factsOf(
  stages: Stages,
  { model, data, train, optim }: TrainConfig,
  { config }: T5ForConditionalGeneration,
): ReportData['facts'] {
  const result = (stage: string, key: string) => count(Number(stages.get(stage)?.result[key] ?? 0));
  const time = (stage: string) => duration(stages.get(stage)?.seconds ?? 0);
  return {
    text: [
      ['documents', result('corpus', 'documents')],
      ['characters', result('corpus', 'characters')],
      ['passages held out', `${result('corpus', 'heldOut')} of ${result('corpus', 'passages')}`],
      ['tokens', result('shards', 'tokens')],
      ['vocabulary', `${result('tokenizer', 'pieces')} BPE pieces`],
    ],
    model: [
      ['parameters', count(parameterCount(config))],
      ['layers', `${config.num_layers} encoder, ${config.num_decoder_layers} decoder`],
      ['width', `${model.d_model}, ${model.num_heads} heads of ${model.d_kv}, feed-forward ${model.d_ff}`],
      ['objective', `UL2, ${data.max_length} + ${data.max_labels_length} tokens a row`],
      ['optimizer', `${optim.name}, ${optim.schedule.name} from ${optim.learning_rate}`],
      ['steps', `${count(train.steps)} of ${train.rows} rows`],
    ],
    time: [
      ['collecting text', time('corpus')],
      ['learning the vocabulary', time('tokenizer')],
      ['tokenizing', time('shards')],
      ['measuring speed', time('plan')],
    ],
  };
}

const labelWidth = 12;

/** One line of the story; number 0 continues the stage above. */
function say(number: number, label: string, text: string): void {
  console.log(`${number ? `${number}. ${label}`.padEnd(labelWidth + 3) : ''.padEnd(labelWidth + 3)}${text}`);
}
