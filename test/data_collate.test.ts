/** Objectives: lengths and masks against published figures; what is corrupted can be put together again; rows are full. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import fc from 'fast-check';
import { batchElements, batchOver } from '../src/data/collator.ts';
import { type Denoiser, fat5Denoisers, fullLength, noiseOf } from '../src/data/denoiser.ts';
import { batchShape, type Objective, openCollator } from '../src/data/objective.ts';
import { permutation, Random } from '../src/data/random.ts';
import { spanCorruptionLengths } from '../src/data/span_corruption.ts';
import { SpanScratch } from '../src/data/spans.ts';
import type { Ul2Options } from '../src/data/ul2.ts';
import { type Batch, IGNORED, PADDING } from '../src/util/batch.ts';
import { UsageError } from '../src/util/errors.ts';
import { roundToEven } from '../src/util/round.ts';
import {
  corpusOf,
  EOS,
  FIRST_TOKEN,
  lognormalLengths,
  PAD,
  SENTINELS,
  START,
  specials,
  VOCABULARY,
} from './data_corpus.ts';

const root = mkdtempSync(join(tmpdir(), 'fat5-collate-'));
after(() => rmSync(root, { recursive: true }));
const corpora = {
  ragged: [...lognormalLengths(220, 150, 1.2, 1), 9000],
  long: lognormalLengths(30, 5000, 0.3, 2),
  web: lognormalLengths(600, 500, 1, 3),
};
before(async () => {
  for (const [name, lengths] of Object.entries(corpora)) await corpusOf(join(root, name), lengths);
});

const mixture = fat5Denoisers({ R: [50], S: [51], X: [52, 53] });
const ul2 = (more: Partial<Ul2Options> = {}): Ul2Options => ({
  name: 'ul2',
  max_length: 512,
  max_labels_length: 512,
  denoisers: mixture,
  ...specials,
  ...more,
});

function* batchesOf(corpus: keyof typeof corpora, objective: Objective, rows: number, count: number, seed = 7) {
  const options = { folder: join(root, corpus), objective, rows, seed, vocab_size: VOCABULARY };
  const shape = batchShape(objective, rows, VOCABULARY);
  const { collator } = openCollator(options);
  try {
    for (let i = 0; i < count; i++) {
      const batch = batchOver(shape, new Int32Array(batchElements(shape)).fill(-7));
      collator.fill(batch);
      yield { batch, statistics: collator.statistics() };
    }
  } finally {
    collator.close();
  }
}

test('raw lengths of the seven denoisers with three prefix tokens are FAT5’s', () => {
  const golden: Record<number, number[]> = {
    256: [280, 290, 316, 378, 290, 295, 496],
    512: [565, 585, 636, 762, 585, 597, 1000],
    1024: [1133, 1174, 1276, 1530, 1174, 1197, 2008],
  };
  const denoisers = fat5Denoisers({ R: [1, 2, 3], S: [1, 2, 3], X: [1, 2, 3] });
  for (const [length, lengths] of Object.entries(golden)) {
    const room = { inputs: Number(length), labels: Number(length) };
    assert.deepEqual(
      denoisers.map((denoiser) => fullLength(denoiser, room)),
      lengths,
    );
  }
});

test('span corruption lengths are nanoT5’s', () => {
  const golden = [
    [512, 0.15, 3, 568, 114],
    [256, 0.15, 3, 284, 58],
    [1024, 0.15, 3, 1137, 229],
    [128, 0.15, 3, 141, 29],
    [64, 0.15, 3, 70, 14],
    [2048, 0.15, 3, 2274, 456],
    [512, 0.15, 8, 588, 100],
    [512, 0.5, 3, 766, 512],
    [512, 0.5, 64, 1006, 512],
  ];
  const sentinels = Array.from({ length: 400 }, (_, i) => i);
  for (const [max_length, noise_density, mean_span, raw, labels] of golden) {
    const found = spanCorruptionLengths({
      ...specials,
      sentinels,
      max_length: max_length!,
      noise_density: noise_density!,
      mean_span: mean_span!,
    });
    assert.deepEqual([found.raw, found.labels], [raw, labels], `${max_length} ${noise_density} ${mean_span}`);
  }
  const { noise, spans } = spanCorruptionLengths({ ...specials, max_length: 512 });
  assert.deepEqual([noise, spans], [85, 28]);
});

test('rounding takes halves to the even side, and noise always leaves room for its spans', () => {
  assert.deepEqual([0.5, 1.5, 2.5, 2.4, 2.6, 7].map(roundToEven), [0, 2, 2, 2, 3, 7]);
  for (const denoiser of [...mixture, { mean_span: 1, noise_density: 0.9, proportion: 1 }])
    for (let n = 2; n < 1100; n++) {
      const { noise, spans } = noiseOf(denoiser, n);
      assert.ok(spans >= 1 && spans <= noise && spans <= n - noise, `${n} tokens: ${noise} noise in ${spans} spans`);
    }
});

test('every way to split tokens into runs is equally likely', () => {
  // Five into three parts: 6 ways; seven into six: 6 ways by the complement; each expected `draws / 6` times.
  for (const [total, parts] of [
    [5, 3],
    [7, 6],
    [4, 2],
  ] as const) {
    const counts = new Map<string, number>();
    const scratch = new SpanScratch(64);
    const draws = 30000;
    for (let i = 0; i < draws; i++) {
      scratch.draw(new Random().start(3, 1, i), total + parts, total, parts);
      const runs = Array.from({ length: parts }, (_, k) => scratch.runs[2 * k + 1]!);
      assert.equal(
        runs.reduce((a, b) => a + b),
        total,
      );
      counts.set(runs.join(), (counts.get(runs.join()) ?? 0) + 1);
    }
    const ways = total === 4 ? 3 : 6;
    assert.equal(counts.size, ways);
    for (const [runs, count] of counts)
      assert.ok(Math.abs(count - draws / ways) < 5 * Math.sqrt(draws / ways), `${runs}: ${count} of ${draws}`);
  }
});

test('the noise rises to certainty at the end of a piece as the published mask does', () => {
  const scratch = new SpanScratch(568);
  const atEnd = [0, 0, 0, 0];
  const draws = 4000;
  for (let i = 0; i < draws; i++) {
    scratch.draw(new Random().start(11, 1, i), 568, 85, 28);
    const last = scratch.runs[55]!;
    for (let k = 0; k < 4; k++) if (last > k) atEnd[k]!++;
    assert.ok(scratch.runs[0]! > 0);
  }
  // Shares counted over 2000 draws of nanoT5's mask; later runs before the last hardly reach this far.
  for (const [k, share] of [1, 0.68, 0.47].entries())
    assert.ok(Math.abs(atEnd[k]! / draws - share) < 0.03, `${k} from the end: ${atEnd[k]! / draws}`);
});

test('an epoch’s order is a permutation, another one each epoch and seed', () => {
  for (const n of [1, 2, 3, 17, 1000, 4096, 5000]) {
    const order = permutation(n, 9, 0);
    const seen = new Set(Array.from({ length: n }, (_, i) => order(i)));
    assert.equal(seen.size, n);
    assert.ok([...seen].every((i) => i >= 0 && i < n));
  }
  const head = (seed: number, epoch: number) =>
    Array.from({ length: 8 }, (_, i) => permutation(1000, seed, epoch)(i)).join();
  assert.equal(new Set([head(1, 0), head(1, 1), head(2, 0), head(1 + 2 ** 40, 0)]).size, 4);
  const order = permutation(10000, 4, 2);
  let displacement = 0;
  for (let i = 0; i < 10000; i++) displacement += Math.abs(order(i) - i) / 10000;
  assert.ok(Math.abs(displacement - 3333) < 100, `mean displacement ${displacement}, expected n/3`);
});

interface Example {
  raw: number[];
  prefix: number[];
  inputs: number[];
  labels: number[];
}

/** Puts one example's inputs and labels together again, checking sentinels, prefix and EOS on the way. */
function reassemble(inputs: number[], labels: number[], sentinels: number[]): Example {
  const noise: number[][] = [];
  for (const id of labels) {
    if (id === sentinels[noise.length]) noise.push([]);
    else noise[noise.length - 1]!.push(id);
  }
  const text = inputs.findIndex((id) => id >= FIRST_TOKEN);
  const raw: number[] = [];
  let span = 0;
  for (const id of inputs.slice(text)) {
    if (id >= FIRST_TOKEN) raw.push(id);
    else {
      assert.equal(id, sentinels[span], 'sentinels of the inputs come in order');
      raw.push(...noise[span++]!);
    }
  }
  assert.equal(span, noise.length, 'inputs and labels have the same sentinels');
  assert.ok(noise.every((run) => run.length > 0));
  return { raw, prefix: inputs.slice(0, text), inputs, labels };
}

/** The examples of a row of a segmented batch, with every promise of `Batch` checked. */
function examplesOfRow(batch: Batch, row: number): Example[] {
  const columns = (array: Int32Array, length: number) => [...array.subarray(row * length, (row + 1) * length)];
  const inputs = columns(batch.input_ids, batch.sourceLength);
  const segments = columns(batch.segments!, batch.sourceLength);
  const labels = columns(batch.labels, batch.targetLength);
  const decoderInputs = columns(batch.decoder_input_ids, batch.targetLength);
  const decoderSegments = columns(batch.decoder_segments!, batch.targetLength);
  const examples: Example[] = [];
  let used = 0;
  let usedLabels = 0;
  for (let segment = 0; segments[used] === segment; segment++) {
    const end = segments.lastIndexOf(segment) + 1;
    const labelEnd = decoderSegments.lastIndexOf(segment) + 1;
    assert.ok(segments.slice(used, end).every((s) => s === segment));
    assert.ok(decoderSegments.slice(usedLabels, labelEnd).every((s) => s === segment));
    const wanted = labels.slice(usedLabels, labelEnd);
    assert.deepEqual(decoderInputs.slice(usedLabels, labelEnd), [START, ...wanted.slice(0, -1)]);
    assert.deepEqual([inputs[end - 1], wanted.at(-1)], [EOS, EOS]);
    examples.push(reassemble(inputs.slice(used, end - 1), wanted.slice(0, -1), SENTINELS));
    used = end;
    usedLabels = labelEnd;
  }
  assert.ok(inputs.slice(used).every((id) => id === PAD) && segments.slice(used).every((s) => s === PADDING));
  assert.ok(labels.slice(usedLabels).every((id) => id === IGNORED));
  assert.ok(decoderInputs.slice(usedLabels).every((id) => id === PAD));
  assert.ok(decoderSegments.slice(usedLabels).every((s) => s === PADDING));
  return examples;
}

/** Consecutive numbers: a piece of one document, nothing left out. */
function assertConsecutive(raw: number[]): void {
  for (let i = 1; i < raw.length; i++) assert.equal(raw[i], raw[i - 1]! + 1);
}

/** Every token that is not in a document too short comes up, each about equally often. */
function assertCovers(lengths: number[], least: number, seen: Map<number, number>): void {
  let next = FIRST_TOKEN;
  const counts = lengths.flatMap((length) => {
    const first = next;
    next += length;
    return Array.from({ length }, (_, i) => ({ count: seen.get(first + i) ?? 0, short: length <= least }));
  });
  assert.ok(counts.every(({ count, short }) => (short ? count === 0 : count >= 2)));
  assert.ok(counts.every(({ count }) => count <= 8));
}

for (const packing of ['best_fit', 'none'] as const)
  test(`every piece of a ${packing} batch gives back its text, under its denoiser’s prefix, and no token is lost`, () => {
    for (const corpus of ['ragged', 'long'] as const) {
      const seen = new Map<number, number>();
      let labels = 0;
      const total = corpora[corpus].reduce((a, b) => a + b);
      let raw = 0;
      for (const { batch } of batchesOf(corpus, ul2({ packing, max_length: 256, max_labels_length: 192 }), 8, 2000)) {
        labels = 0;
        for (let row = 0; row < 8; row++) {
          const examples = examplesOfRow(batch, row);
          assert.ok(packing === 'none' ? examples.length === 1 : examples.length >= 1);
          for (const example of examples) {
            assertConsecutive(example.raw);
            const { length } = example.raw;
            const noise = example.labels.filter((id) => id >= FIRST_TOKEN).length;
            const spans = example.labels.length - noise;
            const fits = mixture.some((denoiser) => {
              const wanted = noiseOf(denoiser, length);
              return (
                String(denoiser.prefix) === String(example.prefix) && wanted.noise === noise && wanted.spans === spans
              );
            });
            assert.ok(fits, `${example.prefix}: ${noise} of ${length} in ${spans} spans`);
            if (example.prefix[0] === 51) assert.deepEqual(example.inputs.slice(-1), [SENTINELS[0]]);
            for (const id of example.raw) seen.set(id, (seen.get(id) ?? 0) + 1);
            labels += example.labels.length + 1;
            raw += length;
          }
        }
        assert.equal(batch.tokens, labels);
        if (raw > 4 * total) break;
      }
      assertCovers(corpora[corpus], 10, seen);
    }
  });

test('concatenated rows share one segment, number their sentinels on and end in one EOS', () => {
  for (const { batch } of batchesOf('ragged', ul2({ packing: 'concatenate' }), 4, 12))
    for (let row = 0; row < 4; row++) {
      const at = row * 512;
      const inputs = [...batch.input_ids.subarray(at, at + 512)].filter((id) => id !== PAD);
      const labels = [...batch.labels.subarray(at, at + 512)].filter((id) => id !== IGNORED);
      const sentinelsOf = (ids: number[]) => ids.filter((id) => id >= 100 && id < 356);
      const count = sentinelsOf(inputs).length;
      assert.deepEqual(sentinelsOf(inputs), SENTINELS.slice(0, count));
      assert.deepEqual(sentinelsOf(labels), SENTINELS.slice(0, count));
      assert.deepEqual(labels.indexOf(EOS), labels.length - 1);
      const segments = [...batch.segments!.subarray(at, at + 512)];
      assert.deepEqual(
        segments,
        segments.map((_, i) => (i < inputs.length ? 0 : PADDING)),
      );
      const decoder = [...batch.decoder_input_ids.subarray(at, at + labels.length)];
      assert.deepEqual(decoder, [START, ...labels.slice(0, -1)]);
      // All pieces of the row at once are consecutive runs of tokens, each ended by EOS in the inputs.
      const pieces: number[][] = [[]];
      const noise = new Map<number, number[]>();
      for (const id of labels.slice(0, -1)) {
        if (id < FIRST_TOKEN) noise.set(id, []);
        else noise.get([...noise.keys()].at(-1)!)!.push(id);
      }
      for (const id of inputs)
        if (id === EOS) pieces.push([]);
        else if (id >= FIRST_TOKEN) pieces.at(-1)!.push(id);
        else if (id >= 100) pieces.at(-1)!.push(...noise.get(id)!);
      assert.ok(pieces.length > 2);
      for (const piece of pieces) assertConsecutive(piece);
    }
});

test('a row of span corruption is exactly 512 inputs and 114 labels of a stream that loses nothing', () => {
  const objective: Objective = { name: 'span_corruption', max_length: 512, ...specials };
  const stream: number[] = [];
  const total = corpora.ragged.reduce((a, b) => a + b);
  for (const { batch } of batchesOf('ragged', objective, 4, Math.ceil((2 * total) / 568 / 4))) {
    assert.deepEqual([batch.sourceLength, batch.targetLength, batch.tokens], [512, 114, 456]);
    assert.equal(batch.segments, undefined);
    for (let row = 0; row < 4; row++) {
      const inputs = [...batch.input_ids.subarray(row * 512, (row + 1) * 512)];
      const labels = [...batch.labels.subarray(row * 114, (row + 1) * 114)];
      assert.deepEqual(
        [...batch.decoder_input_ids.subarray(row * 114, (row + 1) * 114)],
        [START, ...labels.slice(0, -1)],
      );
      assert.deepEqual([inputs.pop(), labels.pop()], [EOS, EOS]);
      const noise = new Map<number, number[]>();
      let open: number[] = [];
      for (const id of labels)
        if (id >= 100 && id < 356) noise.set(id, (open = []));
        else open.push(id);
      assert.deepEqual([...noise.keys()], SENTINELS.slice(0, 28));
      const raw = inputs.flatMap((id) => noise.get(id) ?? [id]);
      assert.equal(raw.length, 568);
      stream.push(...raw);
    }
  }
  // An epoch has every token once, in runs of a document's part; EOS comes after a document's last token and only there.
  let next = FIRST_TOKEN;
  const last = new Set(corpora.ragged.map((length) => (next += length) - 1));
  const epoch = stream.slice(0, total + corpora.ragged.length);
  for (let i = 1; i < epoch.length; i++) assert.equal(epoch[i] === EOS, last.has(epoch[i - 1]!));
  const tokens = epoch.filter((id) => id !== EOS).sort((a, b) => a - b);
  assert.deepEqual(
    tokens,
    Array.from({ length: total }, (_, i) => FIRST_TOKEN + i),
  );
});

test('fill is at least 97 % of inputs and labels for FAT5’s shape on long and web-like documents, and the mixture holds', () => {
  for (const corpus of ['long', 'web'] as const) {
    let last = null;
    for (const { statistics } of batchesOf(corpus, ul2(), 32, 40)) last = statistics;
    assert.ok(last!.input_fill > 0.97 && last!.label_fill > 0.97, `${corpus}: ${last!.input_fill} ${last!.label_fill}`);
    const examples = last!.denoisers.reduce((sum, denoiser) => sum + denoiser.examples, 0);
    for (const [i, { proportion }] of mixture.entries()) {
      const share = last!.denoisers[i]!.examples / examples;
      assert.ok(Math.abs(share - proportion) < 4 * Math.sqrt(proportion / examples), `${corpus} ${i}: ${share}`);
    }
  }
});

test('rows never overflow, whatever the mixture and the shape', () => {
  const denoiser = fc.record({
    mean_span: fc.integer({ min: 1, max: 70 }),
    noise_density: fc.constantFrom(0, 0.05, 0.15, 0.3, 0.5, 0.8),
    max_spans: fc.integer({ min: 1, max: 100 }),
    prefix: fc.array(fc.constantFrom(50, 51), { maxLength: 3 }),
    proportion: fc.double({ min: 0.01, max: 1, noNaN: true }),
  });
  let made = 0;
  fc.assert(
    fc.property(
      fc.array(denoiser, { minLength: 1, maxLength: 4 }),
      fc.integer({ min: 12, max: 300 }),
      fc.integer({ min: 12, max: 300 }),
      fc.constantFrom('best_fit', 'concatenate', 'none') as fc.Arbitrary<'best_fit' | 'concatenate' | 'none'>,
      (denoisers: Denoiser[], max_length, max_labels_length, packing) => {
        const objective = ul2({ denoisers, max_length, max_labels_length, packing });
        try {
          batchShape(objective, 2, VOCABULARY);
        } catch (error) {
          assert.ok(error instanceof UsageError);
          return;
        }
        made++;
        for (const { batch, statistics } of batchesOf('ragged', objective, 2, 3)) {
          const counted = batch.labels.filter((id) => id !== IGNORED).length;
          assert.equal(batch.tokens, counted);
          assert.ok(batch.tokens > 0 && statistics.input_fill <= 1 && statistics.label_fill <= 1);
          const own = packing === 'concatenate' ? [] : [0, 1].flatMap((row) => examplesOfRow(batch, row));
          for (const { raw } of own) assertConsecutive(raw);
        }
      },
    ),
    { numRuns: 120, seed: 4 },
  );
  assert.ok(made > 40, `${made} of the shapes were possible`);
});

test('impossible shapes name the value and the remedy', () => {
  const rejected = (objective: Objective, message: RegExp, vocabulary = VOCABULARY) =>
    assert.throws(
      () => batchShape(objective, 4, vocabulary),
      (error: Error) => error instanceof UsageError && message.test(error.message),
    );
  rejected(ul2({ max_length: 6 }), /denoiser R\(3,0\.15\): a row of max_length 6 .*raise max_length/);
  rejected(ul2({ max_labels_length: 5 }), /denoiser S: .*max_labels_length 5 /);
  rejected(ul2({ max_length: 0 }), /max_length: is 0/);
  rejected(ul2({ max_length: 1.5 }), /max_length: is 1\.5/);
  rejected(
    ul2({ sentinels: SENTINELS.slice(0, 100) }),
    /denoiser X\(3,0\.5\): needs 127 sentinels at max_length 512, the tokenizer has 100; lower max_length, set max_spans/,
  );
  rejected(ul2({ sentinels: [5, 6, 5] }), /sentinels: an id appears twice/);
  rejected(ul2({ denoisers: [] }), /denoisers: none given/);
  rejected(ul2({ denoisers: [{ ...mixture[0]!, noise_density: 1 }] }), /noise_density is 1, expected in \[0, 1\)/);
  rejected(ul2({ denoisers: [{ ...mixture[0]!, proportion: 0 }] }), /every proportion is 0/);
  rejected(ul2(), /sentinels\[0\]: is 100, expected an id below vocab_size 90/, 90);
  const spans: Objective = { name: 'span_corruption', max_length: 512, ...specials };
  rejected({ ...spans, sentinels: SENTINELS.slice(0, 27) }, /span_corruption: needs 28 sentinels .*has 27/);
  rejected({ ...spans, max_length: 2 }, /max_length: is 2, too short/);
  rejected({ ...spans, noise_density: 0 }, /noise_density: is 0/);
  assert.throws(
    () => [...batchesOf('ragged', ul2({ min_document_length: 10 ** 6 }), 1, 1)],
    /min_document_length: is 1000000, no document has more tokens/,
  );
});
