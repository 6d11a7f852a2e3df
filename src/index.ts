/** The library: what `import … from 'fat5'` gives. */
export type { Device } from './backend/devices.ts';
export type { T5Config, T5ConfigInput } from './model/config.ts';
export type { Assistant } from './model/generation/assisted.ts';
export type { CallOptions, GenerateOptions } from './model/generation/generate.ts';
export type { GenerationConfig } from './model/generation/options.ts';
export { LogitsProcessor, LogitsProcessorList, type Scores } from './model/generation/processors.ts';
export type { PrefixAllowedTokens } from './model/generation/processors_of.ts';
export type { GenerateOutput } from './model/generation/run.ts';
export {
  InterruptableStoppingCriteria,
  StoppingCriteria,
  StoppingCriteriaList,
} from './model/generation/stopping.ts';
export { type Streamer, TextStreamer, type TextStreamerOptions } from './model/generation/streamer.ts';
export {
  type ClassifierOutput,
  type QuestionAnsweringInputs,
  type QuestionAnsweringOutput,
  type SequenceClassificationInputs,
  T5EncoderModel,
  T5ForQuestionAnswering,
  T5ForSequenceClassification,
  T5ForTokenClassification,
  type TokenClassificationInputs,
} from './model/heads.ts';
export type { EncoderInputs, MatrixInput, Seq2SeqInputs } from './model/inputs.ts';
export type { LoraOptions } from './model/lora.ts';
export { type PreferencePairs, T5ForPreferences } from './model/preference.ts';
export type { ModelOptions, NewModelOptions } from './model/pretrained.ts';
export type { ResultTensor } from './model/result.ts';
export { type Seq2SeqOutput, T5ForConditionalGeneration } from './model/t5.ts';
export type { FeatureOptions, Pooling } from './pipelines/features.ts';
export type { TextToTextOptions, TranslationOptions } from './pipelines/generation.ts';
export {
  type Pipeline,
  type PipelineOptions,
  type PipelineParts,
  type PipelineProgress,
  pipeline,
  type Tasks,
} from './pipelines/pipeline.ts';
export type { QuestionAnsweringOptions } from './pipelines/question_answering.ts';
export type { Classified, TextClassificationOptions } from './pipelines/text_classification.ts';
export type {
  AggregationStrategy,
  ClassifiedToken,
  Entity,
  TokenClassificationOptions,
} from './pipelines/token_classification.ts';
export type { ZeroShotOptions, ZeroShotResult } from './pipelines/zero_shot.ts';
export { AutoTokenizer } from './tokenizer/auto_tokenizer.ts';
export type { BatchEncoding, IdTensor } from './tokenizer/batch_encoding.ts';
export type { CallOptions as TokenizerCallOptions } from './tokenizer/call.ts';
export type { EncodedBatch } from './tokenizer/native_encoder.ts';
export { ENGLISH_PATTERN, FRENCH_PATTERN } from './tokenizer/patterns.ts';
export type { Encoding } from './tokenizer/pipeline/encoding.ts';
export type { TextBatch } from './tokenizer/text_batch.ts';
export type { DecodeOptions, EncodeBatchOptions, EncodeOptions, Tokenizer } from './tokenizer/tokenizer.ts';
export type { SpecialTokens } from './tokenizer/tokenizer_config.ts';
export {
  saveTrainedTokenizer,
  type TokenizerProgress,
  type TrainedTokenizer,
  trainTokenizer,
} from './tokenizer/train.ts';
export type { TrainTokenizerOptions } from './tokenizer/training_options.ts';
export { type StepResult, Trainer, type TrainerOptions } from './train/trainer.ts';
export { BackendError, FormatError, ShapeError, UsageError } from './util/errors.ts';
export { StreamDecoder } from './util/stream_decoder.ts';
