import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { prepare } from '../src/data/prepare.ts';
import { trainTokenizer } from '../src/tokenizer/train.ts';
import { documentEncoder } from '../src/train/document_encoder.ts';
import { readMetrics } from '../src/train/metrics.ts';

const main = fileURLToPath(new URL('../src/cli/main.js', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'fat5-resume-'));
after(() => rmSync(folder, { recursive: true }));

const steps = 48;
const config = `
tokenizer: tokenizer
model: { vocab_size: 400, d_model: 16, d_kv: 8, d_ff: 32, num_layers: 1, num_heads: 2, feed_forward_proj: gated-gelu,
  dropout_rate: 0.1, pad_token_id: 4, eos_token_id: 2 }
data: { folder: shards, max_length: 32 }
optim: { learning_rate: 2e-2, schedule: { name: cosine, warmup_steps: 5 } }
train: { steps: ${steps}, rows: 2, accumulation: 2, ema: 0.9 }
evaluate: { every: 16, batches: 2 }
checkpoint: { every: 7 }
log: { every: 3 }
`;

/** Sentences of a made-up language, the same every time. */
function text(documents: number): string[] {
  let state = 12345;
  const random = (n: number) => (state = (state * 1103515245 + 12345) & 0x7fffffff) % n;
  const syllables = ['ka', 'lo', 'mi', 'tu', 're', 'san', 'vel', 'dor'];
  const word = () => Array.from({ length: 1 + random(3) }, () => syllables[random(syllables.length)]).join('');
  return Array.from({ length: documents }, () => Array.from({ length: 40 + random(60) }, word).join(' '));
}

interface Outcome {
  status: number | null;
  output: string;
}

/** Runs the program in the test's folder; `watch` sees the process and decides about its end. */
function fat5(args: string[], watch: (child: ReturnType<typeof spawn>) => void = () => {}): Promise<Outcome> {
  const child = spawn(process.execPath, [main, ...args], { cwd: folder, env: { ...process.env, FAT5_THREADS: '1' } });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk: Buffer) => void (output += chunk));
  watch(child);
  return new Promise((resolve) => child.on('close', (status) => resolve({ status, output })));
}

const metricsOf = (name: string) => readMetrics(join(folder, 'runs', name, 'metrics.jsonl'));

/** What must not depend on interruptions: everything but times and memory. */
const losses = (name: string) =>
  metricsOf(name).map((r) =>
    r.kind === 'train'
      ? [r.step, r.loss, r.z_loss, r.accuracy, r.grad_norm, r.weight_norm, r.learning_rate, r.padding, r.label_tokens]
      : r.kind === 'evaluation' && [r.step, r.nll, r.accuracy, r.tokens],
  );

before(async () => {
  const texts = text(120);
  const { tokenizer } = await trainTokenizer({ vocab_size: 400, sentinels: 40 }, texts);
  tokenizer.save(join(folder, 'tokenizer'));
  writeFileSync(join(folder, 'text.jsonl'), texts.map((t) => `${JSON.stringify({ text: t })}\n`).join(''));
  const options = { sources: [join(folder, 'text.jsonl')], validation_every: 8, output: join(folder, 'shards') };
  await prepare({ ...options, tokenizer: documentEncoder(tokenizer) });
  writeFileSync(join(folder, 'tiny.yaml'), config);
  const { status, output } = await fat5(['pretrain', 'tiny.yaml', 'name=whole']);
  assert.equal(status, 0, output);
});

describe('a run that is interrupted', () => {
  test('has the losses of one that is not, bit for bit, however often it is killed', async () => {
    const path = join(folder, 'runs/killed/metrics.jsonl');
    const size = () => (existsSync(path) ? readFileSync(path).length : 0);
    let kills = 0;
    for (let end = false; !end; ) {
      const grown = size() + 300 + 900 * (kills % 3); // bytes of metrics to wait for, a different moment each time
      const { status, output } = await fat5(['pretrain', 'tiny.yaml', 'name=killed'], (child) => {
        const timer = setInterval(() => size() >= grown && child.kill('SIGKILL'), 1);
        child.on('close', () => clearInterval(timer));
      });
      assert.ok(status === 0 || status === null, output);
      end = status === 0;
      if (!end) kills++;
      assert.ok(kills < 50, 'no progress');
    }
    assert.ok(kills >= 3, `only ${kills} kills`);
    assert.deepEqual(losses('killed'), losses('whole'));
    assert.equal(metricsOf('whole').filter((r) => r.kind === 'train').length, steps / 3);
  });

  test('by Ctrl-C saves, says how to go on, and goes on', async () => {
    const { status, output } = await fat5(['pretrain', 'tiny.yaml', 'name=stopped'], (child) => {
      child.stdout?.on('data', (chunk: Buffer) => chunk.includes('Step 6 ') && child.kill('SIGINT'));
    });
    assert.equal(status, 130, output);
    assert.match(output, /interrupted; the same command goes on from here/);
    const saved = readdirSync(join(folder, 'runs/stopped/checkpoints'));
    assert.equal(saved.length, 1, String(saved));
    const again = await fat5(['pretrain', 'runs/stopped/config.yaml']);
    assert.equal(again.status, 0, again.output);
    assert.match(again.output, /goes on after step/);
    assert.deepEqual(losses('stopped'), losses('whole'));
    const third = await fat5(['pretrain', 'runs/stopped/config.yaml']);
    assert.match(third.output, /is the end of this run of \d+ steps; with more train\.steps= it goes on/);
    assert.deepEqual(losses('stopped'), losses('whole'));
  });

  test('goes on from the checkpoint before a damaged one, with a warning', async () => {
    await fat5(['pretrain', 'tiny.yaml', 'name=damaged', 'train.steps=14', 'evaluate.every=0']);
    const path = join(folder, 'runs/damaged/checkpoints/step-0000014/optimizer.safetensors');
    const bytes = readFileSync(path);
    bytes[bytes.length >> 1]! ^= 1;
    writeFileSync(path, bytes);
    const { status, output } = await fat5([
      'pretrain',
      'tiny.yaml',
      'name=damaged',
      'train.steps=14',
      'evaluate.every=0',
    ]);
    assert.equal(status, 0, output);
    assert.match(output, /warning: .*step-0000014\/optimizer\.safetensors: damaged/);
    assert.match(output, /goes on after step 7 of 14/);
    const weights = join(folder, 'runs/damaged/checkpoints/step-0000014/model.safetensors');
    const bad = readFileSync(weights);
    bad[bad.length >> 1]! ^= 1;
    writeFileSync(weights, bad);
    const refused = await fat5(['evaluate', 'runs/damaged']);
    assert.equal(refused.status, 3, refused.output);
    assert.match(refused.output, /^fat5: .*step-0000014\/model\.safetensors: damaged, .*; name another checkpoint/);
  });

  test('keeps a second process out, which leaves it alone', async () => {
    let second: Promise<Outcome> | undefined;
    const { status, output } = await fat5(['pretrain', 'tiny.yaml', 'name=shared'], (child) => {
      child.stdout?.on('data', (chunk: Buffer) => {
        if (second || !chunk.includes('Step 6 ')) return;
        child.kill('SIGSTOP'); // as long as the other needs
        second = fat5(['pretrain', 'tiny.yaml', 'name=shared']).finally(() => child.kill('SIGCONT'));
      });
    });
    assert.equal(status, 0, output);
    const refused = await second!;
    assert.equal(refused.status, 2, refused.output);
    assert.match(
      refused.output,
      /^fat5: runs\/shared: is in use by process \d+ on \S+; wait until it ends, .* choose another name=…\n$/,
    );
    assert.deepEqual(losses('shared'), losses('whole'));
    assert.ok(!existsSync(join(folder, 'runs/shared/.lock')));
  });

  test('may not change what decides its next steps', async () => {
    const { status, output } = await fat5(['pretrain', 'tiny.yaml', 'name=whole', 'optim.learning_rate=1']);
    assert.equal(status, 2);
    assert.match(output, /the run was started with optim\.learning_rate 0\.02, now it is 1; choose another name=/);
  });
});

describe('a run', () => {
  test('evaluates as `fat5 evaluate` does', async () => {
    const args = ['evaluate', 'runs/whole', '--json', 'evaluate.batches=2', 'train.ema=null'];
    const { status, output } = await fat5(args);
    assert.equal(status, 0, output);
    assert.ok(Number.isFinite((JSON.parse(output) as { nll: number }).nll));
  });

  test('whose loss is not finite stops with the step, the remedy and its checkpoints', async () => {
    const wild = [
      'optim.name=adamw',
      'optim.learning_rate=1e30',
      'train.max_grad_norm=null',
      'optim.schedule.name=constant',
    ];
    const rest = ['optim.schedule={name: constant}', 'checkpoint.every=1', 'evaluate.every=0', 'name=wild'];
    const { status, output } = await fat5(['pretrain', 'tiny.yaml', ...wild, ...rest]);
    assert.equal(status, 2, output);
    assert.match(
      output,
      /fat5: train: step \d+: the (loss|gradient norm) is (NaN|Infinity) .*lower optim\.learning_rate/,
    );
    assert.ok(readdirSync(join(folder, 'runs/wild/checkpoints')).length > 0);
  });

  for (const [setting, message] of [
    ['data.max_length=4', /denoiser .*max_length/],
    ['data.max_length=2048', /sentinels/],
    ['model.vocab_size=100', /vocab_size is 100, expected at least the \d+ of tokenizer/],
    ['model.eos_token_id=1', /model\.eos_token_id is 1, expected 2/],
    ['data.folder=nowhere', /nowhere.*not found/],
    ['tokenizer=nowhere', /nowhere.*not found/],
  ] as const)
    test(`with ${setting} is refused with one line`, async () => {
      const { status, output } = await fat5(['pretrain', 'tiny.yaml', 'name=bad', setting]);
      assert.equal(status, 2, output);
      assert.match(output, message);
      assert.equal(output.trim().split('\n').length, 1, output);
    });
});
