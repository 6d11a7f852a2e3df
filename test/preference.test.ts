/** Direct preference optimization: against PyTorch, against finite differences, and that it learns. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { type PreferencePairs, T5ForPreferences } from '../src/model/preference.ts';
import { dispose } from '../src/tensor/scope.ts';
import { Trainer } from '../src/train/trainer.ts';
import { testedDevice } from './harness.ts';
import { published } from './model_configs.ts';

interface Golden {
  loss: number;
  log_probabilities: number[];
  margins: number[];
  gradient_norms: Record<string, number>;
  head: number[];
}
const { models, ...given } = JSON.parse(
  readFileSync(new URL('../../test/golden/preference.json', import.meta.url), 'utf8'),
) as Omit<PreferencePairs, 'label_smoothing'> & { models: Record<'v1_0' | 'v1_1', Record<string, Golden>> };

const norm = (values: ArrayLike<number>) => Math.hypot(...Array.from(values));
const near = (got: ArrayLike<number>, want: ArrayLike<number>, tolerance: number, what: string) =>
  Array.from(want).forEach((value, i) => {
    assert.ok(Math.abs(got[i]! - value) <= tolerance, `${what} ${i}: ${got[i]}, expected ${value}`);
  });

for (const [name, smoothings] of Object.entries(models))
  for (const device of [testedDevice, 'reference'] as const)
    test(`${name} on ${device}: likelihoods, loss and gradients are PyTorch's`, async () => {
      const model = T5ForPreferences.from_config(published[name as 'v1_0'], { device, seed: 7 });
      for (const [smoothing, want] of Object.entries(smoothings)) {
        near(await model.logProbabilities(given), want.log_probabilities, 2e-5, 'log-probability');
        model.parameters.trainable();
        model.parameters.zeroGradients();
        const inputs = { ...given, label_smoothing: Number(smoothing) };
        const stats = model.accumulateGradients({ inputs, tokens: 2 }, { denominator: 2 });
        const right = want.margins.filter((margin) => margin > 0).length;
        const margins = want.margins[0]! + want.margins[1]!;
        near(await stats.read(), [2 * want.loss, 0, right, margins], 2e-5, `smoothing ${smoothing}: sum`);
        dispose(stats);
        model.parameters.finishGradients();
        for (const [parameter, length] of Object.entries(want.gradient_norms)) {
          const got = norm(await model.parameters.get(parameter).grad!.read());
          assert.ok(Math.abs(got - length) <= 3e-5 * length + 1e-9, `${parameter}: ${got}, expected ${length}`);
        }
        const head = model.parameters.get(name === 'v1_0' ? 'shared.weight' : 'lm_head.weight').grad!;
        near(await head.part(30 * 16, 16).read(), want.head, 1e-6, 'row 30 of the head');
      }
      model.dispose();
    });

test('training moves likelihood from the other answers to the preferred ones', async () => {
  const model = T5ForPreferences.from_config(published.v1_1, { device: testedDevice, seed: 7 });
  const before = await model.logProbabilities(given);
  const trainer = new Trainer(model, { optimizer: { name: 'adamw', learning_rate: 1e-3 } });
  const inputs = { ...given, reference: before, label_smoothing: 0 };
  const results = [];
  for (let i = 0; i < 20; i++) results.push(await trainer.stepOn([{ inputs, tokens: 2 }]));
  assert.ok(Math.abs(results[0]!.loss - Math.LN2) < 1e-5, `${results[0]!.loss}`);
  assert.ok(results.at(-1)!.loss < 0.6, `${results.at(-1)!.loss}`);
  assert.equal(results.at(-1)!.accuracy, 1);
  const after = await model.logProbabilities(given);
  for (const pair of [0, 1])
    assert.ok(after[pair]! - before[pair]! > after[pair + 2]! - before[pair + 2]!, `pair ${pair}`);
  trainer.dispose();
  model.dispose();
});

test('answers that are not two for each prompt are refused', () => {
  const model = T5ForPreferences.from_config(published.v1_0, { device: testedDevice });
  const batch = { inputs: { ...given, labels: given.labels.slice(0, 3), label_smoothing: 0 }, tokens: 2 };
  assert.throws(
    () => model.accumulateGradients(batch, { denominator: 2 }),
    /labels: 3 rows, expected as many for each/,
  );
  model.dispose();
});
