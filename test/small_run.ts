/** A tiny tokenizer and model in a folder of a test's own, and fine-tuning runs of them. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { loadFinetuneConfig } from '../src/finetune/config.ts';
import { finetune } from '../src/finetune/finetune.ts';
import type { FinetuneResult } from '../src/finetune/result.ts';
import { T5ForConditionalGeneration } from '../src/model/t5.ts';
import { trainTokenizer } from '../src/tokenizer/train.ts';
import { makeFolder } from '../src/util/new_file.ts';

export interface SmallRun {
  /** A path in the folder. */
  at(name: string): string;
  /** Writes rows as JSON Lines; gives the path. */
  jsonl(name: string, rows: readonly object[]): string;
  /** The objects of a JSON Lines file of the folder. */
  lines<R>(name: string): R[];
  run(name: string, settings: object, signal?: AbortSignal): Promise<FinetuneResult | undefined>;
  /** Removes the folder. */
  remove(): void;
}

/** @param texts what the tokenizer is trained on */
export async function smallRun(texts: readonly string[]): Promise<SmallRun> {
  const folder = mkdtempSync(join(tmpdir(), 'fat5-small-'));
  const at = (name: string) => join(folder, name);
  const { tokenizer } = await trainTokenizer({ vocab_size: 300, sentinels: 4 }, texts);
  const { pad_token_id, eos_token_id, vocab_size } = tokenizer;
  const model = T5ForConditionalGeneration.from_config({
    ...{ vocab_size, pad_token_id, eos_token_id, decoder_start_token_id: pad_token_id, tie_word_embeddings: true },
    ...{ d_model: 32, d_kv: 8, d_ff: 64, num_layers: 2, num_heads: 4, dropout_rate: 0 },
  });
  await model.save_pretrained(at('model'));
  model.dispose();
  tokenizer.save(at('model'));
  const write = (name: string, text: string) => {
    makeFolder(dirname(at(name)));
    writeFileSync(at(name), text);
    return at(name);
  };
  return {
    at,
    remove: () => rmSync(folder, { recursive: true }),
    jsonl: (name, rows) => write(name, rows.map((row) => `${JSON.stringify(row)}\n`).join('')),
    lines: <R>(name: string) =>
      readFileSync(at(name), 'utf8')
        .trimEnd()
        .split('\n')
        .map((line) => JSON.parse(line) as R),
    run(name, settings, signal = new AbortController().signal) {
      const all = {
        runs_directory: at('runs'),
        model: at('model'),
        optim: { name: 'adamw', learning_rate: 1e-2, schedule: { name: 'constant' } },
        log: { every: 1 },
        ...settings,
      };
      const config = loadFinetuneConfig(write(`${name}.yaml`, JSON.stringify(all)));
      return finetune(config, { note: () => {}, progress: () => {}, signal });
    },
  };
}
