/**
 * The names that flashT5's checkpoints give to T5's parameters, and its configuration.
 *
 * Source: the state dictionary and the conversion of FAT5/flashT5 (Apache-2.0, github.com/catie-aq/flashT5).
 */
import { UsageError } from '../util/errors.ts';
import { savedConfig, type T5Config } from './config.ts';

/** Hugging Face's part of a name, and flashT5's. Encoder and decoder differ in where the feed-forward layer is. */
const parts: [huggingFace: RegExp, flashT5: string][] = [
  [/layer\.0\.SelfAttention\.([qkv])\./, 'self_attention_layer.self_attention.W$1.'],
  [/layer\.0\.SelfAttention\.o\./, 'self_attention_layer.self_attention.o.'],
  [/layer\.0\.SelfAttention\.(relative_attention_bias)\./, 'self_attention_layer.self_attention.pe_encoding.$1.'],
  [/layer\.0\.layer_norm\./, 'self_attention_layer.layer_norm.'],
  [/layer\.1\.EncDecAttention\.([qkv])\./, 'cross_attention_layer.cross_attention.W$1.'],
  [/layer\.1\.EncDecAttention\.o\./, 'cross_attention_layer.cross_attention.o.'],
  [/(decoder.*)layer\.1\.layer_norm\./, '$1cross_attention_layer.layer_norm.'],
  [/layer\.[12]\.layer_norm\./, 'ff_layer.layer_norm.'],
  [/layer\.[12]\.DenseReluDense\.(wi\w*)\./, 'ff_layer.act.$1.'],
  [/layer\.[12]\.DenseReluDense\.wo\./, 'ff_layer.wo.'],
];

/** flashT5's name of a parameter that Hugging Face calls `name`. */
export function flashT5Name(name: string): string {
  const part = parts.find(([pattern]) => pattern.test(name));
  return part ? name.replace(...part) : name;
}

/** flashT5's config.json for the same model. @throws UsageError for what flashT5 does not have */
export function flashT5Config(c: T5Config): Record<string, unknown> {
  const refuse = (what: string): never => {
    throw new UsageError(`flashT5: ${what}; expected an untied T5 v1.1 with one bias table a stack`);
  };
  if (c.tie_word_embeddings) refuse('its head is never tied to the embedding');
  if (c.per_layer_position_bias) refuse('it has no bias table in every block');
  if (!['relu', 'gated-gelu', 'gated-gelu_new'].includes(c.feed_forward_proj))
    refuse(`it has no feed-forward layer "${c.feed_forward_proj}"`);
  const gated = c.feed_forward_proj.startsWith('gated-');
  return {
    ...savedConfig(c),
    model_type: 'flash_t5',
    architectures: ['FlashT5ForConditionalGeneration'],
    use_glu_mlp: gated,
    use_gelu_act: gated,
    attention_scale: c.attention_scale,
    position_encoding_type: c.position_encoding_type,
    z_loss: c.z_loss,
    label_smoothing: c.label_smoothing,
    attention_type: 'ref',
  };
}

/** The fields of a flashT5 configuration as ours has them; any other configuration as it is. */
export function fromFlashT5Config(written: Record<string, unknown>): Record<string, unknown> {
  if (written.model_type !== 'flash_t5') return written;
  const { use_glu_mlp, use_gelu_act, attention_scale, num_heads, ...rest } = written;
  return {
    ...rest,
    num_heads,
    model_type: 't5',
    feed_forward_proj: use_glu_mlp ? 'gated-gelu' : use_gelu_act === false ? 'relu' : 'gelu_new',
    // flashT5 differs: without a scale it divides by the root of the number of heads, not of their width
    attention_scale: attention_scale ?? Number(num_heads ?? 8) ** -0.5,
    tie_word_embeddings: false,
  };
}
