/** generate: against transformers' ids, against itself in batches and without a cache, and against bad options. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import {
  type GenerateOptions,
  type GenerateOutput,
  InterruptableStoppingCriteria,
  LogitsProcessor,
  LogitsProcessorList,
  type Scores,
  StoppingCriteria,
  StoppingCriteriaList,
  T5ForConditionalGeneration,
  TextStreamer,
} from '../src/index.ts';
import type { T5ConfigInput } from '../src/model/config.ts';
import { generationFields } from '../src/model/generation/options.ts';
import { UsageError } from '../src/util/errors.ts';
import { uniform } from './harness.ts';
import { positional, published } from './model_configs.ts';

interface Golden {
  model: 'v1_1' | 'umt5';
  call: GenerateOptions;
  sequences: number[][];
  sequences_scores?: number[];
}
const goldens = JSON.parse(
  readFileSync(new URL('../../test/golden/generation.json', import.meta.url), 'utf8'),
) as Golden[];

const input_ids = [
  [5, 9, 13, 2, 37, 8, 1],
  [7, 3, 22, 1, 0, 0, 0],
];
const attention_mask = [
  [1, 1, 1, 1, 1, 1, 1],
  [1, 1, 1, 1, 0, 0, 0],
];
const inputs = { input_ids, attention_mask };
const create = (config: T5ConfigInput, seed = 7) =>
  T5ForConditionalGeneration.from_config(config, { device: 'cpu', seed });
const model = create(published.v1_1);
const full = (
  options: GenerateOptions & { input_ids?: number[][]; attention_mask?: number[][] },
): Promise<GenerateOutput> => model.generate({ ...inputs, ...options, return_dict_in_generate: true });

for (const [i, { model: name, call, sequences, sequences_scores }] of goldens.entries())
  test(`call ${i} on ${name} writes what transformers writes: ${JSON.stringify(call)}`, async () => {
    const model = create(published[name]);
    assert.deepEqual(await model.generate({ ...inputs, ...call }), sequences);
    const out = await model.generate({ ...inputs, ...call, return_dict_in_generate: true, output_scores: true });
    assert.deepEqual(out.sequences, sequences, 'with scores kept');
    for (const [b, score] of (sequences_scores ?? []).entries())
      assert.ok(Math.abs(out.sequences_scores![b]! - score) < 1e-4 * Math.max(1, Math.abs(score)), `score of row ${b}`);
    model.dispose();
  });

/** Rows of unequal length, and each alone. */
function unequal(rows: number, vocabulary: number) {
  const random = uniform(11);
  const alone = Array.from({ length: rows }, (_, b) =>
    Array.from({ length: 1 + ((b * 7) % 30) }, () => 2 + Math.floor(random() * (vocabulary - 2))),
  );
  const length = Math.max(...alone.map((row) => row.length));
  const fill = (row: number[], filler: number) => [...row, ...new Array<number>(length - row.length).fill(filler)];
  return {
    alone,
    input_ids: alone.map((row) => fill(row, 0)),
    attention_mask: alone.map((row) =>
      fill(
        row.map(() => 1),
        0,
      ),
    ),
  };
}

const wide = { ...published.v1_1, vocab_size: 300, d_model: 96, d_kv: 24, d_ff: 130 } satisfies T5ConfigInput;

for (const [name, config, dtype] of [
  ['t5', wide, 'float32'],
  ['t5 in bfloat16', wide, 'bfloat16'],
  ['rope', { ...wide, position_encoding_type: 'rope' }, 'float32'],
  ['alibi', { ...wide, position_encoding_type: 'alibi' }, 'float32'],
  ['fire', { ...wide, position_encoding_type: 'fire' }, 'float32'],
] as const)
  for (const call of [{}, { num_beams: 3, num_return_sequences: 2 }] satisfies GenerateOptions[])
    test(`${name}, ${JSON.stringify(call)}: a batch of unequal rows gives the bits that its rows give alone`, async () => {
      const model = T5ForConditionalGeneration.from_config(config, { device: 'cpu', dtype, seed: 2 });
      const { alone, ...batch } = unequal(21, config.vocab_size);
      const options = {
        ...call,
        max_new_tokens: 7,
        return_dict_in_generate: true,
        output_scores: true,
        output_logits: true,
      } as const;
      const together = await model.generate({ ...batch, ...options });
      const answers = together.sequences.length / alone.length;
      const perRow = call.num_beams ?? 1;
      for (const [b, row] of alone.entries()) {
        const single = await model.generate({ input_ids: [row], ...options });
        for (let i = 0; i < answers; i++) {
          assert.deepEqual(
            together.sequences[b * answers + i]!.slice(0, single.sequences[i]!.length),
            single.sequences[i],
          );
          assert.equal(together.sequences_scores?.[b * answers + i], single.sequences_scores?.[i]);
        }
        for (const [step, logits] of single.logits!.entries()) {
          const rows = together.logits![step]!.data.subarray(b * perRow * config.vocab_size);
          assert.deepEqual(rows.slice(0, logits.data.length), logits.data, `row ${b}, step ${step}`);
        }
      }
      model.dispose();
    });

for (const [name, config] of Object.entries(positional))
  test(`${name}: every step's logits with the cache are those of the whole forward pass, for beams too`, async () => {
    const model = create(config, 3);
    const call = { num_beams: 3, num_return_sequences: 3, output_logits: true, return_dict_in_generate: true } as const;
    const prompt = [
      [0, 11, 12],
      [0, 8, 30],
    ];
    const out = await model.generate({ ...inputs, ...call, decoder_input_ids: prompt, max_new_tokens: 9 });
    for (const [answer, tokens] of out.sequences.entries()) {
      const b = Math.floor(answer / 3);
      const { logits } = await model.forward({
        input_ids: [input_ids[b]!],
        attention_mask: [attention_mask[b]!],
        decoder_input_ids: [tokens],
      });
      const whole = (logits.tolist() as number[][][])[0]!;
      for (const [step, row] of out.beam_indices![answer]!.entries()) {
        if (row < 0) continue;
        const cached = out.logits![step]!.data.subarray(row * 40, (row + 1) * 40);
        for (const [v, want] of whole[2 + step]!.entries())
          assert.ok(Math.abs(cached[v]! - want) < 1e-5, `answer ${answer}, step ${step}, token ${v}`);
      }
    }
    model.dispose();
  });

test('greedy decoding, one beam, and groups of one beam without a penalty agree', async () => {
  const greedy = await model.generate({ ...inputs, max_new_tokens: 8 });
  const groups = { num_beams: 3, num_beam_groups: 3, num_return_sequences: 3, max_new_tokens: 8 };
  const out = await model.generate({ ...inputs, ...groups });
  for (const [i, row] of out.entries()) assert.deepEqual(row, greedy[Math.floor(i / 3)]);
});

test('a large diversity penalty keeps groups from choosing the same token at the same place', async () => {
  const groups = { num_beams: 4, num_beam_groups: 4, num_return_sequences: 4, diversity_penalty: 1e6 };
  const out = await model.generate({ ...inputs, ...groups, max_new_tokens: 6, eos_token_id: null });
  for (const b of [0, 1])
    for (let t = 1; t <= 6; t++) assert.equal(new Set(out.slice(b * 4, b * 4 + 4).map((row) => row[t])).size, 4);
});

test('a large vocabulary: the likeliest tokens on the device are those of the scores on the host', async () => {
  const large = create({ ...published.v1_1, d_model: 128, vocab_size: 33000 });
  const call = { ...inputs, max_new_tokens: 24 };
  const { bytes } = large.backend.usage;
  const ids = await large.generate(call);
  assert.equal(large.backend.usage.bytes, bytes);
  const all = await large.generate({ ...call, return_dict_in_generate: true, output_scores: true });
  assert.deepEqual(ids, all.sequences);
  assert.ok(new Set(ids.flat()).size > 6, 'the model says more than one thing');
  large.dispose();
});

/** How often each token comes first in many draws, and the shares that are expected. */
async function draws(options: GenerateOptions, expected: (probabilities: number[]) => number[]) {
  const rows = 1000;
  const one = { input_ids: [input_ids[0]!], attention_mask: [attention_mask[0]!] };
  const call = { ...one, max_new_tokens: 1, num_return_sequences: rows };
  const { logits } = await model.generate({
    ...one,
    max_new_tokens: 1,
    return_dict_in_generate: true,
    output_logits: true,
  });
  const weights = Array.from(logits![0]!.data, (logit) => Math.exp(logit / (options.temperature ?? 1)));
  const total = weights.reduce((a, b) => a + b);
  const wanted = expected(weights.map((w) => w / total));
  const mass = wanted.reduce((a, b) => a + b);
  const counts = new Array<number>(wanted.length).fill(0);
  for (const seed of [5, 6, 7, 8])
    for (const [, token] of (await full({ ...call, seed, top_k: 0, ...options, do_sample: true })).sequences)
      counts[token!]!++;
  for (const [token, count] of counts.entries()) {
    const share = wanted[token]! / mass;
    const spread = Math.sqrt((share * (1 - share)) / (4 * rows));
    assert.ok(
      Math.abs(count / (4 * rows) - share) <= 4.5 * spread,
      `token ${token}: ${count}, expected share ${share}`,
    );
  }
}
const largestFirst = (p: number[]) => p.map((_, i) => i).sort((a, b) => p[b]! - p[a]!);
const only = (p: number[], keep: (rank: number, before: number, token: number) => boolean) => {
  let before = 0;
  const out = p.map(() => 0);
  for (const [rank, token] of largestFirst(p).entries()) {
    if (keep(rank, before, token)) out[token] = p[token]!;
    before += p[token]!;
  }
  return out;
};

const samplings: [GenerateOptions, (p: number[]) => number[]][] = [
  [{}, (p) => p],
  [{ temperature: 0.5 }, (p) => p],
  [{ top_k: 4 }, (p) => only(p, (rank) => rank < 4)],
  [{ top_p: 0.6 }, (p) => only(p, (_, before) => before < 0.6)],
  [{ min_p: 0.3 }, (p) => only(p, (_, __, token) => p[token]! >= 0.3 * Math.max(...p))],
  [{ epsilon_cutoff: 0.03 }, (p) => only(p, (_, __, token) => p[token]! >= 0.03)],
  [
    { typical_p: 0.5 },
    (p) => {
      const entropy = -p.reduce((sum, x) => sum + x * Math.log(x), 0);
      const distance = p.map((x) => Math.abs(-Math.log(x) - entropy));
      const order = p.map((_, i) => i).sort((a, b) => distance[a]! - distance[b]!);
      let mass = 0;
      const last = order.findIndex((token) => (mass += p[token]!) >= 0.5);
      return p.map((x, token) => (order.indexOf(token) <= last ? x : 0));
    },
  ],
];
for (const [options, expected] of samplings)
  test(`sampling with ${JSON.stringify(options)} draws tokens as often as it should`, () => draws(options, expected));

test('beams drawn at random are distinct, likely answers are drawn more often, the same seed draws the same', async () => {
  const call = {
    num_beams: 4,
    num_return_sequences: 4,
    do_sample: true,
    max_new_tokens: 1,
    eos_token_id: null,
  } as const;
  const first = new Map<number, number>();
  for (let seed = 0; seed < 150; seed++) {
    const out = await full({ ...call, seed, output_scores: true });
    for (const b of [0, 1])
      assert.equal(new Set(out.sequences.slice(b * 4, b * 4 + 4).map(String)).size, 4, `seed ${seed}`);
    const token = out.sequences[0]![1]!;
    first.set(token, (first.get(token) ?? 0) + 1);
  }
  const [[likeliest]] = [...first].sort((a, b) => b[1] - a[1]) as [[number, number]];
  assert.equal(likeliest, (await model.generate({ ...inputs, max_new_tokens: 1 }))[0]![1]);
  assert.deepEqual(await full({ ...call, seed: 3 }), await full({ ...call, seed: 3 }));
});

test('the same seed draws the same tokens, another one others, and a row the same as alone', async () => {
  const call = { do_sample: true, max_new_tokens: 12, eos_token_id: null };
  const one = await model.generate({ ...inputs, ...call, seed: 1 });
  assert.deepEqual(await model.generate({ ...inputs, ...call, seed: 1 }), one);
  assert.notDeepEqual(await model.generate({ ...inputs, ...call, seed: 2 }), one);
  assert.deepEqual(await model.generate({ input_ids: [input_ids[0]!], ...call, seed: 1 }), [one[0]]);
});

test('a seed for each source draws for it what it draws alone, with beams and with several answers too', async () => {
  const seeds = [11, 2 ** 40 + 5];
  for (const more of [{}, { num_return_sequences: 3 }, { num_beams: 3, num_return_sequences: 2 }]) {
    const call = { do_sample: true, max_new_tokens: 8, eos_token_id: null, ...more };
    const both = await model.generate({ ...inputs, ...call, seed: seeds });
    const alone = [];
    for (const [b, seed] of seeds.entries()) {
      const one = { input_ids: [input_ids[b]!], attention_mask: [attention_mask[b]!] };
      alone.push(...(await model.generate({ ...one, ...call, seed })));
    }
    assert.deepEqual(both, alone, JSON.stringify(more));
  }
});

test('processors change scores in order, as rows or as one array, and lists nest', async () => {
  class Only extends LogitsProcessor {
    readonly token: number;
    seen: number[][] = [];
    constructor(token: number) {
      super();
      this.token = token;
    }
    override _call(ids: number[][], scores: Scores) {
      this.seen = ids.map((row) => [...row]);
      for (let r = 0; r < ids.length; r++) scores[r]!.data.fill(-100)[this.token] = 5;
      return scores;
    }
  }
  const list = new LogitsProcessorList();
  const last = new Only(17);
  list.extend([new Only(9), last]);
  const nested = new LogitsProcessorList();
  nested.push(list);
  assert.deepEqual(
    await model.generate({ ...inputs, logits_processor: nested, max_new_tokens: 2 }),
    input_ids.map(() => [0, 17, 17]),
  );
  assert.deepEqual(
    last.seen,
    input_ids.map(() => [0, 17]),
  );
  const short = new (class extends LogitsProcessor {
    override _call(_: number[][], scores: Scores) {
      return { ...scores, data: scores.data.slice(1) };
    }
  })();
  await assert.rejects(model.generate({ ...inputs, logits_processor: [short] }), UsageError);
});

test('stopping criteria end rows one by one; the interruptable one ends all', async () => {
  const second = new (class extends StoppingCriteria {
    override _call(ids: number[][]) {
      return ids.map((row, r) => r === 1 && row.length >= 3);
    }
  })();
  const call = { max_new_tokens: 6, eos_token_id: 39 };
  const plain = await model.generate({ ...inputs, ...call });
  const list = new StoppingCriteriaList();
  list.push(second);
  const out = await model.generate({ ...inputs, ...call, stopping_criteria: list });
  assert.deepEqual(out, [plain[0], [...plain[1]!.slice(0, 3), 0, 0, 0, 0]]);
  const stop = new InterruptableStoppingCriteria();
  stop.interrupt();
  assert.deepEqual(
    await model.generate({ ...inputs, ...call, stopping_criteria: [stop] }),
    plain.map((row) => row.slice(0, 2)),
  );
});

/** A tokenizer for tests: each token is a word. */
const words = {
  decode: (ids: Iterable<number>) => [...ids].map((id) => (id === 0 ? '' : `w${id} `)).join(''),
};

test('stop strings end an answer with the token that completes one', async () => {
  const [free] = await model.generate({ input_ids: [input_ids[0]!], max_new_tokens: 10, eos_token_id: null });
  const stop_strings = [`w${free![4]} w${free![5]}`];
  const call = { input_ids: [input_ids[0]!], max_new_tokens: 10, eos_token_id: null, stop_strings, tokenizer: words };
  const [stopped] = await model.generate(call);
  const pairs = free!.slice(1).map((id, i) => `w${free![i]} w${id}`);
  assert.deepEqual(stopped, free!.slice(0, pairs.indexOf(stop_strings[0]!) + 2));
});

test('a text streamer gives the text piece by piece, the prompt left out', async () => {
  const pieces: string[] = [];
  const streamer = new TextStreamer(words, { skip_prompt: true, callback_function: (text) => pieces.push(text) });
  const [row] = await model.generate({ input_ids: [input_ids[0]!], max_new_tokens: 5, streamer });
  assert.equal(pieces.join(''), words.decode(row!.slice(1)));
  assert.ok(pieces.length >= 4, 'more than one piece');
  await assert.rejects(model.generate({ ...inputs, streamer }), /TextStreamer: got 2 rows/);
});

test('an aborted signal ends the call with its reason and frees what it held', async () => {
  const { bytes } = model.backend.usage;
  const abort = new AbortController();
  const reason = new Error('enough');
  const streamer = { put: () => abort.abort(reason), end() {} };
  await assert.rejects(model.generate({ ...inputs, streamer, signal: abort.signal }), reason);
  await assert.rejects(model.generate({ ...inputs, num_beams: 2, signal: abort.signal }), reason);
  const later = new AbortController();
  setTimeout(() => later.abort(reason), 20);
  await assert.rejects(
    model.generate({ ...inputs, signal: later.signal, max_new_tokens: 1e5, eos_token_id: null }),
    reason,
  );
  assert.equal(model.backend.usage.bytes, bytes);
});

test('max_time ends an answer early', async () => {
  const [row] = await model.generate({ ...inputs, max_time: 0.05, max_new_tokens: 1e5, eos_token_id: null });
  assert.ok(row!.length > 1 && row!.length < 1e5);
});

test('prefix_allowed_tokens_fn allows only its tokens, beams included', async () => {
  const allowed = (batch: number, tokens: number[]) => (tokens.length % 2 ? [10 + batch, 20] : [30 + batch]);
  for (const num_beams of [1, 3])
    for (const [b, row] of (
      await model.generate({ ...inputs, num_beams, prefix_allowed_tokens_fn: allowed, max_new_tokens: 6 })
    ).entries())
      for (let t = 1; t < row.length; t++) assert.ok(allowed(b, row.slice(0, t)).includes(row[t]!), `${row} at ${t}`);
  await assert.rejects(
    model.generate({ ...inputs, prefix_allowed_tokens_fn: () => [] }),
    /allows no token for source 0/,
  );
});

test('an assistant changes nothing but the number of steps', async () => {
  const [same, other] = [create(published.v1_1), create(published.v1_1, 8)];
  const one = { input_ids: [input_ids[0]!], max_new_tokens: 25, eos_token_id: null };
  const calls: GenerateOptions[] = [
    {},
    { repetition_penalty: 1.5, no_repeat_ngram_size: 3, min_new_tokens: 4 },
    { decoder_input_ids: [[0, 11, 12]], num_assistant_tokens_schedule: 'heuristic' },
  ];
  for (const call of calls) {
    const want = await model.generate({ ...one, ...call });
    for (const [assistant_model, num_assistant_tokens] of [
      [same, 5],
      [other, 3],
      [other, 20],
    ] as const) {
      const options = { ...one, ...call, assistant_model, num_assistant_tokens, assistant_confidence_threshold: 0 };
      const out = await model.generate({ ...options, return_dict_in_generate: true });
      assert.deepEqual(out.sequences, want);
      const { drafted, accepted, acceptance_rate } = out.assistant!;
      assert.equal(acceptance_rate, accepted / drafted);
      if (assistant_model === same) assert.equal(accepted, drafted);
      else assert.ok(accepted < drafted);
    }
  }
  for (const other of [same, model]) if (other !== model) other.dispose();
});

test("settings come from the call, then from the call's configuration, then from the model's", async () => {
  const own = create(published.v1_1);
  own.generation_config = { max_new_tokens: 3, num_beams: 2, num_return_sequences: 2 };
  assert.deepEqual(
    (await own.generate(inputs)).map((row) => row.length),
    [4, 4, 4, 4],
  );
  const generation_config = { num_return_sequences: 1 };
  assert.deepEqual(
    (await own.generate({ ...inputs, generation_config, max_new_tokens: 2 })).map((row) => row.length),
    [3, 3],
  );
  own.dispose();
});

test('options that are unknown, impossible or contradictory are refused in one line', async () => {
  const bad: [Record<string, unknown>, RegExp][] = [
    [{ num_beans: 4 }, /unknown option num_beans, did you mean "num_beams"\?/],
    [{ max_new_tokens: 0 }, /max_new_tokens is 0, expected a whole number from 1/],
    [{ temperature: 0 }, /temperature is 0, expected a positive number/],
    [{ top_p: 1.5 }, /top_p is 1.5, expected a number from 0 to 1/],
    [{ early_stopping: 'always' }, /early_stopping is "always", expected true, false or "never"/],
    [{ bad_words_ids: [[]] }, /bad_words_ids is \[\[\]\] \(0\), expected arrays of at least one token id/],
    [
      {
        decoder_input_ids: [
          [0, 3, 4],
          [0, 5, 6],
        ],
        max_length: 3,
      },
      /max_length is 3, expected more than the 3 tokens/,
    ],
    [
      {
        decoder_input_ids: [
          [0, 40],
          [0, 1],
        ],
      },
      /decoder_input_ids: row 0, column 1 is 40/,
    ],
    [{ decoder_input_ids: [[0]] }, /decoder_input_ids: 1 rows, input_ids has 2/],
    [{ num_return_sequences: 3, num_beams: 2 }, /num_return_sequences is 3, expected at most num_beams 2/],
    [{ num_return_sequences: 2 }, /num_return_sequences is 2, but greedy decoding has one answer/],
    [{ num_beams: 4, num_beam_groups: 3 }, /num_beam_groups is 3, expected a divisor of num_beams 4/],
    [{ diversity_penalty: 1, num_beams: 2 }, /diversity_penalty is 1, but num_beam_groups is 1/],
    [{ num_beams: 2, num_beam_groups: 2, do_sample: true }, /num_beam_groups is above 1, but do_sample is true/],
    [{ min_new_tokens: 9, max_new_tokens: 3 }, /the shortest answer is 10 tokens, but the longest is 4/],
    [{ suppress_tokens: [12], forced_bos_token_id: 12 }, /forced_bos_token_id is 12, but suppress_tokens forbids it/],
    [{ suppress_tokens: [40] }, /suppress_tokens has 40, expected ids below vocab_size 40/],
    [{ eos_token_id: [1, 50] }, /eos_token_id has 50/],
    [{ stop_strings: 'x' }, /stop_strings are given, but no tokenizer/],
    [{ num_beams: 2, streamer: { put() {}, end() {} } }, /a streamer needs num_beams 1/],
    [{ assistant_model: model }, /assistant_model drafts for one source at a time, but there are 2/],
    [{ generation_config: { top_k: -1 } }, /generation_config: top_k is -1/],
    [{ seed: 0.5 }, /seed is 0.5, expected a whole number/],
    [{ seed: [1, 2, 3] }, /seed has 3 numbers, expected one or one for each of 2 sources/],
    [{ input_ids: [] }, /input_ids: is empty/],
  ];
  for (const [options, message] of bad)
    await assert.rejects(
      model.generate({ ...inputs, ...options } as never),
      (error: Error) => error instanceof UsageError && message.test(error.message) && !error.message.includes('\n'),
      String(message),
    );
});

test('docs/generation.md has a row for every setting, as its description says', () => {
  const text = readFileSync(new URL('../../docs/generation.md', import.meta.url), 'utf8');
  for (const [name, field] of Object.entries(generationFields)) {
    const standard = 'defaultValue' in field.def ? `\`${JSON.stringify(field.def.defaultValue)}\`` : '';
    assert.ok(text.includes(`| \`${name}\` | ${standard} | ${field.description} |`), name);
  }
});
