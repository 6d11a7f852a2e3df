/** Models and tokenizers by folder or by name on the hub, with a line on standard error while they are downloaded. */
import type { HubProgress } from '../hub/hub.ts';
import { findTokenizer } from '../tokenizer/find_tokenizer.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import { findModel } from '../train/model_folder.ts';
import { ProgressBar } from './progress_bar.ts';

/** The folder of a model, a run or a model of the hub. @throws UsageError, FormatError */
export const modelAt = (place: string): Promise<string> => findModel(place, { progress_callback: shown() });

/** The tokenizer of a folder, a file or a model of the hub. @throws UsageError, FormatError */
export const tokenizerAt = (place: string): Promise<Tokenizer> => findTokenizer(place, { progress_callback: shown() });

function shown(): (progress: HubProgress) => void {
  const bar = new ProgressBar('download');
  const megabytes = (bytes: number) => (bytes / 1e6).toFixed(1);
  return ({ status, name, file, loaded = 0, total = 0 }) => {
    if (status === 'done') bar.done();
    else bar.update(loaded / total || 0, `${name} ${file}  ${megabytes(loaded)} of ${megabytes(total)} MB`);
  };
}
