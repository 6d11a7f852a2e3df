/** pipeline(task, model): exact shapes, and values that can be worked out by hand. */
import assert from 'node:assert/strict';
import { copyFileSync, cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { pipeline, T5EncoderModel, T5ForConditionalGeneration } from '../src/index.ts';
import { T5ForQuestionAnswering, T5ForSequenceClassification, T5ForTokenClassification } from '../src/model/heads.ts';
import type { PretrainedT5 } from '../src/model/pretrained.ts';
import { idOf, lookupConfig, makeLookup, saveTokenizer, tokenizerOf } from './lookup_model.ts';

const folder = mkdtempSync(join(tmpdir(), 'fat5-pipelines-'));
const at = (name: string) => join(folder, name);
const device = 'cpu';
after(() => rmSync(folder, { recursive: true }));

/** Saves a model with its tokenizer under a name. */
async function save(name: string, model: PretrainedT5, tokenizer: object = {}): Promise<void> {
  saveTokenizer(at(name), tokenizer);
  await model.save_pretrained(at(name));
  model.dispose();
}

const close = (got: number, wanted: number, what = '') =>
  assert.ok(Math.abs(got - wanted) < 1e-4, `${what} ${got}, expected ${wanted}`);
const softmax = (logits: readonly number[]) => {
  const powers = logits.map(Math.exp);
  return powers.map((x) => x / powers.reduce((a, b) => a + b));
};
const named = (labels: string[]) => ({
  num_labels: labels.length,
  id2label: Object.fromEntries(labels.map((label, i) => [i, label])),
});
/** Largest logit `score` at class i of n. */
const peak = (n: number, i: number, score: number) => Array.from({ length: n }, (_, k) => (k === i ? score : 0));

describe('token-classification', () => {
  const labels = ['O', 'B-PER', 'I-PER', 'B-LOC', 'I-LOC'];
  const surest = softmax(peak(5, 0, 3))[0]!;
  const sure = softmax(peak(5, 0, 2))[0]!;
  before(async () => {
    const model = T5ForTokenClassification.from_config({ ...lookupConfig, ...named(labels) }, { device });
    const table = {
      '▁Ada': peak(5, 1, 3),
      '▁Love': peak(5, 2, 2),
      lace: peak(5, 3, 3), // wrong, and surer than the word's first token
      '▁New': peak(5, 3, 3),
      '▁York': peak(5, 4, 2),
      '▁Lon': peak(5, 3, 2),
      don: peak(5, 3, 3),
    };
    makeLookup(model, 'classifier', table, peak(5, 0, 3));
    await save('ner', model);
  });
  const text = '😀 Ada Lovelace lives in London';

  test('gives tokens with their characters', async () => {
    const classify = await pipeline('token-classification', at('ner'), { device });
    const found = await classify(text);
    assert.deepEqual(
      found.map(({ entity, index, word, start, end }) => [entity, index, word, start, end]),
      [
        ['B-PER', 2, 'Ada', 3, 6],
        ['I-PER', 3, 'Love', 7, 11],
        ['B-LOC', 4, 'lace', 11, 15],
        ['B-LOC', 7, 'Lon', 25, 28],
        ['B-LOC', 8, 'don', 28, 31],
      ],
    );
    for (const { start, end, word } of found) assert.equal(text.slice(start, end), word);
    close(found[0]!.score, surest);
    close(found[1]!.score, sure);
    assert.equal((await classify('in', { ignore_labels: [] }))[0]!.entity, 'O');
    await classify.dispose();
  });

  test('lets a piece that is only a space speak for its word, but not for itself', async () => {
    const model = T5ForTokenClassification.from_config({ ...lookupConfig, ...named(labels) }, { device });
    makeLookup(model, 'classifier', { '▁': peak(5, 3, 3) }, peak(5, 0, 3));
    await save('space', model);
    const classify = await pipeline('ner', at('space'), { device });
    const [only, ...others] = await classify('in 😀 ', { aggregation_strategy: 'first' });
    assert.deepEqual([others.length, only!.entity_group, only!.word, only!.start], [0, 'LOC', '😀', 3]);
    assert.deepEqual(await classify('in 😀 ', { aggregation_strategy: 'simple' }), []);
    assert.deepEqual(await classify('in 😀 '), []);
    await classify.dispose();
  });

  const groups = {
    simple: [
      ['PER', '😀'.length + 1, 11, (surest + sure) / 2],
      ['LOC', 11, 15, surest],
      ['LOC', 25, 28, sure],
      ['LOC', 28, 31, surest],
    ],
    first: [
      ['PER', 3, 15, (surest + sure) / 2],
      ['LOC', 25, 31, sure],
    ],
    max: [
      ['PER', 3, 6, surest],
      ['LOC', 7, 15, surest],
      ['LOC', 25, 31, surest],
    ],
    average: [
      ['PER', 3, 6, surest],
      ['LOC', 7, 15, (surest + softmax(peak(5, 2, 2))[3]!) / 2],
      ['LOC', 25, 31, (surest + sure) / 2],
    ],
  } as const;
  for (const [strategy, wanted] of Object.entries(groups))
    test(`groups entities by "${strategy}"`, async () => {
      const classify = await pipeline('ner', at('ner'), { device });
      const found = await classify(text, { aggregation_strategy: strategy as keyof typeof groups });
      assert.deepEqual(
        found.map(({ entity_group, start, end, word }) => [entity_group, start, end, word]),
        wanted.map(([group, start, end]) => [group, start, end, text.slice(start, end)]),
      );
      for (const [i, { score }] of found.entries()) close(score, wanted[i]![3], strategy);
      await classify.dispose();
    });
});

describe('question-answering', () => {
  before(async () => {
    const model = T5ForQuestionAnswering.from_config(lookupConfig, { device });
    const table = {
      '▁New': [4, 0],
      '▁York': [0, 4],
      '▁Lon': [3, 0],
      don: [0, 3],
      '▁where': [2, 2], // position 0: no answer
      '▁bad': [0, 5], // an end before every start
    };
    makeLookup(model, 'qa_outputs', table, [0, 0]);
    await save('qa', model);
  });

  test('finds the likeliest span of the context', async () => {
    const answer = await pipeline('question-answering', at('qa'), { device });
    // softmax over "no answer" and the four tokens of the context, of start and of end
    const start = softmax([2, 0, 0, 4, 0]);
    const end = softmax([2, 0, 0, 0, 4]);
    const found = await answer('where', 'Ada in New York');
    close(found.score, start[3]! * end[4]!);
    assert.deepEqual({ ...found, score: 0 }, { answer: 'New York', score: 0, start: 7, end: 15 });
    const [same] = await answer(['where'], ['Ada in New York']);
    assert.deepEqual(same, found);
    await answer.dispose();
  });

  test('gives several answers, none that ends before it starts, and none that is too long', async () => {
    const answer = await pipeline('question-answering', at('qa'), { device });
    const context = 'bad New York in London';
    const found = await answer('where', context, { top_k: 3 });
    assert.deepEqual(
      found.map((one) => one.answer),
      ['New York', 'New York in London', 'London'],
    );
    for (const { answer: text, start, end } of found) assert.equal(context.slice(start, end), text);
    const short = await answer('where', context, { top_k: 3, max_answer_len: 2 });
    assert.deepEqual(short.map((one) => one.answer).slice(0, 2), ['New York', 'London']);
    await answer.dispose();
  });

  test('reads long contexts in windows that overlap', async () => {
    const answer = await pipeline('question-answering', at('qa'), { device });
    const context = `${'in '.repeat(40)}New York${' in'.repeat(37)}`;
    for (const [max_seq_len, doc_stride] of [
      [10, 3],
      [16, 5],
      [384, 128],
    ]) {
      const found = await answer('where', context, { max_seq_len: max_seq_len!, doc_stride: doc_stride! });
      assert.deepEqual([found.answer, found.start, found.end], ['New York', 120, 128], `${max_seq_len}`);
    }
    const all = await answer('where', context, { max_seq_len: 10, doc_stride: 3, top_k: 50 });
    assert.equal(new Set(all.map(({ start, end }) => `${start} ${end}`)).size, all.length);
    await answer.dispose();
  });

  test('says that there is no answer only where that is allowed', async () => {
    const answer = await pipeline('question-answering', at('qa'), { device });
    const options = { handle_impossible_answer: true };
    const none = await answer('where', 'in in Ada', options);
    close(none.score, softmax([2, 0, 0, 0])[0]! ** 2);
    assert.deepEqual({ ...none, score: 0 }, { answer: '', score: 0, start: 0, end: 0 });
    assert.equal((await answer('where', 'Ada in New York', options)).answer, 'New York');
    assert.notEqual((await answer('where', 'in in Ada')).answer, '');
    await assert.rejects(
      answer('where where where where', 'in in in in in in', { max_seq_len: 8, doc_stride: 2 }),
      /the question's 5 tokens leave 2 of 8 .* stride of 2/,
    );
    await answer.dispose();
  });
});

describe('classes of texts', () => {
  const texts = ['good', 'Ada lives in London', 'bad bad', 'who lives in New York'];
  const labels = ['entailment', 'neutral', 'contradiction'];
  before(async () => {
    for (const [name, problem_type] of [
      ['nli', null],
      ['several', 'multi_label_classification'],
      ['number', 'regression'],
    ] as const) {
      const classes = name === 'number' ? named(['score']) : named(labels);
      const config = { ...lookupConfig, ...classes, problem_type };
      await save(name, T5ForSequenceClassification.from_config(config, { device, seed: 5 }));
    }
    await save('writer', T5ForConditionalGeneration.from_config(lookupConfig, { device, seed: 5 }));
  });
  /** What the model itself says about one text, or a pair. */
  async function logitsOf(name: string, text: string, pair?: string): Promise<number[]> {
    const model = await T5ForSequenceClassification.from_pretrained(at(name), { device });
    const ids = tokenizerOf(at(name)).encode(text, pair === undefined ? {} : { text_pair: pair });
    const { logits } = await model.forward({ input_ids: [ids] });
    model.dispose();
    return [...logits.data];
  }

  test('text-classification gives the shapes of transformers.js, in the order of the texts', async () => {
    const classify = await pipeline('text-classification', at('nli'), { device, batch_size: 2 });
    const best = await classify(texts);
    const all = await classify(texts, { top_k: null });
    for (const [i, text] of texts.entries()) {
      const scores = softmax(await logitsOf('nli', text));
      const order = [0, 1, 2].sort((a, b) => scores[b]! - scores[a]!);
      assert.deepEqual(
        all[i]!.map(({ label }) => label),
        order.map((k) => labels[k]),
      );
      for (const [k, { score }] of all[i]!.entries()) close(score, scores[order[k]!]!);
      assert.deepEqual(best[i], all[i]![0]);
      assert.deepEqual(await classify(text), [best[i]]);
      assert.deepEqual(await classify(text, { top_k: 2 }), all[i]!.slice(0, 2));
    }
    await classify.dispose();
  });

  test('classes that may hold together have probabilities of their own, and numbers stay numbers', async () => {
    const classify = await pipeline('text-classification', at('several'), { device });
    const [first] = await classify(texts, { top_k: 3 });
    const logits = await logitsOf('several', texts[0]!);
    for (const { label, score } of first!) close(score, 1 / (1 + Math.exp(-logits[labels.indexOf(label)]!)));
    await classify.dispose();
    const rate = await pipeline('text-classification', at('number'), { device });
    assert.deepEqual(await rate('good'), [{ label: 'score', score: (await logitsOf('number', 'good'))[0] }]);
    await rate.dispose();
  });

  test('zero-shot-classification asks a classifier whether the text entails each label', async () => {
    const classify = await pipeline('zero-shot-classification', at('nli'), { device });
    const candidates = ['good', 'bad', 'Ada'];
    const template = 'who lives in {}';
    const logits = [];
    for (const label of candidates) logits.push(await logitsOf('nli', texts[1]!, template.replace('{}', label)));
    const check = (found: { sequence: string; labels: string[]; scores: number[] }, scores: number[]) => {
      assert.deepEqual(Object.keys(found), ['sequence', 'labels', 'scores']);
      assert.equal(found.sequence, texts[1]);
      assert.deepEqual(
        [...found.scores].sort((a, b) => b - a),
        found.scores,
      );
      for (const [i, label] of found.labels.entries()) close(found.scores[i]!, scores[candidates.indexOf(label)]!);
    };
    const options = { hypothesis_template: template };
    const entails = softmax(logits.map((row) => row[0]!));
    check(await classify(texts[1]!, candidates, options), entails);
    const each = logits.map((row) => softmax([row[2]!, row[0]!])[1]!);
    const [many] = await classify([texts[1]!], candidates, { ...options, multi_label: true });
    check(many!, each);
    assert.equal((await classify(texts[1]!, 'good', options)).scores.length, 1);
    await classify.dispose();
  });

  test('zero-shot-classification asks a model that writes how likely the words are', async () => {
    const classify = await pipeline('zero-shot-classification', at('writer'), { device });
    const model = await T5ForConditionalGeneration.from_pretrained(at('writer'), { device });
    const tokenizer = tokenizerOf(at('writer'));
    const scores = [];
    for (const label of ['good', 'bad']) {
      const source = tokenizer.encode(`mnli hypothesis: This example is ${label}. premise: ${texts[1]}`);
      const answer = tokenizer.encode('entailment');
      const { loss } = await model.forward({ input_ids: [source], labels: [answer] });
      scores.push(-loss! * answer.length);
    }
    const wanted = softmax(scores);
    const found = await classify(texts[1]!, ['good', 'bad']);
    for (const [i, label] of found.labels.entries())
      close(found.scores[i]!, wanted[['good', 'bad'].indexOf(label)]!, label);
    model.dispose();
    await classify.dispose();
  });
});

describe('features', () => {
  const text = 'Ada lives';
  before(async () => {
    const lookup = T5ForTokenClassification.from_config({ ...lookupConfig, ...named(['x']) }, { device });
    makeLookup(lookup, 'classifier', {}, [0]);
    await save('features', lookup);
  });

  test('of tokens and of texts are what the pooling says, padding apart', async () => {
    const extract = await pipeline('feature-extraction', at('features'), { device });
    const unit = (ids: number[], length: number) =>
      Array.from({ length: 24 }, (_, i) => (ids.includes(i) ? length : 0));
    const check = async (options: object, dims: number[], rows: number[][]) => {
      const found = await extract([text, 'good'], options);
      assert.deepEqual(found.dims, dims);
      for (const [i, value] of rows.flat().entries()) close(found.data[i]!, value, `${JSON.stringify(options)} ${i}`);
    };
    const [ada, lives, end, good] = ['▁Ada', '▁lives', '</s>', '▁good'].map(idOf) as [number, number, number, number];
    const norm = Math.sqrt(24);
    const zero = unit([], 0);
    const all = [[ada], [lives], [end], [good], [end]].map((ids) => unit(ids, norm));
    await check({}, [2, 3, 24], [...all, zero]);
    await check({ pooling: 'mean' }, [2, 24], [unit([ada, lives, end], norm / 3), unit([good, end], norm / 2)]);
    await check({ pooling: 'cls' }, [2, 24], [unit([ada], norm), unit([good], norm)]);
    await check({ pooling: 'last_token', normalize: true }, [2, 24], [unit([end], 1), unit([end], 1)]);
    assert.deepEqual((await extract(text)).dims, [1, 3, 24]);
    await extract.dispose();
  });

  test('compare sentences by the cosine of their means', async () => {
    const compare = await pipeline('sentence-similarity', at('features'), { device });
    const found = await compare(text, ['Ada lives', 'Ada lives in', 'good']);
    const wanted = [1, 3 / Math.sqrt(12), 1 / Math.sqrt(6)]; // shared tokens / √(tokens × tokens), the end token too
    for (const [i, score] of found.entries()) close(score, wanted[i]!);
    assert.equal(found.length, 3);
    await compare.dispose();
  });

  test('of many texts are those of each alone, bit for bit', async () => {
    await save('random', T5EncoderModel.from_config(lookupConfig, { device, seed: 3 }));
    const extract = await pipeline('feature-extraction', at('random'), { device, batch_size: 2 });
    const texts = ['good', 'Ada Lovelace lives in London', '', 'who lives in New York ?', 'bad'];
    const together = (await extract(texts, { pooling: 'mean' })).tolist() as number[][];
    for (const [i, one] of texts.entries())
      assert.deepEqual((await extract(one, { pooling: 'mean' })).tolist(), [together[i]]);
    await extract.dispose();
  });
});

describe('texts from texts', () => {
  const task_specific_params = {
    summarization: { prefix: 'good ', max_length: 6 },
    translation_en_to_fr: { prefix: 'bad ', max_length: 5, num_beams: 2 },
  };
  before(async () => {
    const config = { ...lookupConfig, task_specific_params, tie_word_embeddings: false };
    await save('text', T5ForConditionalGeneration.from_config(config, { device, seed: 9 }));
  });
  /** What the model itself writes. */
  async function written(text: string, options: object): Promise<string[]> {
    const model = await T5ForConditionalGeneration.from_pretrained(at('text'), { device });
    const tokenizer = tokenizerOf(at('text'));
    const outputs = await model.generate({ input_ids: [tokenizer.encode(text)], ...options });
    model.dispose();
    return (outputs as number[][]).map((ids) => tokenizer.decode(ids, { skip_special_tokens: true }));
  }
  const texts = ['Ada lives in London', 'who', 'where in New York'];

  test('are what generate gives, in the order of the texts', async () => {
    const write = await pipeline('text2text-generation', at('text'), { device, batch_size: 2 });
    const options = { max_new_tokens: 6, num_beams: 3, num_return_sequences: 2 };
    const wanted = [];
    for (const text of texts) wanted.push(...(await written(text, options)));
    assert.deepEqual(
      await write(texts, options),
      wanted.map((generated_text) => ({ generated_text })),
    );
    assert.ok(new Set(wanted).size > 3, JSON.stringify(wanted));
    await write.dispose();
  });

  test('that are drawn do not depend on the batch, and a run is opened by its directory', async () => {
    cpSync(at('text'), at('run/best'), { recursive: true });
    const found = [];
    for (const batch_size of [1, 2, 3]) {
      const write = await pipeline('text2text-generation', at('run'), { device, batch_size });
      found.push(await write(['who', 'who', 'who'], { do_sample: true, max_new_tokens: 6, seed: 5 }));
      await write.dispose();
    }
    assert.deepEqual(found[1], found[0]);
    assert.deepEqual(found[2], found[0]);
    assert.equal(new Set(found[0]!.map(({ generated_text }) => generated_text)).size, 3, JSON.stringify(found[0]));
  });

  test("begin with the task's prefix and are decoded as config.json says", async () => {
    const summarize = await pipeline('summarization', at('text'), { device });
    const summary = await written(`good ${texts[0]}`, { max_length: 6 });
    assert.deepEqual(await summarize(texts[0]!), [{ summary_text: summary[0] }]);
    await summarize.dispose();
    const french = await written(`bad ${texts[0]}`, { max_length: 5, num_beams: 2 });
    const named = await pipeline('translation_en_to_fr', at('text'), { device });
    assert.deepEqual(await named(texts[0]!), [{ translation_text: french[0] }]);
    await named.dispose();
    const translate = await pipeline('translation', at('text'), { device });
    assert.deepEqual(await translate(texts[0]!, { src_lang: 'en', tgt_lang: 'fr' }), [{ translation_text: french[0] }]);
    const german = await written(`translate English to German: ${texts[0]}`, { max_new_tokens: 3 });
    const call = { src_lang: 'en', tgt_lang: 'de', max_new_tokens: 3 };
    assert.deepEqual(await translate(texts[0]!, call), [{ translation_text: german[0] }]);
    await assert.rejects(translate('Ada', { src_lang: 'en' }), /tgt_lang is missing, expected both languages/);
    await assert.rejects(translate('Ada', { src_lang: 'en', tgt_lang: 'qqqq' }), /unknown language "qqqq"/);
    await translate.dispose();
  });
});

describe('a mistake is one clear line', () => {
  test('in the task, the model or its head', async () => {
    await assert.rejects(
      pipeline('text-clasification' as 'text-classification', at('nli')),
      /UsageError: pipeline: unknown task "text-clasification", did you mean "text-classification"\?/,
    );
    await assert.rejects(pipeline('ner', at('nowhere')), /UsageError: .*nowhere: not found/);
    await assert.rejects(
      pipeline('question-answering', at('ner'), { device }),
      /UsageError: .*ner: has no "qa_outputs.weight", expected the head of a model for question answering/,
    );
    await assert.rejects(
      pipeline('text2text-generation', at('ner'), { device }),
      /has no decoder, expected a model that writes/,
    );
    await assert.rejects(
      pipeline('zero-shot-classification', at('number'), { device }),
      /the model's classes are score, expected entailment/,
    );
  });

  test('in a head that reads the decoder, as those of transformers do', async () => {
    saveTokenizer(at('both'));
    copyFileSync(join(at('nli'), 'config.json'), join(at('both'), 'config.json'));
    const map: Record<string, string> = {};
    for (const [name, tensor] of [
      ['nli', 'classification_head.dense.weight'],
      ['writer', 'decoder.final_layer_norm.weight'],
    ] as const) {
      copyFileSync(join(at(name), 'model.safetensors'), join(at('both'), `${name}.safetensors`));
      map[tensor] = `${name}.safetensors`;
    }
    writeFileSync(join(at('both'), 'model.safetensors.index.json'), JSON.stringify({ weight_map: map }));
    await assert.rejects(
      pipeline('text-classification', at('both'), { device }),
      /UsageError: .*both: has "decoder\..*its head for sequence classification reads the decoder/,
    );
  });

  test('in what is asked', async () => {
    const extract = await pipeline('feature-extraction', at('features'), { device });
    await assert.rejects(extract([]), /UsageError: feature-extraction: an empty array, expected a text or several/);
    await assert.rejects(extract(['a', 3 as never]), /element 1 is number, expected a text/);
    await assert.rejects(extract(undefined as never), /got undefined, expected a text/);
    await assert.rejects(extract('a', { poling: 'mean' } as never), /unknown option poling, did you mean "pooling"/);
    await assert.rejects(extract('a', { pooling: 'men' as never }), /pooling is "men", did you mean "mean"/);
    await extract.dispose();
    await assert.rejects(extract('a'), /used after dispose/);
    await extract.dispose();
  });

  test('about a text that is cut', async () => {
    const notices: string[] = [];
    const listen = (warning: Error) => notices.push(warning.message);
    process.on('warning', listen);
    saveTokenizer(at('short'), { model_max_length: 3 });
    const extract = await pipeline('feature-extraction', at('features'), { device, tokenizer: at('short') });
    const { dims, data } = await extract('Ada lives in London');
    assert.deepEqual(dims, [1, 3, 24]);
    assert.ok(data[2 * 24 + idOf('</s>')]! > 4); // the end token stays
    await new Promise((go) => setImmediate(go));
    process.off('warning', listen);
    assert.deepEqual(notices, [
      'feature-extraction: text 0 has 6 tokens and was cut to 3; set tokenizer.model_max_length to read more',
    ]);
    await extract.dispose();
  });
});

test("types have transformers.js's names, too", async () => {
  const half = await pipeline('feature-extraction', at('random'), { device, dtype: 'bf16' });
  const same = await pipeline('feature-extraction', at('random'), { device, dtype: 'bfloat16' });
  assert.equal(half.model.parameters.dtype, 'bf16');
  assert.deepEqual((await half('Ada')).data, (await same('Ada')).data);
  const eighth = await pipeline('feature-extraction', at('random'), { device, dtype: 'q8' });
  const whole = await pipeline('feature-extraction', at('random'), { device });
  const [few, all] = [(await eighth('Ada')).data, (await whole('Ada')).data];
  assert.notDeepEqual(few, all);
  for (const [i, x] of all.entries()) assert.ok(Math.abs(few[i]! - x) < 0.1, `${few[i]}, expected ${x}`);
  await eighth.dispose();
  await whole.dispose();
  await half.dispose();
  await same.dispose();
  await assert.rejects(pipeline('ner', at('ner'), { device, dtype: 'q4' as 'fp32' }), /dtype: is "q4", expected/);
  await assert.rejects(pipeline('ner', at('ner'), { devise: 'cpu' } as object), /unknown option devise, did you mean/);
});

test('progress is told when the pipeline is ready', async () => {
  const told: object[] = [];
  const extract = await pipeline('feature-extraction', at('features'), {
    device,
    progress_callback: (progress) => told.push(progress),
  });
  assert.deepEqual(told, [{ status: 'ready', task: 'feature-extraction', model: at('features') }]);
  assert.equal(extract.task, 'feature-extraction');
  assert.equal(extract.model.config.d_model, 24);
  await extract.dispose();
});

test('docs/pipelines.md names every task', async () => {
  const page = readFileSync(new URL('../../docs/pipelines.md', import.meta.url), 'utf8');
  const unknown: Error = await pipeline('object-detection-3d' as 'ner', 'x').catch((error) => error);
  const [, tasks] = /expected one of (.*)$/.exec(unknown.message)!;
  for (const task of tasks!.split(', ')) assert.ok(page.includes(`\`${task}\``), task);
});
