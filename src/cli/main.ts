#!/usr/bin/env node
/** The program `fat5`: finds the command, runs it, turns errors into one line and an exit status. */
import { readFileSync } from 'node:fs';
import { FormatError, UsageError } from '../util/errors.ts';
import { nearest } from '../util/suggest.ts';
import { type Command, help, parseArguments, table } from './command.ts';

/** Every command and where it lives; a module is loaded when its command is called. */
const commands: Record<string, () => Promise<Command>> = {
  quickstart: async () => (await import('./quickstart/quickstart.ts')).quickstart,
  'tokenizer train': async () => (await import('./tokenizer_train.ts')).tokenizerTrain,
  'tokenizer encode': async () => (await import('./tokenizer.ts')).tokenizerEncode,
  'tokenizer decode': async () => (await import('./tokenizer.ts')).tokenizerDecode,
  'tokenizer inspect': async () => (await import('./tokenizer_inspect.ts')).tokenizerInspect,
  'data prepare': async () => (await import('./data.ts')).dataPrepare,
  pretrain: async () => (await import('./pretrain.ts')).pretrainCommand,
  finetune: async () => (await import('./finetune.ts')).finetuneCommand,
  evaluate: async () => (await import('./evaluate.ts')).evaluateCommand,
  convert: async () => (await import('./convert.ts')).convertCommand,
  generate: async () => (await import('./generate.ts')).generateCommand,
  embed: async () => (await import('./tasks.ts')).embedCommand,
  classify: async () => (await import('./tasks.ts')).classifyCommand,
  ner: async () => (await import('./tasks.ts')).nerCommand,
  qa: async () => (await import('./tasks.ts')).qaCommand,
  doctor: async () => (await import('./doctor.ts')).doctor,
  bench: async () => (await import('./bench.ts')).bench,
  estimate: async () => (await import('./estimate.ts')).estimate,
};

async function main(argv: string[]): Promise<void> {
  const asked = argv.slice(0, argv.indexOf('--') < 0 ? undefined : argv.indexOf('--')); // what follows "--" is text
  const wantsHelp = asked.includes('--help') || asked.includes('-h') || argv[0] === 'help';
  const rest = argv[0] === 'help' ? argv.slice(1) : argv;
  if (['--version', '-v', 'version'].includes(rest[0]!)) {
    console.log(version());
    return;
  }
  if (rest[0]?.startsWith('-') && !wantsHelp)
    throw new UsageError(`fat5: unknown flag ${rest[0]}, expected a command first, --help or --version`);
  const words = rest.filter((a) => !a.startsWith('-'));
  const name = [words.slice(0, 2).join(' '), words[0] ?? ''].find((n) => Object.hasOwn(commands, n));
  if (name === undefined) {
    const group = Object.keys(commands).filter((n) => n.startsWith(`${words[0]} `));
    if (words.length > 0 && (group.length === 0 || (words.length > 1 && !wantsHelp)))
      throw new UsageError(`fat5: unknown command "${words.slice(0, group.length ? 2 : 1).join(' ')}", ${near(words)}`);
    console.log(await overview(group.length > 0 ? group : Object.keys(commands)));
    return;
  }
  const command = await commands[name]!();
  if (wantsHelp) {
    console.log(help(command));
    return;
  }
  const { values, positionals } = parseArguments(command, rest.slice(name.split(' ').length));
  await command.run(values, positionals);
}

function version(): string {
  const file = new URL('../../../package.json', import.meta.url);
  return (JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version;
}

function near(words: string[]): string {
  const names = Object.keys(commands);
  const groups = names.map((name) => name.split(' ')[0]!);
  const meant = nearest(words.slice(0, 2).join(' '), names) ?? nearest(words[0]!, [...names, ...groups]);
  return meant ? `did you mean "${meant}"?` : '"fat5 --help" lists what there is';
}

async function overview(names: string[]): Promise<string> {
  const loaded = await Promise.all(names.map((name) => commands[name]!()));
  const rows = loaded.map((command) => [command.name, command.summary]);
  return [
    'fat5: pre-train, fine-tune, evaluate and run T5/UL2 encoder-decoder models.',
    '',
    'usage: fat5 COMMAND [config.yaml] [key.path=value …] [--flags]',
    '',
    ...table(rows),
    '',
    '"fat5 COMMAND --help" lists what a command takes. DEBUG=1 shows where an error comes from.',
  ].join('\n');
}

/** One line for people who can fix it, and the exit status. */
function report(error: unknown): number {
  const { message, stack } = error instanceof Error ? error : new Error(String(error));
  const line = message.replace(/^fat5: /, '').replace(/\s*\n\s*/g, ' '); // a parser's message may repeat a file's lines
  console.error(process.env.DEBUG ? stack : `fat5: ${line}`);
  if (error instanceof UsageError) return 2;
  return error instanceof FormatError ? 3 : 1;
}

process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(0); // the reader, such as head, has seen enough
  process.exit(report(new UsageError(`standard output: cannot be written: ${error.message}`)));
});
try {
  await main(process.argv.slice(2));
} catch (error) {
  process.exitCode = report(error);
}
