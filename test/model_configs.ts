/** Small models that tests share: encoder and decoder differ in depth, heads times d_kv differs from d_model. */
import type { T5ConfigInput } from '../src/model/config.ts';

const tiny = {
  vocab_size: 40,
  d_model: 16,
  d_kv: 6,
  d_ff: 20,
  num_layers: 3,
  num_decoder_layers: 2,
  num_heads: 4,
  relative_attention_num_buckets: 8,
  relative_attention_max_distance: 12,
  dropout_rate: 0,
  max_sequence_length: 32,
} satisfies T5ConfigInput;
const v1_1 = { ...tiny, feed_forward_proj: 'gated-gelu', tie_word_embeddings: false } satisfies T5ConfigInput;

/** The checkpoints that exist: T5 v1.0, v1.1, v1.1 as transformers 5 builds it, UMT5. */
export const published = {
  v1_0: { ...tiny, feed_forward_proj: 'relu' },
  v1_1,
  v1_1_tied: { ...v1_1, tie_word_embeddings: true, scale_decoder_outputs: false },
  umt5: { ...v1_1, model_type: 'umt5' },
} satisfies Record<string, T5ConfigInput>;

/** Every way of knowing positions. */
export const positional = {
  t5: v1_1,
  alibi: { ...v1_1, position_encoding_type: 'alibi' },
  'asymmetric alibi': { ...v1_1, position_encoding_type: 'alibi', alibi_mode: 'asymmetric' },
  rope: { ...v1_1, position_encoding_type: 'rope' },
  'rope of a part, interleaved, with xPos': {
    ...v1_1,
    position_encoding_type: 'rope',
    rotary_emb_fraction: 0.7,
    rotary_interleaved: true,
    rotary_scale_base: 16,
    rotary_base: 100,
  },
  fire: { ...v1_1, position_encoding_type: 'fire', fire_mlp_width: 5 },
  none: { ...v1_1, position_encoding_type: 'none' },
} satisfies Record<string, T5ConfigInput>;
