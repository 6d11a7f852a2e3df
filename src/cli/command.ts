/** Commands and their flags. One table gives the parser, the TypeScript types and --help. */
import { UsageError } from '../util/errors.ts';
import { nearest, suggestion } from '../util/suggest.ts';

export interface Flag<V> {
  doc: string;
  /** What stands for the value in --help; empty for a switch. */
  placeholder: string;
  default?: V;
  required: boolean;
  /** Takes every argument up to the next flag. */
  many: boolean;
  parse(texts: string[]): V;
}

const single =
  <V>(placeholder: string, parse: (text: string) => V) =>
  (doc: string, ...fallback: [] | [V]): Flag<V> => ({
    doc,
    placeholder,
    required: fallback.length === 0,
    ...(fallback.length > 0 && { default: fallback[0] as V }),
    many: false,
    parse: (texts) => parse(texts.at(-1)!),
  });

export const text = single('TEXT', (t) => t);
export const path = single('PATH', (t) => t);
export const integer = single('N', (t) => {
  if (!/^-?\d+$/.test(t)) throw new UsageError(`expected a whole number, got "${t}"`);
  return Number(t);
});
export const number = single('X', (t) => {
  if (t.trim() === '' || !Number.isFinite(Number(t))) throw new UsageError(`expected a number, got "${t}"`);
  return Number(t);
});

/** One of a few words. */
export const choice = <const C extends readonly string[]>(
  doc: string,
  choices: C,
  ...fallback: [] | [C[number]]
): Flag<C[number]> => ({
  ...single<C[number]>(choices.join('|'), (t) => {
    if (!choices.includes(t)) throw new UsageError(`got "${t}", ${suggestion(t, choices)}`);
    return t;
  })(doc, ...fallback),
});

/** A flag that may be left out: undefined then. */
export const optional = <V>(flag: Flag<V>): Flag<V | undefined> => ({ ...flag, required: false });

/** A flag that takes several values: `--corpus A B C`. Empty when left out. */
export const many = <V>(flag: Flag<V>): Flag<V[]> => ({
  doc: flag.doc,
  placeholder: `${flag.placeholder}…`,
  required: false,
  default: [],
  many: true,
  parse: (texts) => texts.map((t) => flag.parse([t])),
});

/** A flag without a value. */
export const toggle = (doc: string): Flag<boolean> => ({
  doc,
  placeholder: '',
  required: false,
  default: false,
  many: false,
  parse: () => true,
});

/** In the usage of commands that take settings of a file, and values that replace them. */
export const SETTINGS = '[key.path=value …]';

export type Flags = Record<string, Flag<unknown>>;
export type Values<F extends Flags> = { [K in keyof F]: F[K] extends Flag<infer V> ? V : never };

export interface Command<F extends Flags = Flags> {
  name: string;
  summary: string;
  /** The arguments that are not flags, as --help shows them, and what they are; absent when there are none. */
  positionals?: { usage: string; doc: string };
  flags: F;
  /** More lines for --help: keys, examples. */
  details?: () => string;
  run(values: Values<F>, positionals: string[]): Promise<void>;
}

/** Keeps the flags' types for `run`; hands out the command as main.ts calls it. */
export const defineCommand = <F extends Flags>(command: Command<F>): Command => command as unknown as Command;

/** Splits the arguments after a command's name. @throws UsageError naming the flag and the nearest valid one */
export function parseArguments(
  command: Command,
  argv: readonly string[],
): { values: Values<Flags>; positionals: string[] } {
  const given = new Map<string, string[]>();
  const positionals: string[] = [];
  for (let i = 0; i < argv.length; i++) {
    const argument = argv[i]!;
    if (argument === '--') {
      positionals.push(...argv.slice(i + 1));
      break;
    }
    if (!argument.startsWith('--')) {
      if (/^-[a-z]/i.test(argument))
        throw new UsageError(
          `${command.name}: unknown flag ${argument}, expected --name; a text that begins so stands behind "--"`,
        );
      positionals.push(argument);
      continue;
    }
    const [written, ...rest] = argument.slice(2).split('=');
    const name = written!.replaceAll('_', '-');
    const flag = command.flags[name];
    if (!flag) throw new UsageError(`${command.name}: unknown flag --${written}, ${flagHint(command, name)}`);
    const texts = given.get(name) ?? [];
    given.set(name, texts);
    if (rest.length > 0) texts.push(rest.join('='));
    else if (flag.placeholder === '') texts.push('');
    else {
      const before = texts.length;
      while (argv[i + 1] !== undefined && !/^--/.test(argv[i + 1]!)) {
        texts.push(argv[++i]!);
        if (!flag.many) break;
      }
      if (texts.length === before) throw new UsageError(`${command.name}: --${name} needs a value (${flag.doc})`);
    }
  }
  if (positionals.length > 0 && !command.positionals)
    throw new UsageError(`${command.name}: unexpected argument "${positionals[0]}"`);
  return { values: valuesOf(command, given), positionals };
}

function flagHint({ name, flags, positionals }: Command, written: string): string {
  const known = Object.keys(flags).map((flag) => `--${flag}`);
  const near = nearest(`--${written}`, known);
  if (near) return `did you mean "${near}"?`;
  if (positionals?.usage.includes(SETTINGS))
    return `settings are written without "--", as train.rows=8; "fat5 ${name} --help" lists them`;
  return known.length > 0 ? `expected one of ${known.join(', ')}` : 'it takes none';
}

function valuesOf(command: Command, given: Map<string, string[]>): Values<Flags> {
  const values: Record<string, unknown> = {};
  for (const [name, flag] of Object.entries(command.flags)) {
    const texts = given.get(name);
    if (!texts && flag.required) throw new UsageError(`${command.name}: --${name} is required (${flag.doc})`);
    try {
      values[name] = texts ? flag.parse(texts) : flag.default;
    } catch (cause) {
      throw new UsageError(`${command.name}: --${name}: ${(cause as Error).message}`, { cause });
    }
  }
  return values;
}

/** The text of `fat5 NAME --help`. */
export function help(command: Command): string {
  const flags = Object.entries(command.flags).map(([name, flag]) => [
    `--${name}${flag.placeholder && ` ${flag.placeholder}`}`,
    `${flag.doc}${defaultText(flag)}`,
  ]);
  const rows = [...(command.positionals ? [[command.positionals.usage, command.positionals.doc]] : []), ...flags];
  const usage = ['fat5', command.name, command.positionals?.usage, flags.length > 0 && '[flags]']
    .filter(Boolean)
    .join(' ');
  const details = command.details?.();
  return [command.summary, '', `usage: ${usage}`, '', ...table(rows), ...(details ? ['', details] : [])].join('\n');
}

function defaultText({ required, default: value, placeholder }: Flag<unknown>): string {
  if (required) return ' (required)';
  if (placeholder === '' || value === undefined || (Array.isArray(value) && value.length === 0)) return '';
  return ` (default ${value})`;
}

/** Two aligned columns. */
export function table(rows: readonly (readonly string[])[]): string[] {
  const width = Math.min(34, Math.max(0, ...rows.map(([left]) => left!.length)));
  return rows.map(([left, right]) => `  ${left!.padEnd(width)}  ${right}`);
}
