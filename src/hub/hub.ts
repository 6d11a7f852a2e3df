/** Models by name: from a folder, from the cache, or from the hub into the cache. */
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { UsageError } from '../util/errors.ts';
import { accessToken, CachedModel, cacheFolder } from './cache.ts';
import { download, type RemoteFile } from './download.ts';

/** Where a model that is named as on the hub comes from. */
export interface HubOptions {
  /** Branch, tag or commit, "main" by default. */
  revision?: string;
  /** Instead of HF_HUB_CACHE, HF_HOME/hub or ~/.cache/huggingface/hub. */
  cache_dir?: string;
  /** Never ask the network; HF_HUB_OFFLINE=1 does the same. */
  local_files_only?: boolean;
  /** Of a name, download these files only: everything (the default), or what a tokenizer needs. */
  files?: 'model' | 'tokenizer';
  /** Told about every file as it arrives, in transformers.js's form. */
  progress_callback?: (progress: HubProgress) => void;
}

/** What is being downloaded, in transformers.js's form. */
export interface HubProgress {
  status: 'initiate' | 'progress' | 'done';
  name: string;
  file: string;
  loaded?: number;
  total?: number;
}

const vocabularies = /^tokenizer\.json$|^(spiece|sentencepiece|tokenizer)\.model$/;
const tokenizerSettings = /^(tokenizer_config|special_tokens_map|added_tokens)\.json$/;
const settings = /^(config|generation_config)\.json$/;

/** Weights in the order of preference: the first that the model has is taken. */
const weights = [
  ['model.safetensors', /^model\.safetensors$/],
  ['model.safetensors.index.json', /^model\.safetensors\.index\.json$|^model-\d+-of-\d+\.safetensors$/],
  ['pytorch_model.bin', /^pytorch_model\.bin$/],
  ['pytorch_model.bin.index.json', /^pytorch_model\.bin\.index\.json$|^pytorch_model-\d+-of-\d+\.bin$/],
] as const;

/** The form of a name: "google/flan-t5-small" or "t5-small". */
const isName = (text: string) => /^[\w.-]+(\/[\w.-]+)?$/.test(text) && !text.startsWith('.');

/**
 * The folder of a model: `nameOrFolder` itself where it is a folder, else the snapshot of the hub's model of this name,
 * downloaded if it is not in the cache.
 * @throws UsageError if there is neither, if the network is needed but not allowed, or if the hub refuses; FormatError
 *   if what arrives is damaged
 */
export async function resolveModel(nameOrFolder: string, options: HubOptions = {}): Promise<string> {
  if (typeof nameOrFolder !== 'string')
    throw new UsageError(`model: got ${nameOrFolder}, expected a folder or a name such as google/flan-t5-small`);
  if (existsSync(nameOrFolder)) return nameOrFolder;
  if (!isName(nameOrFolder))
    throw new UsageError(`${nameOrFolder}: not found, expected a folder or a name such as google/flan-t5-small`);
  const { revision = 'main' } = options;
  const cached = new CachedModel(options.cache_dir ?? cacheFolder(), nameOrFolder);
  const offline = options.local_files_only || /^(1|true|yes|on)$/i.test(process.env.HF_HUB_OFFLINE ?? '');
  const isComplete = options.files === 'tokenizer' ? hasTokenizer : hasModel;
  const known = cached.commitOf(revision);
  const local = known && cached.snapshot(known);
  if (offline) {
    if (local && isComplete(local)) return local;
    throw new UsageError(
      `${nameOrFolder}: ${local ? 'only a part of it is' : 'not'} in ${options.cache_dir ?? cacheFolder()}, and the network may not be used; ` +
        'run once without local_files_only and HF_HUB_OFFLINE',
    );
  }
  try {
    return await fetchModel(nameOrFolder, revision, cached, options);
  } catch (error) {
    // Without a network the last snapshot serves, as in Python; what the hub itself says is an error.
    if (local && isComplete(local) && isNetworkError(error)) return local;
    throw isNetworkError(error) ? noNetwork(nameOrFolder, error as Error) : error;
  }
}

/** The folder of a model that is already here: a folder, or the newest snapshot of a name in the cache. */
export function cachedFolder(nameOrFolder: string): string | undefined {
  if (existsSync(nameOrFolder) || !isName(nameOrFolder)) return existsSync(nameOrFolder) ? nameOrFolder : undefined;
  const cached = new CachedModel(cacheFolder(), nameOrFolder);
  const known = cached.commitOf('main');
  const local = known && cached.snapshot(known);
  return local && hasModel(local) ? local : undefined;
}

/** Whether a snapshot has a configuration and weights. */
const hasModel = (folder: string) =>
  existsSync(join(folder, 'config.json')) && weights.some(([name]) => readdirSync(folder).includes(name));

const hasTokenizer = (folder: string) =>
  existsSync(folder) && readdirSync(folder).some((path) => vocabularies.test(path));

const endpoint = () => (process.env.HF_ENDPOINT || 'https://huggingface.co').replace(/\/+$/, '');

/** fetch says "TypeError: fetch failed" when no answer came at all. */
const isNetworkError = (error: unknown) => error instanceof TypeError && /fetch failed/.test(error.message);

function noNetwork(name: string, error: Error): UsageError {
  const why = (error.cause as Error | undefined)?.message ?? error.message;
  return new UsageError(`${name}: no such folder, and ${endpoint()} cannot be reached (${why})`, { cause: error });
}

async function fetchModel(
  name: string,
  revision: string,
  cached: CachedModel,
  { progress_callback, files: kind }: HubOptions,
): Promise<string> {
  const { listFiles, modelInfo } = await import('@huggingface/hub');
  const token = accessToken();
  const where = { hubUrl: endpoint(), ...(token && { accessToken: token }) };
  let commit: string;
  const files: RemoteFile[] = [];
  try {
    ({ sha: commit } = await modelInfo({ name, revision, additionalFields: ['sha'], ...where }));
    for await (const { type, path, size, oid, lfs } of listFiles({ repo: name, revision: commit, ...where }))
      if (type === 'file')
        files.push({
          path,
          size,
          etag: lfs?.oid ?? oid ?? '',
          url: `${endpoint()}/${name}/resolve/${commit}/${path.split('/').map(encodeURIComponent).join('/')}`,
        });
  } catch (error) {
    if (isNetworkError(error)) throw error;
    const { statusCode, message } = error as { statusCode?: number; message: string };
    const why =
      statusCode === 401 || statusCode === 403
        ? `${message}; a private or gated model needs a token in HF_TOKEN`
        : statusCode === 404
          ? `no model of this name with revision "${revision}"`
          : message;
    throw new UsageError(`${name}: ${endpoint()}: ${why}`, { cause: error });
  }
  const wanted = kind === 'tokenizer' ? tokenizerFiles(name, files) : modelFiles(name, files);
  for (const file of wanted) {
    const tell = (status: HubProgress['status'], loaded: number) =>
      progress_callback?.({ status, name, file: file.path, loaded, total: file.size });
    tell('initiate', 0);
    const onBytes = (bytes: number) => tell('progress', bytes);
    await download(file, cached.blob(file.etag), cached.lockFolder(), { token, onBytes });
    cached.link(commit, file.path, file.etag);
    tell('done', file.size);
  }
  cached.remember(revision, commit);
  return cached.snapshot(commit);
}

/** The files of a model that are downloaded, its weights in one layout. @throws UsageError if it has no weights */
function modelFiles(name: string, files: readonly RemoteFile[]): RemoteFile[] {
  const layout = weights.find(([first]) => files.some(({ path }) => path === first));
  if (!layout)
    throw new UsageError(`${name}: has no weights, expected one of ${weights.map(([first]) => first).join(', ')}`);
  const companions = [settings, vocabularies, tokenizerSettings, layout[1]];
  return files.filter(({ path }) => companions.some((names) => names.test(path)));
}

/** The files of a tokenizer. @throws UsageError if there is none */
function tokenizerFiles(name: string, files: readonly RemoteFile[]): RemoteFile[] {
  if (!files.some(({ path }) => vocabularies.test(path)))
    throw new UsageError(`${name}: has no tokenizer, expected tokenizer.json or spiece.model`);
  return files.filter(({ path }) => vocabularies.test(path) || tokenizerSettings.test(path));
}
