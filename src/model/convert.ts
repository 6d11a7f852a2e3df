/** A model's folder written again: in other files, names or types. Tensors pass through one piece at a time. */
import { join } from 'node:path';
import { toBfloat16 } from '../util/bfloat16.ts';
import { toFloat16 } from '../util/float16.ts';
import { makeFolder, writeWhole } from '../util/new_file.ts';
import { configText, savedConfig, type T5Config, t5Config } from './config.ts';
import { flashT5Config, flashT5Name } from './flasht5_names.ts';
import { type Architecture, parameterTable } from './parameter_table.ts';
import { CONFIG_FILE, configOf } from './pretrained.ts';
import { writeSafetensors } from './safetensors_write.ts';
import type { TensorsOnDisk } from './tensors_on_disk.ts';
import { matchWeights, openWeights, WEIGHTS_FILE, withSharing } from './weights.ts';

/** Whose names and configuration a folder may have. */
export const convertFormats = ['huggingface', 'flasht5'] as const;
/** What type weights may get. */
export const convertTypes = ['keep', 'float32', 'bfloat16', 'float16'] as const;

/** What `convert` writes. */
export interface ConvertOptions {
  /** Names and configuration of Hugging Face's transformers, or of FAT5's flashT5. */
  format: (typeof convertFormats)[number];
  /** Type of the weights; keep: as they are (float64 becomes float32). */
  dtype: (typeof convertTypes)[number];
}

const types = { float32: 'F32', bfloat16: 'BF16', float16: 'F16' } as const;

/**
 * Writes config.json and model.safetensors of the model in `from` to another folder. Reads safetensors and
 * pytorch_model.bin, whole or sharded, under either format's names. @returns the number of tensors
 * @throws UsageError for a model that the format cannot hold, FormatError for damaged files
 */
export async function convertModel(from: string, to: string, { format, dtype }: ConvertOptions): Promise<number> {
  const written = t5Config(configOf(from), join(from, CONFIG_FILE));
  const file = openWeights(from);
  try {
    const config = withSharing(written, file);
    const architecture = architectureOf(file);
    const sources = matchWeights(file, parameterTable(config, architecture), architecture);
    const name = format === 'flasht5' ? flashT5Name : (given: string) => given;
    const tensors = parameterTable(config, architecture)
      .filter((spec) => sources.get(spec.name) !== undefined)
      .map((spec) => tensor(file, sources.get(spec.name)!, name(spec.name), spec.shape, dtype));
    const described = format === 'flasht5' ? flashT5Config(config) : huggingFaceConfig(config, architecture);
    makeFolder(to);
    await writeSafetensors(join(to, WEIGHTS_FILE), tensors);
    writeWhole(join(to, CONFIG_FILE), configText(described));
    return tensors.length;
  } finally {
    file.close();
  }
}

function tensor(
  file: TensorsOnDisk,
  source: string,
  name: string,
  shape: readonly number[],
  dtype: ConvertOptions['dtype'],
) {
  const stored = file.entry(source).dtype;
  const wanted = dtype === 'keep' ? (stored === 'BF16' || stored === 'F16' ? stored : 'F32') : types[dtype];
  const bytes = (view: Float32Array | Uint16Array) => new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
  const read = async (start: number, count: number): Promise<Uint8Array> => {
    if (stored === wanted) return file.readBytes(source, start, count);
    const values = file.readFloats(source, start, count);
    if (wanted === 'F32') return bytes(values);
    return bytes(wanted === 'BF16' ? toBfloat16(values) : toFloat16(values));
  };
  return { name, dtype: wanted, shape, read };
}

/** What stands behind the encoder, by the tensors that are there. */
function architectureOf({ entries }: TensorsOnDisk): Architecture {
  const has = (part: string) => [...entries.keys()].some((name) => name.startsWith(part));
  if (has('classification_head.')) return 'sequence_classification';
  if (has('classifier.')) return 'token_classification';
  if (has('qa_outputs.')) return 'question_answering';
  return has('decoder.') ? 'conditional_generation' : 'encoder';
}

const classes: Record<Architecture, string> = {
  conditional_generation: 'ForConditionalGeneration',
  encoder: 'EncoderModel',
  token_classification: 'ForTokenClassification',
  sequence_classification: 'ForSequenceClassification',
  question_answering: 'ForQuestionAnswering',
};
const families: Record<string, string> = { t5: 'T5', mt5: 'MT5', umt5: 'UMT5' };

function huggingFaceConfig(config: T5Config, architecture: Architecture): Record<string, unknown> {
  const saved = savedConfig(config);
  const family = families[saved.model_type as string];
  return family ? { ...saved, architectures: [family + classes[architecture]] } : saved;
}
