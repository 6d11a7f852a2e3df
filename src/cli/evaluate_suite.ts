/** fat5 evaluate --suite: what one row of positionals and flags asks for, and the tables as they grow. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { comparedModels, nameOfPlaces } from '../finetune/suite/checkpoints.ts';
import { markdown, writeReport } from '../finetune/suite/report.ts';
import { loadSuite } from '../finetune/suite/settings.ts';
import { runSuite, type SuiteRow } from '../finetune/suite/suite.ts';
import { LiveLine } from '../train/reporter.ts';
import { lockFolder } from '../util/lock.ts';
import { stopSignal } from './signals.ts';

export interface SuiteFlags {
  suite: string | undefined;
  config: string | undefined;
  output: string | undefined;
  json: boolean;
}

/** Runs the suite over the places among the positionals; the others, `key=value`, replace its settings. @throws UsageError */
export async function evaluateSuite(flags: SuiteFlags, positionals: readonly string[]): Promise<void> {
  const isSetting = (text: string) => /^[\w.]+=/.test(text);
  const places = positionals.filter((text) => !isSetting(text));
  const suite = loadSuite(flags.config ?? flags.suite!, positionals.filter(isSetting));
  const models = await comparedModels(places);
  const output = flags.output ?? join('runs', `${nameOfPlaces(places)}-${suite.name}`);
  const unlock = lockFolder(output, 'name another --output');
  const out = new LiveLine();
  const parts = {
    note: (line: string) => out.line(line),
    progress: (line: string) => out.progress(line),
    signal: stopSignal(),
  };
  let rows: SuiteRow[] | undefined;
  try {
    rows = await runSuite(suite, models, output, parts, (soFar) => writeReport(suite, soFar, output));
  } finally {
    out.done();
    unlock();
  }
  if (!rows) {
    console.log(`interrupted; the same command goes on from here (${output})`);
    process.exitCode = 130;
    return;
  }
  if (flags.json)
    for (const { model, result, ...row } of rows)
      console.log(JSON.stringify({ ...result, ...row, checkpoint: model.name }));
  else {
    const files = ['results.md', 'results.csv', 'results.svg'].filter((name) => existsSync(join(output, name)));
    console.log(`${markdown(suite, rows)}
${output}: ${files.join(', ')}, and a folder a task`);
  }
}
