// Loss curves beside PyTorch's: the same model from the same weights on the same batches with the same optimizer.
//   node scripts/loss_curve.mjs batches CONFIG.yaml FOLDER [key=value…]  the batches of a configuration, train.steps of them
//   node scripts/loss_curve.mjs weights SHAPE FOLDER                     random weights, SHAPE being base, fat5-small or tiny
//   node scripts/loss_curve.mjs train SHAPE FOLDER DEVICE ROUNDING       master, kahan, stochastic, or float32
//   python3 scripts/loss_curve_torch.py SHAPE FOLDER DEVICE [NOISE]      PyTorch; weights times 1 + NOISE, to see what chance does
//   node scripts/loss_curve.mjs table FOLDER                             tables and FOLDER/loss_curve_SHAPE.svg of what has run
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { T5ForConditionalGeneration, Trainer } from '../dist/src/index.js';
import { openTokenizer } from '../dist/src/tokenizer/auto_tokenizer.js';
import { trainingBatches } from '../dist/src/train/batches.js';
import { loadTrainConfig } from '../dist/src/train/config_file.js';
import { chartFile } from '../dist/src/util/chart.js';

/** learning_rate is the schedule's peak: half of nanoT5's for a sixteenth of its rows, and FAT5's own. */
const shapes = {
  base: { d_model: 768, d_kv: 64, d_ff: 2048, num_layers: 12, num_heads: 12, vocab_size: 32_128, learning_rate: 1e-2 },
  'fat5-small': {
    ...{ d_model: 512, d_kv: 64, d_ff: 2048, num_layers: 12, num_heads: 8, vocab_size: 32_768, learning_rate: 5e-3 },
  },
  tiny: { d_model: 64, d_kv: 16, d_ff: 128, num_layers: 2, num_heads: 4, vocab_size: 8192, learning_rate: 1e-2 },
};
const WARM_UP = 100;
const LAST_RATE = 1e-5;
/** Steps to a point of the chart. */
const EACH = 25;
const read = (folder, name) => JSON.parse(readFileSync(join(folder, name), 'utf8'));
const write = (folder, name, value) => writeFileSync(join(folder, name), JSON.stringify(value));

/** batches.u16 holds source and target ids of one batch after another; batches.json says their shape. */
async function batches(path, folder, ...overrides) {
  const config = loadTrainConfig(path, overrides);
  const source = trainingBatches(config, openTokenizer(config.tokenizer), undefined);
  const { steps } = config.train;
  const parts = [];
  let shape;
  for (let step = 0; step < steps; step++) {
    const { rows, sourceLength, targetLength, input_ids, labels, segments } = await source.next();
    if (segments || labels.some((id) => id < 0)) throw new Error('expected full rows of one document each');
    shape = { rows, sourceLength, targetLength };
    parts.push(Uint16Array.from(input_ids), Uint16Array.from(labels));
  }
  await source.close();
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, 'batches.u16'), Buffer.concat(parts.map((part) => Buffer.from(part.buffer))));
  const { pad_token_id, eos_token_id, decoder_start_token_id } = config.model;
  write(folder, 'batches.json', { ...shape, steps, pad_token_id, eos_token_id, decoder_start_token_id });
}

/** In bfloat16, where every side begins. */
async function weights(name, folder) {
  const { learning_rate: _, ...shape } = shapes[name];
  const { pad_token_id, eos_token_id, decoder_start_token_id } = read(folder, 'batches.json');
  const model = T5ForConditionalGeneration.from_config(
    {
      ...{ ...shape, pad_token_id, eos_token_id, decoder_start_token_id },
      ...{ feed_forward_proj: 'gated-gelu', tie_word_embeddings: false, dropout_rate: 0 },
    },
    { device: 'cpu', dtype: 'bfloat16', seed: 11 },
  );
  await model.save_pretrained(join(folder, name));
  model.dispose();
}

function* stored(folder) {
  const { rows, sourceLength, targetLength, steps, decoder_start_token_id } = read(folder, 'batches.json');
  const { buffer } = new Uint8Array(readFileSync(join(folder, 'batches.u16')));
  const all = new Uint16Array(buffer);
  const [source, target] = [rows * sourceLength, rows * targetLength];
  for (let step = 0; step < steps; step++) {
    const start = step * (source + target);
    const input_ids = Int32Array.from(all.subarray(start, start + source));
    const labels = Int32Array.from(all.subarray(start + source, start + source + target));
    const before = (_, i) => (i % targetLength === 0 ? decoder_start_token_id : labels[i - 1]);
    const decoder_input_ids = Int32Array.from(labels, before);
    yield { rows, sourceLength, targetLength, tokens: target, input_ids, decoder_input_ids, labels };
  }
}

async function train(name, folder, device, rounding) {
  const { steps } = read(folder, 'batches.json');
  const dtype = rounding === 'float32' ? 'float32' : 'bfloat16';
  const { learning_rate } = shapes[name];
  const model = await T5ForConditionalGeneration.from_pretrained(join(folder, name), { device, dtype });
  const trainer = new Trainer(model, {
    optimizer: { name: 'adamw_scale', learning_rate, ...(dtype === 'bfloat16' && { rounding }) },
    schedule: {
      ...{ name: 'cosine', total_steps: steps, warmup_steps: WARM_UP, warmup_start: 0.5 },
      final_learning_rate: LAST_RATE,
    },
    max_grad_norm: 1,
  });
  const losses = [];
  for (const batch of stored(folder)) {
    losses.push((await trainer.stepOn([batch])).loss);
    if (losses.length % 100 === 0)
      console.log(`${name} ${rounding}, step ${losses.length}: ${losses.at(-1).toFixed(4)}`);
  }
  write(folder, `curve_${name}_fat5 ${rounding}.json`, losses);
  trainer.dispose();
  model.dispose();
}

const mean = (values) => values.reduce((sum, x) => sum + x, 0) / values.length;

/** Means of tenths of what all runs have, PyTorch's and then differences from it; a chart of the means of a few steps. */
function table(folder) {
  for (const name of Object.keys(shapes)) {
    const files = readdirSync(folder).filter((file) => file.startsWith(`curve_${name}_`));
    const all = files.map((file) => [file.slice(`curve_${name}_`.length, -'.json'.length), read(folder, file)]);
    const count = Math.min(...all.map(([, losses]) => losses.length));
    const runs = all.map(([label, losses]) => [label, losses.slice(0, count)]);
    const torch = runs.find(([label]) => label === 'PyTorch')?.[1];
    if (!torch) continue;
    const tenth = torch.length / 10;
    const tenths = (of) => Array.from({ length: 10 }, (_, i) => mean(of.slice(i * tenth, (i + 1) * tenth)));
    const row = (...cells) => console.log(`| ${cells.join(' | ')} |`);
    row(name, ...Array.from({ length: 10 }, (_, i) => `to ${(i + 1) * tenth}`), 'root mean square');
    row(...Array.from({ length: 12 }, () => '---'));
    row('PyTorch', ...tenths(torch).map((x) => x.toFixed(4)), '');
    for (const [label, losses] of runs) {
      if (losses === torch) continue;
      const apart = losses.map((x, i) => x - torch[i]);
      const signed = (x) => `${x < 0 ? '−' : '+'}${Math.abs(x).toFixed(4)}`;
      row(label, ...tenths(apart).map(signed), Math.sqrt(mean(apart.map((x) => x * x))).toFixed(4));
    }
    const points = (of) =>
      Array.from({ length: Math.floor(of.length / EACH) }, (_, i) => [
        (i + 0.5) * EACH,
        mean(of.slice(i * EACH, (i + 1) * EACH)),
      ]);
    const series = all.map(([label, losses]) => ({ label, dots: false, points: points(losses) }));
    const labels = { title: `Training loss, ${name}`, x: 'step', y: 'cross entropy, nats a token' };
    writeFileSync(join(folder, `loss_curve_${name}.svg`), `${chartFile(series, labels)}\n`);
  }
}

const [what, ...rest] = process.argv.slice(2);
const commands = { batches, weights, train, table };
if (!Object.hasOwn(commands, what)) throw new Error(`expected one of ${Object.keys(commands).join(', ')}`);
await commands[what](...rest);
