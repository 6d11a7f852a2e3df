/**
 * The metrics of Super-NaturalInstructions: exact match and ROUGE-L, the best over the references of an instance, in per
 * cent, over all instances, by task and by category.
 *
 * Source: Wang et al. 2022, arXiv:2204.07705 and the Tk-Instruct evaluation. Its texts are compared without case, ASCII
 * punctuation and surplus spaces; articles stay, other than in SQuAD's evaluation.
 */
import { paired, plainText, singleSpaced } from './pairs.ts';
import { rouge } from './rouge.ts';

const normalize = (text: string): string => singleSpaced(plainText(text));

/** One answer with what was right. */
export interface InstructionExample {
  prediction: string;
  references: readonly string[];
  task: string;
  category: string;
}
/** Per cent, means over `count` answers. */
export interface InstructionScore {
  exact_match: number;
  rougeL: number;
  count: number;
}
/** The same by task and by category. */
export interface InstructionScores extends InstructionScore {
  per_task: Record<string, InstructionScore>;
  per_category: Record<string, InstructionScore>;
}

/** A category's name as a key: "Textual Entailment" -> "textual_entailment". */
const keyOf = (category: string) => category.toLowerCase().replaceAll(' ', '_');

/** Scores of one prediction in [0, 1]. */
function instructionScore(prediction: string, references: readonly string[]): { exact: number; rougeL: number } {
  const own = normalize(prediction);
  const options = { types: ['rougeL'], use_stemmer: true } as const;
  return {
    exact: references.some((reference) => normalize(reference) === own) ? 1 : 0,
    rougeL: Math.max(0, ...references.map((reference) => rouge(prediction, reference, options).rougeL!.fmeasure)),
  };
}

/** @throws UsageError without examples */
export function instructionScores(examples: readonly InstructionExample[]): InstructionScores {
  paired('super-natural-instructions', examples, examples);
  const rows = examples.map((example) => ({
    ...instructionScore(example.prediction, example.references),
    task: example.task,
    category: keyOf(example.category),
  }));
  const mean = (of: typeof rows): InstructionScore => ({
    exact_match: (100 * of.reduce((sum, row) => sum + row.exact, 0)) / of.length,
    rougeL: (100 * of.reduce((sum, row) => sum + row.rougeL, 0)) / of.length,
    count: of.length,
  });
  const by = (key: 'task' | 'category') => {
    const groups = new Map<string, typeof rows>();
    for (const row of rows) groups.set(row[key], [...(groups.get(row[key]) ?? []), row]);
    return Object.fromEntries([...groups].sort(([a], [b]) => (a < b ? -1 : 1)).map(([name, of]) => [name, mean(of)]));
  };
  return { ...mean(rows), per_task: by('task'), per_category: by('category') };
}
