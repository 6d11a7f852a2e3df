/**
 * Models whose results can be worked out by hand: attention and feed-forward layers give zero, embeddings are unit
 * vectors, so that a head's logits for a token are a row of a table, whatever stands around it.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { T5ConfigInput } from '../src/model/config.ts';
import type { PretrainedT5 } from '../src/model/pretrained.ts';
import { openTokenizer } from '../src/tokenizer/auto_tokenizer.ts';
import { makeFolder } from '../src/util/new_file.ts';

/** The vocabulary: a token's id is its place. ▁ begins a word. */
export const pieces = [
  ...['<pad>', '</s>', '<unk>', '▁', '▁Ada', '▁Love', 'lace', '▁lives', '▁in', '▁Lon', 'don', '.', '▁who', '▁where'],
  ...['▁New', '▁York', '😀', '▁good', '▁bad', '?', 'a', 'b', 'c', 'd'],
];
export const idOf = (piece: string) => pieces.indexOf(piece);
const WIDTH = 24;

export const lookupConfig = {
  vocab_size: WIDTH,
  d_model: WIDTH,
  d_kv: 4,
  d_ff: 8,
  num_layers: 1,
  num_heads: 2,
  dropout_rate: 0,
  pad_token_id: 0,
  eos_token_id: 1,
  decoder_start_token_id: 0,
} satisfies T5ConfigInput;

/** Writes a tokenizer of the vocabulary above into a folder; every piece costs the same. */
export function saveTokenizer(folder: string, config: object = {}): void {
  makeFolder(folder);
  const metaspace = { type: 'Metaspace', replacement: '▁', prepend_scheme: 'always', split: true };
  const flags = { single_word: false, lstrip: false, rstrip: false, normalized: false, special: true };
  const end = { SpecialToken: { id: '</s>', type_id: 0 } };
  const part = (id: 'A' | 'B') => ({ Sequence: { id, type_id: 0 } });
  const file = {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: pieces.slice(0, 3).map((content, id) => ({ id, content, ...flags })),
    normalizer: null,
    pre_tokenizer: metaspace,
    post_processor: {
      type: 'TemplateProcessing',
      single: [part('A'), end],
      pair: [part('A'), end, part('B'), end],
      special_tokens: { '</s>': { id: '</s>', ids: [1], tokens: ['</s>'] } },
    },
    decoder: metaspace,
    model: { type: 'Unigram', unk_id: 2, byte_fallback: false, vocab: pieces.map((piece) => [piece, -1]) },
  };
  writeFileSync(join(folder, 'tokenizer.json'), JSON.stringify(file));
  const special = { pad_token: '<pad>', eos_token: '</s>', unk_token: '<unk>' };
  writeFileSync(join(folder, 'tokenizer_config.json'), JSON.stringify({ ...special, ...config }));
}

export const tokenizerOf = (folder: string) => openTokenizer(folder);

/** Sets a model's weights as said above, and those of its linear head: logits(token) = table[token] ?? otherwise. */
export function makeLookup(
  model: PretrainedT5,
  head: string,
  table: Readonly<Record<string, readonly number[]>>,
  otherwise: readonly number[],
): void {
  const { parameters } = model;
  const set = (name: string, value: (row: number, column: number) => number) => {
    const tensor = parameters.get(name);
    const [rows, columns = 1] = tensor.shape as [number, number?];
    tensor.write(Float32Array.from({ length: rows * columns }, (_, i) => value(Math.floor(i / columns), i % columns)));
  };
  for (const { name } of parameters.places) {
    if (name.endsWith('.o.weight') || name.endsWith('.wo.weight')) set(name, () => 0);
    if (name.endsWith('shared.weight')) set(name, (row, column) => (row === column ? 1 : 0));
  }
  const logits = pieces.map((piece) => table[piece] ?? otherwise);
  set(`${head}.weight`, (row, column) => (logits[column]?.[row] ?? 0) / Math.sqrt(WIDTH)); // the norm multiplies by √24
  set(`${head}.bias`, () => 0);
}
