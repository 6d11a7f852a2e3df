/**
 * The documents of a prepared folder as one numbered sequence, cut into units that are shuffled: a document of more
 * than `unitTokens` is several units of equal length, so that one book does not fill a hundred batches in a row.
 */
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { FormatError, UsageError } from '../util/errors.ts';
import { finishedManifest, type Split } from './manifest.ts';
import { permutation } from './random.ts';
import { ShardReader } from './shard.ts';

/** Tokens [start, end) of a shard; `last`: the document ends with it. */
export interface Unit {
  shard: number;
  start: number;
  end: number;
  last: boolean;
}

export interface CorpusOptions {
  /** Folder made by `prepare`. */
  folder: string;
  split: Split;
  /** Longer documents are several units. */
  unitTokens: number;
  /** The model's vocabulary: every token must be below it. */
  vocabSize: number;
  /** Tokenizer the tokens must come from, when the caller knows. */
  tokenizerHash?: string | undefined;
}

export class Corpus {
  readonly shards: ShardReader[] = [];
  readonly units: number;
  readonly tokens: number;
  /** Names the tokens: two corpora with the same fingerprint hold the same documents. */
  readonly fingerprint: string;
  /** Per shard: the number of its first unit. */
  private readonly firstUnit: number[] = [];
  /** Per shard: where its documents' units begin, [documents + 1]. */
  private readonly unitStarts: Uint32Array[] = [];

  /** @throws UsageError for a folder that is missing, unfinished or of another tokenizer; FormatError for a bad shard */
  constructor(options: CorpusOptions) {
    const { folder, split, unitTokens, vocabSize, tokenizerHash } = options;
    const manifest = finishedManifest(folder);
    if (manifest.splits[split].length === 0) {
      const remedy = split === 'validation' ? '--validation or --validation-every' : 'more text';
      throw new UsageError(`${folder}: has no ${split} documents, expected some; prepare it again with ${remedy}`);
    }
    const hash = createHash('sha256');
    let units = 0;
    try {
      for (const summary of manifest.splits[split]) {
        const path = join(folder, summary.file);
        const shard = new ShardReader(path);
        this.shards.push(shard);
        if (shard.crc32 !== summary.crc32)
          throw new FormatError(`${path}: is not the shard that ${folder}/index.json lists; prepare the data again`);
        if (shard.vocab_size > vocabSize)
          throw new UsageError(
            `${path}: its vocabulary is ${shard.vocab_size}, expected at most the model's ${vocabSize}`,
          );
        if (tokenizerHash && shard.hash !== tokenizerHash)
          throw new UsageError(`${path}: was made with tokenizer ${shard.hash}, expected ${tokenizerHash}`);
        hash.update(`${summary.file} ${summary.crc32}\n`);
        const starts = new Uint32Array(shard.documents + 1);
        for (let d = 0; d < shard.documents; d++)
          starts[d + 1] = starts[d]! + Math.ceil((shard.startOf(d + 1) - shard.startOf(d)) / unitTokens);
        this.firstUnit.push(units);
        this.unitStarts.push(starts);
        units += starts[shard.documents]!;
      }
    } catch (error) {
      this.close();
      throw error;
    }
    if (units === 0) throw new UsageError(`${folder}: its ${split} shards hold no tokens`);
    this.units = units;
    this.tokens = this.shards.reduce((sum, shard) => sum + shard.tokens, 0);
    this.fingerprint = hash.digest('hex');
  }

  /** Unit `index` of [0, units). */
  unit(index: number): Unit {
    let shard = this.shards.length - 1;
    while (this.firstUnit[shard]! > index) shard--;
    const local = index - this.firstUnit[shard]!;
    const starts = this.unitStarts[shard]!;
    let low = 0;
    let high = starts.length - 1; // starts[low] <= local < starts[high]
    while (high - low > 1) {
      const middle = (low + high) >>> 1;
      if (starts[middle]! <= local) low = middle;
      else high = middle;
    }
    const reader = this.shards[shard]!;
    const from = reader.startOf(low);
    const length = reader.startOf(low + 1) - from;
    const parts = starts[low + 1]! - starts[low]!;
    const part = local - starts[low]!;
    const cut = (k: number): number => from + Math.floor((length * k) / parts);
    return { shard, start: cut(part), end: cut(part + 1), last: part + 1 === parts };
  }

  close(): void {
    for (const shard of this.shards) shard.close();
  }
}

/** Where a `UnitStream` stands: the next unit is number `index` of `epoch`'s order. */
export interface StreamPosition {
  epoch: number;
  index: number;
}

/** All units again and again, each epoch in another seeded order. */
export class UnitStream {
  position: StreamPosition;
  private readonly corpus: Corpus;
  private readonly seed: number;
  private order: (index: number) => number;
  private orderEpoch: number;

  constructor(corpus: Corpus, seed: number, position: StreamPosition = { epoch: 0, index: 0 }) {
    this.corpus = corpus;
    this.seed = seed;
    this.position = { ...position };
    this.orderEpoch = position.epoch;
    this.order = permutation(corpus.units, seed, position.epoch);
  }

  next(): Unit {
    const { position, corpus } = this;
    if (position.index >= corpus.units) {
      position.epoch++;
      position.index = 0;
    }
    if (this.orderEpoch !== position.epoch) {
      this.orderEpoch = position.epoch;
      this.order = permutation(corpus.units, this.seed, position.epoch);
    }
    return corpus.unit(this.order(position.index++));
  }
}
