/**
 * Checkpoints: folders `step-0000100` that are complete or do not exist under that name.
 *
 *   config.json, model.safetensors, …   whatever the caller writes
 *   trainer.json                        step, position in the data, size and SHA-256 of every other file and of itself
 *
 * A folder is written under a temporary name, flushed to the disk, read back against the checksums and renamed. So a
 * process that dies at any moment leaves at most a temporary folder, which the next one removes.
 */
import { createHash } from 'node:crypto';
import { closeSync, existsSync, openSync, readdirSync, readFileSync, readSync, statSync } from 'node:fs';
import { mkdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import * as z from 'zod';
import { FormatError, UsageError } from '../util/errors.ts';
import { flush, isDiskFull, writeWhole } from '../util/new_file.ts';

const stateSchema = z.strictObject({
  version: z.literal(1),
  /** Completed optimizer steps. */
  step: z.int().min(0),
  /** Sums of progress.ts. */
  progress: z.strictObject({
    label_tokens: z.number().min(0),
    seconds: z.number().min(0),
    window: z.record(z.string(), z.number()),
  }),
  /** Of the checkpoint's random numbers: seed and step give every one of them. */
  seed: z.int().min(0),
  /** Position in the data, as the batch source gave it. */
  data: z.unknown(),
  files: z.record(z.string(), z.strictObject({ bytes: z.int().min(0), sha256: z.string().regex(/^[0-9a-f]{64}$/) })),
  /** Of this file without this field. */
  sha256: z.string(),
});

/** What trainer.json holds beside version and files. */
export type TrainerState = Omit<z.output<typeof stateSchema>, 'version' | 'files' | 'sha256'>;

/** A complete checkpoint. */
export interface Checkpoint {
  folder: string;
  state: TrainerState;
}

const stateFile = 'trainer.json';
const nameOf = (step: number) => `step-${String(step).padStart(7, '0')}`;

/** Steps of the complete checkpoints in a directory, newest first. */
function stepsIn(directory: string): number[] {
  if (!existsSync(directory)) return [];
  return readdirSync(directory)
    .filter((name) => /^step-\d{7,}$/.test(name) && isCheckpoint(join(directory, name)))
    .map((name) => Number(name.slice(5)))
    .sort((a, b) => b - a);
}

/** Whether a folder is a checkpoint, complete or damaged. */
export const isCheckpoint = (folder: string): boolean => existsSync(join(folder, stateFile));

/** The folders of a directory's complete checkpoints, oldest first. */
export const checkpointFolders = (directory: string): string[] =>
  stepsIn(directory)
    .reverse()
    .map((step) => join(directory, nameOf(step)));

/** Folder of the newest complete checkpoint in a directory, its checksums not looked at. */
export function newestCheckpoint(directory: string): string | undefined {
  const step = stepsIn(directory)[0];
  return step === undefined ? undefined : join(directory, nameOf(step));
}

/**
 * Writes a checkpoint; `write` puts the files into the folder it is given. Returns the checkpoint's folder.
 * @throws UsageError if the disk is full or not writable: nothing that was saved before is lost
 */
export async function saveCheckpoint(
  directory: string,
  state: TrainerState,
  write: (folder: string) => Promise<void>,
): Promise<string> {
  const folder = join(directory, nameOf(state.step));
  const temporary = `${folder}.tmp`;
  try {
    await rm(temporary, { recursive: true, force: true });
    await mkdir(temporary, { recursive: true });
    await write(temporary);
    const files: Record<string, { bytes: number; sha256: string }> = {};
    for (const name of readdirSync(temporary).sort()) {
      flush(join(temporary, name));
      files[name] = { bytes: statSync(join(temporary, name)).size, sha256: sha256(join(temporary, name)) };
    }
    const content = { version: 1, ...state, files };
    writeWhole(join(temporary, stateFile), JSON.stringify({ ...content, sha256: ofContent(content) }, null, 1));
    verifyCheckpoint(temporary);
    await rm(folder, { recursive: true, force: true });
    await rename(temporary, folder);
    flush(directory);
  } catch (error) {
    await rm(temporary, { recursive: true, force: true }).catch(() => {}); // the first error is the one that counts
    const { code, message } = error as NodeJS.ErrnoException;
    const full = isDiskFull(error);
    if (!full && code === undefined && !(error instanceof UsageError)) throw error;
    const last = stepsIn(directory)[0];
    throw new UsageError(
      `checkpoint: ${folder}: ${full ? 'the disk is full' : message}; ` +
        `${last === undefined ? 'no checkpoint was saved before' : `${nameOf(last)} is complete`}; ` +
        `${full ? 'free some space and ' : ''}run the same command again`,
      { cause: error },
    );
  }
  return folder;
}

/** Removes the old checkpoints: the newest `keep` stay and those whose step is divisible by `keepEvery` (0: none). */
export async function pruneCheckpoints(directory: string, keep: number, keepEvery: number): Promise<void> {
  for (const step of stepsIn(directory).slice(keep))
    if (keepEvery === 0 || step % keepEvery !== 0) await rm(join(directory, nameOf(step)), { recursive: true });
}

/**
 * The newest checkpoint whose checksums are right, undefined if there is none at all. Damaged ones are reported to
 * `warn` and left where they are; leftovers of a killed process are removed.
 * @throws FormatError if there are checkpoints and all are damaged
 */
export async function latestCheckpoint(
  directory: string,
  warn: (line: string) => void,
): Promise<Checkpoint | undefined> {
  if (!existsSync(directory)) return undefined;
  for (const name of readdirSync(directory).filter((n) => n.endsWith('.tmp')))
    await rm(join(directory, name), { recursive: true, force: true });
  const steps = stepsIn(directory);
  let damage: FormatError | undefined;
  for (const step of steps) {
    const folder = join(directory, nameOf(step));
    try {
      return { folder, state: verifyCheckpoint(folder) };
    } catch (error) {
      if (!(error instanceof FormatError)) throw error;
      damage ??= error;
      warn(`warning: ${error.message}; trying the checkpoint before it`);
    }
  }
  if (damage)
    throw new FormatError(
      `${damage.message}; no intact checkpoint is left, delete ${directory} to start from the beginning`,
    );
  return undefined;
}

/**
 * Compares the files of a checkpoint with their checksums: all of them, or only those that a model is loaded from.
 * @throws FormatError naming the first that differs
 */
export function verifyCheckpoint(folder: string, which: 'all' | 'model' = 'all'): TrainerState {
  const path = join(folder, stateFile);
  const { version: _version, files, sha256: _sha256, ...state } = readState(path);
  for (const [name, { bytes, sha256: expected }] of Object.entries(files)) {
    if (which === 'model' && name !== 'model.safetensors' && !name.endsWith('.json')) continue;
    const file = join(folder, name);
    if (name.includes('/') || !existsSync(file))
      throw new FormatError(`${file}: missing, expected because ${path} lists it`);
    const actual = statSync(file).size;
    if (actual !== bytes) throw new FormatError(`${file}: has ${actual} bytes, expected ${bytes} (from ${path})`);
    if (sha256(file) !== expected) throw new FormatError(`${file}: damaged, its SHA-256 is not the one in ${path}`);
  }
  return state;
}

function readState(path: string): z.output<typeof stateSchema> {
  let value: unknown;
  try {
    value = JSON.parse(readFileSync(path, 'utf8'));
  } catch (cause) {
    throw new FormatError(`${path}: cannot be read: ${(cause as Error).message.slice(0, 120)}`, { cause });
  }
  const { success, data, error } = stateSchema.safeParse(value);
  if (success) {
    const { sha256: expected, ...content } = value as z.output<typeof stateSchema>;
    if (ofContent(content) !== expected) throw new FormatError(`${path}: damaged, its SHA-256 is not the one it holds`);
    return data;
  }
  const { path: key, message } = error.issues[0]!;
  throw new FormatError(`${path}: ${key.map(String).join('.') || 'its top'}: ${message}`);
}

const ofContent = (content: object): string => createHash('sha256').update(JSON.stringify(content)).digest('hex');

function sha256(path: string): string {
  const hash = createHash('sha256');
  const file = openSync(path, 'r');
  try {
    const part = Buffer.alloc(1 << 20);
    for (let count: number; (count = readSync(file, part)) > 0; ) hash.update(part.subarray(0, count));
  } finally {
    closeSync(file);
  }
  return hash.digest('hex');
}
