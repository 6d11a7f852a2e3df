import type { HubOptions } from '../hub/hub.ts';
import { isHubName } from '../hub/names.ts';
import { AutoTokenizer, openTokenizer } from './auto_tokenizer.ts';
import type { Tokenizer } from './tokenizer.ts';

/** The tokenizer of a folder, a file, or a model of the hub. @throws UsageError, FormatError */
export async function findTokenizer(place: string, options: Omit<HubOptions, 'files'> = {}): Promise<Tokenizer> {
  return isHubName(place) ? AutoTokenizer.from_pretrained(place, options) : openTokenizer(place);
}
