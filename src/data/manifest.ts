/** index.json of a prepared folder: which shards are finished, from what they were made, and where to go on. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { FormatError, UsageError } from '../util/errors.ts';
import { writeWhole } from '../util/new_file.ts';

const count = z.number().int().nonnegative();

const shardSummary = z.strictObject({
  file: z.string().regex(/^[a-z]+-\d+\.tokens$/),
  documents: count,
  tokens: count,
  bytes: count,
  crc32: count,
});

const manifestSchema = z.strictObject({
  format: z.literal('fat5-tokens'),
  version: z.literal(1),
  /** Everything that decides the shards' content: a run that differs in any of it does not go on here. */
  inputs: z.strictObject({
    sources: z.array(z.strictObject({ path: z.string(), bytes: count, split: z.enum(['train', 'validation']) })),
    format: z.enum(['text', 'jsonl']).nullable(),
    field: z.string(),
    document: z.enum(['file', 'line', 'blank-line']).nullable(),
    shard_tokens: count,
    validation_every: count,
    tokenizer_hash: z.string(),
    vocab_size: count,
  }),
  /** Records of `sources[source]` whose tokens are in finished shards, and what had been met until then. */
  position: z.strictObject({ source: count, record: count }),
  documents: count,
  tokens: count,
  bad: count,
  empty: count,
  complete: z.boolean(),
  splits: z.strictObject({ train: z.array(shardSummary), validation: z.array(shardSummary) }),
});

export type Manifest = z.infer<typeof manifestSchema>;
export type Split = keyof Manifest['splits'];

export const manifestPath = (folder: string): string => join(folder, 'index.json');

/** The manifest of a folder, null when it has none. @throws FormatError if it is no manifest */
export function readManifest(folder: string): Manifest | null {
  const path = manifestPath(folder);
  if (!existsSync(path)) return null;
  let value: unknown;
  try {
    value = JSON.parse(readFileSync(path, 'utf8'));
  } catch (cause) {
    throw new FormatError(`${path}: is not JSON (${(cause as Error).message}); prepare the data again`, { cause });
  }
  const parsed = manifestSchema.safeParse(value);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0]!;
  throw new FormatError(`${path}: ${issue.path.join('.') || 'root'}: ${issue.message}; expected a token manifest`);
}

/** Replaces the manifest in one step. @throws UsageError for a full disk */
export function writeManifest(folder: string, manifest: Manifest): void {
  writeWhole(manifestPath(folder), `${JSON.stringify(manifest, null, 1)}\n`);
}

/** The manifest of a finished `data prepare`. @throws UsageError if there is none or it was interrupted */
export function finishedManifest(folder: string): Manifest {
  const manifest = readManifest(folder);
  if (!manifest) throw new UsageError(`${manifestPath(folder)}: not found, expected a folder made by "data prepare"`);
  if (!manifest.complete)
    throw new UsageError(`${folder}: was not prepared to the end; run the same "data prepare" again, it goes on`);
  return manifest;
}
