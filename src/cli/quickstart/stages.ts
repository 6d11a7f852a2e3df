/** The stages of quickstart and what each left behind: a finished stage is not done again. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import * as z from 'zod';
import { FormatError, UsageError } from '../../util/errors.ts';
import { writeWhole } from '../../util/new_file.ts';

const stage = z.strictObject({ seconds: z.number(), result: z.record(z.string(), z.union([z.number(), z.boolean()])) });

const recordSchema = z.strictObject({
  /** What the user asked for: other wishes need another folder. */
  sources: z.array(z.string()),
  minutes: z.number(),
  stages: z.record(z.string(), stage),
});

type Result = z.output<typeof stage>['result'];

export class Stages {
  readonly folder: string;
  private readonly record: z.output<typeof recordSchema>;

  /** Opens a folder's record, or begins one. @throws UsageError if it was begun with other wishes, FormatError */
  constructor(folder: string, sources: readonly string[], minutes: number) {
    this.folder = folder;
    const path = this.path;
    this.record = existsSync(path) ? read(path) : { sources: [...sources], minutes, stages: {} };
    if (this.record.sources.join('\n') !== sources.join('\n') || this.record.minutes !== minutes)
      throw new UsageError(
        `${folder}: was begun with ${describe(this.record)}, now it is ${describe({ sources, minutes })}; ` +
          'give the same again, another --output, or remove the folder',
      );
  }

  private get path(): string {
    return join(this.folder, 'quickstart.json');
  }

  /** Seconds that the finished stages took. */
  get seconds(): number {
    return Object.values(this.record.stages).reduce((sum, { seconds }) => sum + seconds, 0);
  }

  /** What a finished stage left. */
  get(name: string): z.output<typeof stage> | undefined {
    return this.record.stages[name];
  }

  /** Does a stage unless it is done; returns what it left. */
  async run<R extends Result>(name: string, work: () => Promise<R>): Promise<R> {
    const found = this.record.stages[name];
    if (found) return found.result as R;
    const started = performance.now();
    const result = await work();
    this.record.stages[name] = { seconds: (performance.now() - started) / 1000, result };
    writeWhole(this.path, `${JSON.stringify(this.record, null, 1)}\n`);
    return result;
  }
}

const describe = ({ sources, minutes }: { sources: readonly string[]; minutes: number }): string =>
  `${sources.length > 0 ? `--corpus ${sources.join(' ')}` : 'the default corpus'} and --minutes ${minutes}`;

function read(path: string): z.output<typeof recordSchema> {
  try {
    return recordSchema.parse(JSON.parse(readFileSync(path, 'utf8')));
  } catch (cause) {
    throw new FormatError(`${path}: is not a record of quickstart; remove the folder to begin again`, { cause });
  }
}
