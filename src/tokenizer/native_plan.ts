/** Which tokenizer.json native code can encode with, and how: all parts of a file must be among what it knows. */
import { GPT2_PATTERN, patternRules } from './patterns.ts';
import { prependScheme } from './pipeline/pre_tokenizers.ts';
import { spaceMark } from './pipeline/sp_normalizer.ts';
import type { Normalizer, PreTokenizer } from './schema.ts';
import type { BpeModel, TokenizerFile, UnigramModel } from './tokenizer_json.ts';

/** BPE on pieces that rules cut (pretokenize.h), of characters or of bytes. */
interface RulesPlan {
  kind: 'rules';
  model: BpeModel;
  rules: Int32Array;
  byteLevel: boolean;
  prefixSpace: boolean;
}

/** BPE or Unigram on words that begin with a mark (hf_normalizer.h). */
interface WordsPlan {
  kind: 'words';
  model: BpeModel | UnigramModel;
  /** Base64. */
  charsmap: string;
  /** In the order of HfNormalizer's fields. */
  options: Int32Array;
}

export type NativePlan = RulesPlan | WordsPlan;

/** The plan of a file, or undefined where only TypeScript knows all its parts. */
export function nativePlan(file: TokenizerFile): NativePlan | undefined {
  const { model, normalizer, added_tokens } = file;
  if (added_tokens.some(({ single_word }) => single_word)) return undefined;
  if (model.type === 'BPE') {
    if (model.continuing_subword_prefix !== '' || model.end_of_word_suffix !== '') return undefined;
  } else if (model.type !== 'Unigram' || model.unk_id === null) return undefined;
  const steps = stepsOf(normalizer);
  const rules = model.type === 'BPE' && steps.length === 0 ? rulesPlan(model, file.pre_tokenizer) : undefined;
  if (rules) return rules;
  if (added_tokens.some(({ normalized }) => normalized)) return undefined;
  return wordsPlan(model, steps, partsOf(file.pre_tokenizer));
}

const stepsOf = (part: Normalizer | null): Normalizer[] =>
  part === null ? [] : part.type === 'Sequence' ? part.normalizers.flatMap(stepsOf) : [part];
const partsOf = (part: PreTokenizer | null): PreTokenizer[] =>
  part === null ? [] : part.type === 'Sequence' ? part.pretokenizers.flatMap(partsOf) : [part];

function rulesPlan(model: BpeModel, preTokenizer: PreTokenizer | null): RulesPlan | undefined {
  const parts = partsOf(preTokenizer);
  const last = parts.at(-1);
  const byteLevel = last?.type === 'ByteLevel';
  if (byteLevel && model.byte_fallback) return undefined;
  const prefixSpace = byteLevel && last.add_prefix_space;
  const splits = byteLevel ? parts.slice(0, -1) : parts;
  if (splits.length > 1 || (splits.length === 1 && byteLevel && (last.use_regex || prefixSpace))) return undefined;
  const plan = { kind: 'rules' as const, model, byteLevel, prefixSpace };
  const [split] = splits;
  if (!split) {
    const rules = byteLevel && last.use_regex ? patternRules(GPT2_PATTERN) : new Int32Array();
    return typeof rules === 'string' ? undefined : { ...plan, rules };
  }
  if (split.type !== 'Split' || !('Regex' in split.pattern) || split.behavior !== 'Isolated' || split.invert)
    return undefined;
  const rules = patternRules(split.pattern.Regex);
  return typeof rules === 'string' ? undefined : { ...plan, rules };
}

const isCollapse = (step: Normalizer) =>
  step.type === 'Replace' &&
  'Regex' in step.pattern &&
  step.pattern.Regex === ' {2,}' &&
  (step.content === spaceMark || step.content === ' ');
const isSpaceToMark = (step: Normalizer) =>
  step.type === 'Replace' && 'String' in step.pattern && step.pattern.String === ' ' && step.content === spaceMark;

const schemes = { never: 0, always: 1, first: 2 };
/** Values of HfNormalizer's `cut`. */
const CUT_NONE = 0;
const CUT_MARKS = 1;
/** Only where no piece goes on over a mark that follows text. */
const CUT_RUNS = 2;

function wordsPlan(model: BpeModel | UnigramModel, steps: Normalizer[], parts: PreTokenizer[]): WordsPlan | undefined {
  const rest = [...steps];
  const take = <Step extends Normalizer>(test: (step: Normalizer) => step is Step) =>
    rest[0] && test(rest[0]) ? (rest.shift() as Step) : undefined;
  const precompiled = take((step) => step.type === 'Precompiled');
  const strip = take((step) => step.type === 'Strip');
  const collapse = take((step): step is Normalizer & { type: 'Replace' } => isCollapse(step));
  const prepend = take(
    (step): step is Normalizer & { type: 'Prepend' } => step.type === 'Prepend' && step.prepend === spaceMark,
  );
  const toMarks = take((step): step is Normalizer & { type: 'Replace' } => isSpaceToMark(step));
  if (rest.length > 0) return undefined;

  const split = parts[0]?.type === 'WhitespaceSplit';
  const [metaspace, ...more] = split ? parts.slice(1) : parts;
  if (more.length > 0 || (metaspace && (metaspace.type !== 'Metaspace' || metaspace.replacement !== spaceMark)))
    return undefined;
  const scheme = metaspace?.type === 'Metaspace' ? prependScheme(metaspace) : 'never';
  if (scheme === 'first' && steps.length > 0) return undefined;
  if (scheme === 'first' && split) return undefined;
  const everyMark = metaspace?.type === 'Metaspace' && metaspace.split;
  const cut = everyMark ? CUT_MARKS : model.type === 'BPE' && !model.ignore_merges ? CUT_RUNS : CUT_NONE;
  const options = Int32Array.of(
    +(strip?.strip_left ?? false),
    +(strip?.strip_right ?? false),
    collapse ? (collapse.content === ' ' ? 2 : 1) : 0,
    +(prepend !== undefined),
    +split,
    +(metaspace !== undefined || toMarks !== undefined),
    schemes[scheme],
    cut,
  );
  return { kind: 'words', model, charsmap: precompiled?.precompiled_charsmap ?? '', options };
}
