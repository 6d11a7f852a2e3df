/**
 * Every parameter of a model: Hugging Face's name, shape [out,in], distribution at the start.
 *
 *   D d_model   H heads   K d_kv   F d_ff   V vocabulary   U relative buckets   W FIRE's hidden width
 *
 * Initialisation is Hugging Face's T5 (standard deviations times initializer_factor f), whose attention weights absorb
 * the 1/sqrt(K) that T5's scores lack: q (D K)^-1/2; k, v, wi D^-1/2; o (H K)^-1/2; wo F^-1/2; tables D^-1/2.
 * `attention_init: aligned` lets heads start out looking at the tokens beside their own, and cross-attention at equal tokens.
 *
 * FIRE's names are those of flashT5's pe_encoding module in the first block.
 */
import { relativeBucket } from '../ops/relative_bias/relative_bias.ts';
import type { ParameterShape } from '../tensor/parameters.ts';
import { feedForwardKind, type T5Config } from './config.ts';

/** Distribution of new values: normal with a standard deviation, uniform in [-bound, bound), or one value. */
export type Initial = Normal | { uniform: number } | { value: number };

interface Normal {
  normal: number;
  /** The parameter whose numbers are taken, times the ratio of the standard deviations; its own by default. */
  drawnAs?: string;
  raised?: Raised;
}

/** What is added to single elements, by their place in the flat parameter. */
export interface Raised {
  by: number;
  at: readonly number[];
}

/** A parameter of a model: name, shape, and what it is at the start. */
export interface ParameterSpec extends ParameterShape {
  initial: Initial;
}

/** The classes of models: which have a decoder, and what stands behind the last states. */
export type Architecture =
  | 'conditional_generation'
  | 'encoder'
  | 'token_classification'
  | 'sequence_classification'
  | 'question_answering';

/** What Hugging Face's classes put before the names of encoder and embedding. */
export const prefixOf = (architecture: Architecture): string =>
  architecture === 'token_classification' || architecture === 'sequence_classification' ? 'transformer.' : '';

/** Start and end of an answer. */
export const ANSWER_ENDS = 2;

/** The embedding that both stacks share as a rule, and the head's where it is not tied to that. */
export const SHARED = 'shared.weight';
export const HEAD = 'lm_head.weight';

/** Half of an encoder-decoder. */
export type Stack = 'encoder' | 'decoder';

/** The embedding that a stack reads its tokens with. */
export const embeddingName = (c: T5Config, stack: Stack, prefix: string): string =>
  c.share_input_embeddings ? `${prefix}shared.weight` : `${prefix}${stack}.embed_tokens.weight`;

/** Whether a parameter is a table of tokens. */
export const isEmbedding = (name: string): boolean => /(^|\.)(shared|embed_tokens)\.weight$/.test(name);

/** Every parameter, in the order of Hugging Face's state dictionary. */
export function parameterTable(c: T5Config, architecture: Architecture): ParameterSpec[] {
  const f = c.initializer_factor;
  const prefix = prefixOf(architecture);
  const isSeq2Seq = architecture === 'conditional_generation';
  const stacks: Stack[] = isSeq2Seq ? ['encoder', 'decoder'] : ['encoder'];
  const embeddings = new Set(stacks.map((stack) => embeddingName(c, stack, prefix)));
  const table: ParameterSpec[] = [...embeddings].map((name) => ({
    name,
    shape: [c.vocab_size, c.d_model],
    initial: { normal: f },
  }));
  for (const stack of stacks) table.push(...stackTable(c, `${prefix}${stack}`, stack));
  if (isSeq2Seq) {
    if (!c.tie_word_embeddings)
      table.push({
        name: HEAD,
        shape: [c.vocab_size, c.d_model],
        initial: { normal: c.lm_head_init === 'unit' ? f : f * c.d_model ** -0.5 },
      });
  }
  return [...table, ...headTable(c, architecture)];
}

/** Number of scalars in all parameters. */
export const parameterCount = (c: T5Config, architecture: Architecture = 'conditional_generation'): number =>
  parameterTable(c, architecture).reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0);

function stackTable(c: T5Config, path: string, stack: Stack): ParameterSpec[] {
  const layers = stack === 'encoder' ? c.num_layers : c.num_decoder_layers;
  const table: ParameterSpec[] = [];
  for (let i = 0; i < layers; i++) {
    const block = `${path}.block.${i}.layer`;
    const self = `${block}.0.SelfAttention`;
    table.push(...attentionTable(c, self), ...positionTable(c, self, stack, i));
    table.push(norm(c, `${block}.0.layer_norm`));
    if (stack === 'decoder')
      table.push(...attentionTable(c, `${block}.1.EncDecAttention`), norm(c, `${block}.1.layer_norm`));
    const last = stack === 'decoder' ? 2 : 1;
    table.push(...feedForwardTable(c, `${block}.${last}.DenseReluDense`), norm(c, `${block}.${last}.layer_norm`));
  }
  return [...table, norm(c, `${path}.final_layer_norm`)];
}

const norm = (c: T5Config, path: string): ParameterSpec => ({
  name: `${path}.weight`,
  shape: [c.d_model],
  initial: { value: c.initializer_factor },
});

function attentionTable(c: T5Config, path: string): ParameterSpec[] {
  const { d_model: D, d_kv: K, initializer_factor: f } = c;
  const inner = c.num_heads * K;
  const project = (leaf: string, std: number, drawnAs?: string) => ({
    name: `${path}.${leaf}.weight`,
    shape: [inner, D],
    initial: { normal: f * std, ...(drawnAs && { drawnAs }) },
  });
  // Queries in the direction of keys: a token scores sqrt(K) with an equal one, 0 ± 1 with others, and finds its sentinel.
  const finds = c.attention_init === 'aligned' && path.endsWith('EncDecAttention');
  return [
    project('q', (D * K) ** -0.5, finds ? `${path}.k.weight` : undefined),
    project('k', D ** -0.5),
    project('v', D ** -0.5),
    { name: `${path}.o.weight`, shape: [D, inner], initial: { normal: f * inner ** -0.5 } },
  ];
}

/** What a block's self-attention learns about positions. */
function positionTable(c: T5Config, path: string, stack: Stack, block: number): ParameterSpec[] {
  const H = c.num_heads;
  if (block > 0 && !c.per_layer_position_bias) return [];
  if (c.position_encoding_type === 't5')
    return [
      {
        name: `${path}.relative_attention_bias.weight`,
        shape: [c.relative_attention_num_buckets, H],
        initial: {
          normal: c.initializer_factor * c.d_model ** -0.5,
          ...(c.attention_init === 'aligned' && { raised: neighbours(c, stack) }),
        },
      },
    ];
  if (c.position_encoding_type !== 'fire') return [];
  const W = c.fire_mlp_width;
  const fire = (leaf: string, shape: number[], initial: Initial) => ({
    name: `${path}.pe_encoding.${leaf}`,
    shape,
    initial,
  });
  return [
    fire('mlp.0.weight', [W, 1], { uniform: 1 }),
    fire('mlp.0.bias', [W], { uniform: 1 }),
    fire('mlp.2.weight', [H, W], { uniform: W ** -0.5 }),
    fire('mlp.2.bias', [H], { uniform: W ** -0.5 }),
    fire('c', [1], { value: 0.1 }),
    fire('L_multiplier', [1], { value: 1 }),
  ];
}

/** Added to a score: e^8 against the e^0.5 that any other of some hundred keys weighs on average at the start. */
const NEIGHBOUR = 8;

/**
 * The table's elements [bucket, head] that make half of the heads start out looking at one token each: those 1, 2, … before
 * and after in the encoder, before in the decoder. T5's own table starts near 0, so that attention does not know positions
 * at all, and nothing teaches it while no other layer makes use of them: thousands of steps go by (docs/performance.md).
 */
function neighbours(c: T5Config, stack: Stack): Raised {
  const { relative_attention_num_buckets: U, relative_attention_max_distance: maxDistance, num_heads: H } = c;
  const bidirectional = stack === 'encoder';
  const distances = Math.max(1, U / (bidirectional ? 4 : 2) - 1); // each with a bucket of its own
  const at = Array.from({ length: Math.ceil(H / 2) }, (_, head) => {
    const step = 1 + ((bidirectional ? head >> 1 : head) % distances);
    const relative = bidirectional && head % 2 === 1 ? step : -step;
    return relativeBucket(relative, U, { bidirectional, maxDistance }) * H + head;
  });
  return { by: NEIGHBOUR, at };
}

function feedForwardTable(c: T5Config, path: string): ParameterSpec[] {
  const { d_model: D, d_ff: F, initializer_factor: f } = c;
  const into = feedForwardKind(c).gated ? ['wi_0', 'wi_1'] : ['wi'];
  return [
    ...into.map((leaf) => ({ name: `${path}.${leaf}.weight`, shape: [F, D], initial: { normal: f * D ** -0.5 } })),
    { name: `${path}.wo.weight`, shape: [D, F], initial: { normal: f * F ** -0.5 } },
  ];
}

function headTable(c: T5Config, architecture: Architecture): ParameterSpec[] {
  const { d_model: D, num_labels: L, initializer_factor: f } = c;
  const linear = (path: string, out: number, std: number): ParameterSpec[] => [
    { name: `${path}.weight`, shape: [out, D], initial: { normal: std } },
    { name: `${path}.bias`, shape: [out], initial: { value: 0 } },
  ];
  switch (architecture) {
    case 'token_classification':
      // T5 differs: transformers' f alone starts from logits of a size sqrt(D), which drown what was pre-trained.
      return linear('classifier', L, f * D ** -0.5);
    case 'sequence_classification':
      return [
        ...linear('classification_head.dense', D, f * D ** -0.5),
        ...linear('classification_head.out_proj', L, f * D ** -0.5),
      ];
    case 'question_answering':
      return linear('qa_outputs', ANSWER_ENDS, f * D ** -0.5);
    default:
      return [];
  }
}
