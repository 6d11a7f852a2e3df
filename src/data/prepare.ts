/**
 * Sources → tokenizer → shards. Shards end where their tokens reach `shard_tokens`, never where a batch happens to
 * end, and the manifest says after each which record comes next: an interrupted run goes on there and its shards are
 * the bytes an uninterrupted one writes.
 */
import { readdirSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { crc32 } from 'node:zlib';
import { FormatError, UsageError } from '../util/errors.ts';
import { lockFolder } from '../util/lock.ts';
import { sourceName } from './decompress.ts';
import { expandSources } from './glob.ts';
import { type Manifest, manifestPath, readManifest, type Split, writeManifest } from './manifest.ts';
import { formatOf, type ReadOptions, readDocuments } from './read.ts';
import { ShardWriter, type TokenSpace } from './shard.ts';

/** Documents as token ids without special tokens: document i is ids[offsets[i] .. offsets[i+1]). */
export interface EncodedBatch {
  ids: Int32Array;
  offsets: ArrayLike<number>;
}

/** What `prepare` needs of a tokenizer. */
export interface DocumentEncoder extends TokenSpace {
  encodeBatch(texts: string[]): EncodedBatch | Promise<EncodedBatch>;
}

export interface PrepareOptions extends ReadOptions {
  /** Files, folders, globs, '-' for standard input. */
  sources: string[];
  /** Held-out documents of their own. */
  validation_sources?: string[];
  /** Keeps about one document in this many, chosen by its text, for validation. Default 0: none. */
  validation_every?: number;
  /** Folder of the shards. */
  output: string;
  tokenizer: DocumentEncoder;
  /** Tokens after which a shard ends. Default 2^27. */
  shard_tokens?: number;
}

export interface PrepareProgress {
  /** Stored bytes read, of `total_bytes` (0: unknown, standard input). */
  bytes: number;
  total_bytes: number;
  documents: number;
  tokens: number;
  /** Records left out by skip_bad. */
  bad: number;
  seconds: number;
}

export interface PrepareEvents {
  progress?(progress: PrepareProgress): void;
  /** A record was left out: "path:line: why". */
  bad?(message: string): void;
  /** Aborted to stop soon: finished shards stay, `complete` is false. */
  signal?: AbortSignal;
}

interface Pending {
  text: string;
  split: Split;
  /** State of the run once this document is in a shard. */
  after: Pick<Manifest, 'position' | 'bad'>;
}

const BATCH_CHARACTERS = 1 << 22;
const BATCH_DOCUMENTS = 4096;

function manifestInputs(options: PrepareOptions): Manifest['inputs'] {
  const { validation_every = 0, shard_tokens = 2 ** 27, tokenizer } = options;
  if (!Number.isInteger(validation_every) || validation_every < 0 || validation_every === 1)
    throw new UsageError(`validation_every: is ${validation_every}, expected 0 (none) or an integer from 2`);
  if (!Number.isInteger(shard_tokens) || shard_tokens < 1 || shard_tokens > 2 ** 31)
    throw new UsageError(`shard_tokens: is ${shard_tokens}, expected an integer from 1 to 2^31`);
  const list = (sources: string[], split: Split) => expandSources(sources).map((file) => ({ ...file, split }));
  const train = list(options.sources, 'train');
  const validation = options.validation_sources?.length ? list(options.validation_sources, 'validation') : [];
  const both = validation.find(({ path }) => train.some((file) => file.path === path));
  if (both) throw new UsageError(`${both.path}: is named by sources and by validation_sources, expected one of them`);
  for (const { path } of [...train, ...validation]) formatOf(path, options); // before hours of work on the others
  return {
    sources: [...train, ...validation],
    format: options.format ?? null,
    field: options.field ?? 'text',
    document: options.document ?? null,
    shard_tokens,
    validation_every,
    tokenizer_hash: tokenizer.hash,
    vocab_size: tokenizer.vocab_size,
  };
}

/** The manifest to go on from. @throws UsageError if the folder was prepared from something else */
function resume(folder: string, inputs: Manifest['inputs']): Manifest {
  const found = readManifest(folder);
  if (!found)
    return {
      format: 'fat5-tokens',
      version: 1,
      inputs,
      position: { source: 0, record: 0 },
      documents: 0,
      tokens: 0,
      bad: 0,
      empty: 0,
      complete: false,
      splits: { train: [], validation: [] },
    };
  for (const key of Object.keys(inputs) as (keyof Manifest['inputs'])[])
    if (JSON.stringify(found.inputs[key]) !== JSON.stringify(inputs[key]))
      throw new UsageError(
        `${manifestPath(folder)}: was prepared with other ${key}; give another output folder, or remove this one`,
      );
  for (const shard of [...found.splits.train, ...found.splits.validation])
    if (statSync(join(folder, shard.file), { throwIfNoEntry: false })?.size !== shard.bytes)
      throw new FormatError(
        `${join(folder, shard.file)}: is missing or not ${shard.bytes} bytes long, as index.json says`,
      );
  return found;
}

/** Documents from the manifest's position on, in batches worth a call of the tokenizer. */
async function* batches(
  options: PrepareOptions,
  manifest: Manifest,
  onBad: (message: string) => number,
  onBytes: (bytes: number) => void,
): AsyncGenerator<Pending[]> {
  const { sources, validation_every } = manifest.inputs;
  const start = { ...manifest.position };
  let bad = manifest.bad;
  let batch: Pending[] = [];
  let characters = 0;
  for (const [source, { path, bytes, split: fixed }] of sources.entries()) {
    if (source < start.source) {
      onBytes(bytes);
      continue;
    }
    let record = 0;
    for await (const found of readDocuments(path, options, onBytes)) {
      record++;
      if (source === start.source && record <= start.record) continue;
      if ('bad' in found) {
        bad = onBad(`${sourceName(path)}:${found.line}: ${found.bad}`);
        continue;
      }
      const held = fixed === 'train' && validation_every > 0 && crc32(found.text) % validation_every === 0;
      batch.push({
        text: found.text,
        split: held ? 'validation' : fixed,
        after: { position: { source, record }, bad },
      });
      characters += found.text.length;
      if (characters < BATCH_CHARACTERS && batch.length < BATCH_DOCUMENTS) continue;
      yield batch;
      batch = [];
      characters = 0;
    }
  }
  if (batch.length > 0) yield batch;
}

/** The shards being written: one per split, closed together so that one position describes both. */
class OpenShards {
  private readonly writers = new Map<Split, ShardWriter>();
  private readonly folder: string;
  private readonly manifest: Manifest;
  private readonly space: TokenSpace;
  tokens = 0;
  documents = 0;
  empty = 0;

  constructor(folder: string, manifest: Manifest, space: TokenSpace) {
    this.folder = folder;
    this.manifest = manifest;
    this.space = space;
  }

  append(split: Split, ids: Int32Array, start: number, end: number): void {
    if (start === end) {
      this.empty++;
      return;
    }
    let writer = this.writers.get(split);
    if (!writer) {
      const number = String(this.manifest.splits[split].length).padStart(5, '0');
      writer = new ShardWriter(join(this.folder, `${split}-${number}.tokens`), this.space);
      this.writers.set(split, writer);
    }
    writer.append(ids, start, end);
    this.tokens += end - start;
    this.documents++;
  }

  /** Finishes the open shards and records them with the position after them. */
  commit(state: Partial<Manifest>): void {
    const { manifest } = this;
    for (const [split, writer] of this.writers) {
      manifest.splits[split].push(writer.finish());
      this.writers.delete(split);
    }
    manifest.documents += this.documents;
    manifest.tokens += this.tokens;
    manifest.empty += this.empty;
    this.documents = this.tokens = this.empty = 0;
    writeManifest(this.folder, Object.assign(manifest, state));
  }

  abandon(): void {
    for (const writer of this.writers.values()) writer.abandon();
  }
}

/**
 * Tokenizes sources into the shards of a folder and returns its manifest; goes on where an interrupted run stopped, behind
 * its last finished shard.
 * @throws UsageError for missing or empty sources, another run's folder, one that another process uses or a full disk; FormatError for bad input
 */
export async function prepare(options: PrepareOptions, events: PrepareEvents = {}): Promise<Manifest> {
  const { output } = options;
  const inputs = manifestInputs(options);
  const release = lockFolder(output, 'give another output folder');
  try {
    return await prepareLocked(options, inputs, events);
  } finally {
    release();
  }
}

async function prepareLocked(
  options: PrepareOptions,
  inputs: Manifest['inputs'],
  events: PrepareEvents,
): Promise<Manifest> {
  const { output, tokenizer } = options;
  const manifest = resume(output, inputs);
  if (manifest.complete) return manifest;
  for (const file of readdirSync(output)) if (file.endsWith('.tokens.tmp')) rmSync(join(output, file));

  const began = performance.now();
  const total_bytes = inputs.sources.some(({ path }) => path === '-')
    ? 0
    : inputs.sources.reduce((sum, { bytes }) => sum + bytes, 0);
  let bytes = 0;
  let bad = manifest.bad; // ahead of the manifest's, which counts up to its position
  const onBad = (message: string): number => {
    events.bad?.(message);
    return ++bad;
  };
  const shards = new OpenShards(output, manifest, tokenizer);
  const report = (): void =>
    events.progress?.({
      bytes,
      total_bytes,
      documents: manifest.documents + shards.documents,
      tokens: manifest.tokens + shards.tokens,
      bad,
      seconds: (performance.now() - began) / 1000,
    });
  try {
    for await (const batch of batches(options, manifest, onBad, (count) => (bytes += count))) {
      const { ids, offsets } = await tokenizer.encodeBatch(batch.map(({ text }) => text));
      if (offsets.length !== batch.length + 1)
        throw new FormatError(`tokenizer: ${offsets.length} offsets for ${batch.length} documents`);
      for (const [i, { split, after }] of batch.entries()) {
        shards.append(split, ids, offsets[i]!, offsets[i + 1]!);
        if (shards.tokens >= inputs.shard_tokens) shards.commit(after);
      }
      report();
      await setImmediate(); // lets signals in
      if (events.signal?.aborted) {
        shards.abandon();
        return manifest;
      }
    }
    const { train } = manifest.splits;
    if (train.length === 0 && shards.documents === 0)
      throw new UsageError(
        `${options.sources.map(sourceName).join(' ')}: no document has any text (${bad} bad records), expected some`,
      );
    shards.commit({ position: { source: inputs.sources.length, record: 0 }, bad, complete: true });
  } catch (error) {
    shards.abandon();
    throw error;
  }
  report();
  return manifest;
}
