/** Batch sources: the worker gives what the caller's thread would, any position can be resumed, failures surface. */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { setTimeout } from 'node:timers/promises';
import { crc32 } from 'node:zlib';
import { fat5Denoisers } from '../src/data/denoiser.ts';
import type { Objective } from '../src/data/objective.ts';
import { type BatchSourceOptions, createBatchSource, createEvaluationBatches } from '../src/data/source.ts';
import type { Batch } from '../src/util/batch.ts';
import { BackendError, FormatError, UsageError } from '../src/util/errors.ts';
import { corpusOf, lognormalLengths, specials, VOCABULARY } from './data_corpus.ts';

const root = mkdtempSync(join(tmpdir(), 'fat5-source-'));
const folder = join(root, 'corpus');
after(() => rmSync(root, { recursive: true }));
before(() => corpusOf(folder, lognormalLengths(300, 120, 1, 8), 10));

const ul2: Objective = {
  name: 'ul2',
  max_length: 128,
  max_labels_length: 128,
  denoisers: fat5Denoisers({ R: [50], S: [51], X: [52] }),
  ...specials,
};
const spans: Objective = { name: 'span_corruption', max_length: 128, ...specials };
const options = (more: Partial<BatchSourceOptions> = {}): BatchSourceOptions => ({
  folder,
  objective: ul2,
  rows: 4,
  seed: 3,
  vocab_size: VOCABULARY,
  ...more,
});

/** Everything in a batch as one number. */
function digest(batch: Batch): number {
  const { input_ids, decoder_input_ids, labels, segments, decoder_segments, tokens } = batch;
  let sum = crc32(String(tokens));
  for (const array of [input_ids, decoder_input_ids, labels, segments, decoder_segments])
    if (array) sum = crc32(new Uint8Array(array.buffer, array.byteOffset, array.byteLength), sum);
  return sum;
}

async function digests(more: Partial<BatchSourceOptions>, count: number): Promise<number[]> {
  const source = createBatchSource(options(more));
  const found: number[] = [];
  for (let i = 0; i < count; i++) found.push(digest(await source.next()));
  await source.close();
  return found;
}

for (const objective of [ul2, spans]) {
  test(`the worker of ${objective.name} makes the batches of the inline source`, async () => {
    const inline = await digests({ objective, mode: 'inline' }, 40);
    assert.equal(new Set(inline).size, 40);
    assert.deepEqual(await digests({ objective }, 40), inline);
    assert.deepEqual(await digests({ objective, ahead: 1 }, 40), inline);
    assert.notDeepEqual(await digests({ objective, seed: 4 }, 3), inline.slice(0, 3));
  });

  test(`a source of ${objective.name} goes on exactly from the state of any batch, over epochs`, async () => {
    const source = createBatchSource(options({ objective }));
    assert.equal(source.state(), null);
    const states = [];
    const wanted: number[] = [];
    for (let i = 0; i < 160; i++) {
      wanted.push(digest(await source.next()));
      states.push(source.state()!);
      assert.equal(source.state()!.batches, i + 1);
    }
    const final = source.stats()!;
    assert.ok(final.epoch >= 1, 'the corpus is passed more than once');
    await source.close();
    for (const at of [0, 1, 2, 7, 31, 64, 65, 100, 142, 157]) {
      const state = JSON.parse(JSON.stringify(states[at]));
      const mode = at % 2 === 0 ? 'inline' : 'worker';
      const resumed = createBatchSource(options({ objective, state, mode }));
      assert.deepEqual(resumed.state(), state);
      for (let i = at + 1; i < Math.min(at + 20, 160); i++) assert.equal(digest(await resumed.next()), wanted[i]);
      if (at === 142) {
        for (let i = at + 20; i < 160; i++) await resumed.next();
        assert.deepEqual(resumed.stats(), final);
      }
      await resumed.close();
    }
  });
}

test('the batches of a seed never change: a run resumed by a later version continues', async () => {
  const folded = async (objective: Objective): Promise<number> =>
    crc32((await digests({ objective, mode: 'inline' }, 20)).join());
  assert.deepEqual([await folded(ul2), await folded(spans)], [1818451724, 1327466167]);
});

test('batches belong to the caller: later ones do not overwrite them', async () => {
  const source = createBatchSource(options({ ahead: 2 }));
  const batches = [];
  for (let i = 0; i < 8; i++) batches.push(await source.next());
  await source.close();
  assert.deepEqual(batches.map(digest), await digests({ mode: 'inline' }, 8));
  assert.ok(!(batches[0]!.input_ids.buffer instanceof SharedArrayBuffer));
});

test('calls of next that overlap get consecutive batches', async () => {
  const source = createBatchSource(options());
  const batches = await Promise.all([
    source.next(),
    source.next(),
    source.next(),
    source.next(),
    source.next(),
    source.next(),
  ]);
  await source.close();
  assert.deepEqual(batches.map(digest), await digests({ mode: 'inline' }, 6));
});

test('another seed, objective or corpus refuses a state', async () => {
  const source = createBatchSource(options({ mode: 'inline' }));
  await source.next();
  const state = source.state()!;
  await source.close();
  const refused = /position to go on from belongs to other shards, another objective or another seed/;
  assert.throws(() => createBatchSource(options({ mode: 'inline', state, seed: 5 })), refused);
  assert.throws(() => createBatchSource(options({ mode: 'inline', state, objective: spans })), refused);
  const late = createBatchSource(options({ state, split: 'validation' }));
  await assert.rejects(late.next(), (error: Error) => error instanceof UsageError && refused.test(error.message));
  await late.close();
});

test('a corrupted shard surfaces from the worker as the FormatError that it is, every time', async () => {
  const damaged = join(root, 'damaged');
  await corpusOf(damaged, lognormalLengths(300, 120, 1, 8));
  const shard = join(damaged, 'train-00001.tokens');
  const bytes = readFileSync(shard);
  bytes[5000]! ^= 1;
  writeFileSync(shard, bytes);
  const source = createBatchSource(options({ folder: damaged }));
  const run = async () => {
    for (let i = 0; i < 200; i++) await source.next();
  };
  for (let again = 0; again < 2; again++)
    await assert.rejects(run(), (error: Error) => {
      assert.ok(error instanceof FormatError);
      assert.match(error.message, /train-00001\.tokens: block 0 .* does not match its checksum/);
      return true;
    });
  await source.close();
});

test('an unexpected failure of the worker reaches the caller with its message', async () => {
  const first = createBatchSource(options());
  await first.next();
  const state = { ...first.state()!, collator: { stream: { epoch: 0, index: 0 } } };
  await first.close();
  const source = createBatchSource(options({ state }));
  for (let again = 0; again < 2; again++)
    await assert.rejects(source.next(), (error: Error) => {
      assert.ok(error instanceof BackendError);
      assert.match(error.message, /^data: the batch worker failed: TypeError: /);
      return true;
    });
  await source.close();
});

test('missing folders, unfinished ones and foreign vocabularies are usage errors', async () => {
  const rejected = async (more: Partial<BatchSourceOptions>, message: RegExp) => {
    const source = createBatchSource(options(more));
    await assert.rejects(source.next(), (error: Error) => error instanceof UsageError && message.test(error.message));
    await source.close();
  };
  await rejected({ folder: join(root, 'none') }, /none\/index\.json: not found/);
  await rejected({ vocab_size: 1000 }, /its vocabulary is 1048576, expected at most the model's 1000/);
  await rejected({ tokenizer_hash: 'f'.repeat(64) }, /was made with tokenizer /);
  const index = join(folder, 'index.json');
  const good = readFileSync(index, 'utf8');
  writeFileSync(index, good.replace('"complete": true', '"complete": false'));
  await rejected({}, /was not prepared to the end/);
  writeFileSync(index, good);
  assert.throws(() => createBatchSource(options({ rows: 0 })), /rows: is 0/);
  assert.throws(() => createBatchSource(options({ ahead: 0 })), /ahead: is 0/);
});

for (const mode of ['worker', 'inline'] as const)
  test(`a closed ${mode} source gives nothing more, not even batches made ahead`, async () => {
    const source = createBatchSource(options({ mode }));
    await source.next();
    await setTimeout(100); // the worker makes batches ahead, and they arrive
    await source.close();
    await assert.rejects(source.next(), { name: 'UsageError', message: 'data: the batch source is closed' });
    await source.close();
  });

test('evaluation batches are the same each time, and at most one epoch of the held-out documents', () => {
  const make = (batches: number) => createEvaluationBatches({ ...options(), batches });
  const few = make(3);
  assert.equal(few.length, 3);
  assert.deepEqual(few.map(digest), make(3).map(digest));
  const all = make(1000);
  assert.ok(all.length > 3 && all.length < 100, `${all.length} batches`);
});
