/** A tiny model, its tokenizer and labelled sentences about animals and plants: what the tests of fine-tuning run on. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before } from 'node:test';
import { loadFinetuneConfig } from '../src/finetune/config.ts';
import { finetune } from '../src/finetune/finetune.ts';
import { T5ForConditionalGeneration } from '../src/model/t5.ts';
import { trainTokenizer } from '../src/tokenizer/train.ts';

const folder = mkdtempSync(join(tmpdir(), 'fat5-finetune-'));
after(() => rmSync(folder, { recursive: true }));
export const at = (name: string) => join(folder, name);
export const jsonl = (name: string, rows: object[]) => {
  writeFileSync(at(name), rows.map((row) => `${JSON.stringify(row)}\n`).join(''));
  return at(name);
};

export const animals = ['cat', 'dog', 'cow'];
export const plants = ['oak', 'fir', 'elm'];
/** "the small cat sits" is an animal, "the old oak sits" a plant. */
export const sentences = (count: number, from = 0) =>
  Array.from({ length: count }, (_, k) => {
    const i = k + from;
    const noun = [...animals, ...plants][i % 6]!;
    return { words: ['the', ['small', 'old', 'red'][i % 3]!, noun, ['sits', 'lies'][i % 2]!], noun };
  });
export const labelled = (count: number, from = 0) =>
  sentences(count, from).map(({ words, noun }) => ({
    text: words.join(' '),
    label: animals.includes(noun) ? 'animal' : 'plant',
    tags: words.map((word) => (word === noun ? (animals.includes(noun) ? 'B-ANIMAL' : 'B-PLANT') : 'O')),
    tokens: words,
    both: animals.includes(noun) ? ['alive', 'moves'] : ['alive'],
    score: animals.includes(noun) ? 4 : 1,
  }));

before(async () => {
  const texts = sentences(60).map(({ words }) => words.join(' '));
  const { tokenizer } = await trainTokenizer({ vocab_size: 320, sentinels: 4 }, [...texts, 'animal plant']);
  const model = T5ForConditionalGeneration.from_config({
    vocab_size: tokenizer.vocab_size,
    d_model: 32,
    d_kv: 8,
    d_ff: 64,
    num_layers: 2,
    num_heads: 4,
    dropout_rate: 0.1,
    pad_token_id: tokenizer.pad_token_id,
    eos_token_id: tokenizer.eos_token_id,
    decoder_start_token_id: tokenizer.pad_token_id,
    tie_word_embeddings: true,
  });
  await model.save_pretrained(at('model'));
  model.dispose();
  tokenizer.save(at('model'));
  jsonl('train.jsonl', labelled(48));
  jsonl('held.jsonl', labelled(12, 3));
});

const quiet = { note: () => {}, progress: () => {} };
export function run(name: string, task: object, more: object = {}, signal: AbortSignal = new AbortController().signal) {
  const settings = {
    task,
    runs_directory: at('runs'),
    model: at('model'),
    data: { train: at('train.jsonl'), validation: at('held.jsonl'), test: at('held.jsonl') },
    optim: { name: 'adamw', learning_rate: 1e-2, schedule: { name: 'constant' } },
    train: { epochs: 2, rows: 8, max_length: 32 },
    log: { every: 1 },
    ...more,
  };
  writeFileSync(at(`${name}.yaml`), JSON.stringify(settings));
  return finetune(loadFinetuneConfig(at(`${name}.yaml`)), { ...quiet, signal });
}
