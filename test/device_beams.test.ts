/** Beam search whose choices are made by a kernel, against the search on the host: the same tokens, rows and order. */
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import type { Captured } from '../src/backend/backend.ts';
import { type GenerateOptions, T5ForConditionalGeneration } from '../src/index.ts';
import type { T5ConfigInput } from '../src/model/config.ts';
import { roundedUp } from '../src/model/inputs.ts';
import { testedBackend, testedDevice, uniform } from './harness.ts';
import { published } from './model_configs.ts';

const backend = testedBackend();
/** How often work was recorded. */
let recordings = 0;
if (testedDevice === 'cpu') {
  // A device that can record: it does the work again.
  backend.capture = (work): Captured => {
    recordings++;
    return { run: work, dispose: () => {} };
  };
  after(() => {
    delete backend.capture;
  });
}

const config = { ...published.v1_1, vocab_size: 60, initializer_factor: 2 } satisfies T5ConfigInput;
const random = uniform(5);
const below = (n: number) => Math.floor(random() * n);
const oneOf = <X>(list: readonly X[]): X => list[below(list.length)]!;

function sources() {
  const length = testedDevice === 'cpu' ? 3 + below(6) : roundedUp(1); // on a GPU sums depend on shapes, which recordings round up
  const input_ids = Array.from({ length: 1 + below(3) }, () => Array.from({ length }, () => 2 + below(58)));
  const attention_mask = input_ids.map((row) => {
    const seen = 1 + below(length);
    return row.map((_, i) => (i < seen ? 1 : 0));
  });
  return { input_ids, attention_mask };
}

for (const [name, options] of [
  ['t5', config],
  ['rope', { ...config, position_encoding_type: 'rope' }],
  ['fewer tokens than candidates', { ...config, vocab_size: 11 }],
] as const)
  test(`${name}: beams chosen by the device are those that the host chooses`, async () => {
    const model = T5ForConditionalGeneration.from_config(options, { device: testedDevice, seed: 3 });
    const V = options.vocab_size;
    let early = 0;
    const before = recordings;
    for (let i = 0; i < 40; i++) {
      const { input_ids, attention_mask } = sources();
      const rows = input_ids.map((row) => row.map((id) => 2 + (id % (V - 2))));
      const num_beams = 2 + below(6);
      const found = { input_ids: rows, attention_mask, num_beams, num_return_sequences: 1 + below(num_beams) };
      const free = await model.generate({ ...found, max_new_tokens: 12, eos_token_id: null });
      // Ends that come up, of one, two and three tokens, and none.
      const ends = Array.from({ length: below(4) }, () => oneOf(oneOf(free).slice(1)));
      const prompt = below(3);
      const call = {
        ...found,
        early_stopping: oneOf([false, true, 'never']),
        length_penalty: oneOf([1, 0, -1, 0.6, 2]),
        max_new_tokens: 1 + below(30),
        eos_token_id: ends.length > 0 ? [...new Set(ends)] : null,
        ...(prompt > 0 && {
          decoder_input_ids: rows.map(() => [0, ...Array.from({ length: prompt }, () => 2 + below(V - 2))]),
        }),
        return_dict_in_generate: true,
      } satisfies GenerateOptions;
      const device = await model.generate(call);
      const host = await model.generate({ ...call, stopping_criteria: [] }); // which the host looks at
      assert.deepEqual(device, host, JSON.stringify(call));
      early += Number(host.sequences[0]!.length < prompt + 1 + call.max_new_tokens);
    }
    if (testedDevice === 'cpu') assert.ok(recordings > before + 40, 'searches are recorded');
    assert.ok(early > 3, `${early} searches ended early`);
    model.dispose();
  });

test('a second search of the same shape begins anew', async () => {
  const model = T5ForConditionalGeneration.from_config(config, { device: testedDevice, seed: 4 });
  const call = { num_beams: 3, num_return_sequences: 3, max_new_tokens: 9 };
  const input_ids = [[5, 9, 13]];
  const first = await model.generate({ input_ids, ...call });
  const before = recordings;
  const other = await model.generate({ input_ids: [[7, 3, 22]], ...call, max_new_tokens: 5, length_penalty: 0 });
  assert.deepEqual(await model.generate({ input_ids, ...call }), first);
  assert.equal(recordings, before, 'nothing is recorded again');
  assert.notDeepEqual(
    other,
    first.map((row) => row.slice(0, 6)),
  );
  model.dispose();
});
