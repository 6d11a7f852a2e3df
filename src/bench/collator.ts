/** UL2 and span corruption from shards to batches, on one thread. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fat5Denoisers } from '../data/denoiser.ts';
import type { Objective } from '../data/objective.ts';
import { prepare } from '../data/prepare.ts';
import { createBatchSource } from '../data/source.ts';
import { fastest, type Measurement } from './bench.ts';

const VOCABULARY = 32768;
const DOCUMENTS = 4000;
const ROWS = 64;
const SECONDS = 3;

const ids = {
  eos_token_id: 2,
  pad_token_id: 4,
  decoder_start_token_id: 0,
  sentinels: Array.from({ length: 256 }, (_, i) => 7 + i),
};
const objectives: Record<string, Objective> = {
  'ul2 best_fit 512+512': {
    ...ids,
    name: 'ul2',
    max_length: 512,
    max_labels_length: 512,
    denoisers: fat5Denoisers({ R: [263], S: [264], X: [265] }),
  },
  'span_corruption 512+114': { ...ids, name: 'span_corruption', max_length: 512 },
};

/** Documents of 50 to 2,000 tokens. */
const lengthOf = (document: number): number => 50 + ((document * 7919) % 1951);

export async function benchCollator(): Promise<Measurement[]> {
  const folder = mkdtempSync(join(tmpdir(), 'fat5-bench-'));
  try {
    const source = join(folder, 'documents.txt');
    writeFileSync(source, Array.from({ length: DOCUMENTS }, (_, i) => `${i}\n`).join(''));
    const encodeBatch = (texts: string[]) => {
      const offsets = [0];
      for (const text of texts) offsets.push(offsets.at(-1)! + lengthOf(Number(text)));
      const tokens = Int32Array.from({ length: offsets.at(-1)! }, (_, i) => 300 + ((i * 7919) % (VOCABULARY - 300)));
      return { ids: tokens, offsets };
    };
    const tokenizer = { vocab_size: VOCABULARY, hash: '0'.repeat(64), encodeBatch };
    const output = join(folder, 'shards');
    await prepare({ sources: [source], document: 'line', output, tokenizer });
    const found: Measurement[] = [];
    for (const [name, objective] of Object.entries(objectives)) {
      const batches = createBatchSource({
        folder: output,
        objective,
        rows: ROWS,
        seed: 1,
        vocab_size: VOCABULARY,
        mode: 'inline',
      });
      const { sourceLength, targetLength } = await batches.next();
      const milliseconds = await fastest(SECONDS, async () => void (await batches.next()));
      await batches.close();
      const rate = (ROWS * (sourceLength + targetLength)) / milliseconds / 1000;
      found.push({ case: `${name} ${ROWS} rows`, milliseconds, rate, unit: 'M tokens/s', peakMegabytes: 0 });
    }
    return found;
  } finally {
    rmSync(folder, { recursive: true });
  }
}
