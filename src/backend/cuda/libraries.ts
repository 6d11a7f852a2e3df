/**
 * Where NVIDIA's libraries are: the loader's path, FAT5_CUDA_PATH, a CUDA toolkit, or the wheels of a Python installation.
 * The driver's libcuda is always the loader's business.
 */
import { existsSync, readdirSync } from 'node:fs';
import { homedir } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { type NativeLibrary, openSystemLibrary } from '../../util/native.ts';

/** An opened library and where it was. */
export interface FoundLibrary {
  calls: NativeLibrary;
  /** The file, or the name by which the loader found it. */
  path: string;
}

/** NVIDIA's libraries without `lib` and `.so`. */
export type LibraryName = 'nvrtc' | 'cublasLt';

/** Newest first: what a library may be called. */
const majors = [14, 13, 12, 11];

const found = new Map<LibraryName, FoundLibrary | undefined>();

/** A library, opened, or undefined where none is found. */
export function findLibrary(name: LibraryName): FoundLibrary | undefined {
  if (!found.has(name)) found.set(name, search(name));
  return found.get(name);
}

function search(name: LibraryName): FoundLibrary | undefined {
  for (const folder of searchFolders()) {
    const files = list(folder)
      .filter((file) => file.startsWith(`lib${name}.so`))
      .sort((a, b) => major(b) - major(a) || a.length - b.length);
    for (const file of files) {
      const opened = tryOpen(join(folder, file));
      if (opened) return opened;
    }
  }
  for (const version of majors) {
    const opened = tryOpen(`lib${name}.so.${version}`);
    if (opened) return opened;
  }
  return tryOpen(`lib${name}.so`);
}

const major = (file: string) => Number(/\.so\.(\d+)/.exec(file)?.[1] ?? 0);

function tryOpen(path: string): FoundLibrary | undefined {
  try {
    return { calls: openSystemLibrary(path), path };
  } catch {
    return undefined; // not there, or for another system: the next place may have it
  }
}

/** The folder of CUDA's headers (cuda_bf16.h), undefined where there is none. */
export function findHeaders(): string | undefined {
  const beside = searchFolders().flatMap((folder) => [join(folder, '../include'), join(folder, '../../include')]);
  const nvrtc = findLibrary('nvrtc');
  if (nvrtc?.path.includes('/')) beside.unshift(join(dirname(nvrtc.path), '../include'));
  return beside.find((folder) => existsSync(join(folder, 'cuda_bf16.h')));
}

let folders: string[] | undefined;

/** Existing folders that may hold libraries, best first. */
function searchFolders(): string[] {
  folders ??= [...new Set([...named(), ...toolkits(), ...wheels()])].filter((folder) => existsSync(folder));
  return folders;
}

const inToolkit = (root: string) => [
  root,
  join(root, 'lib64'),
  join(root, 'lib'),
  join(root, 'targets/x86_64-linux/lib'),
];

const named = () => (process.env.FAT5_CUDA_PATH ?? '').split(delimiter).filter(Boolean).flatMap(inToolkit);

function toolkits(): string[] {
  const { CUDA_HOME, CUDA_PATH } = process.env;
  const versions = list('/usr/local').filter((name) => /^cuda-\d/.test(name));
  const newest = versions.sort((a, b) => Number(b.slice(5)) - Number(a.slice(5)));
  const roots = ['/usr/local/cuda', ...newest.map((name) => `/usr/local/${name}`)];
  return [CUDA_HOME, CUDA_PATH, ...roots].filter((root) => root !== undefined).flatMap(inToolkit);
}

/** Library folders of NVIDIA's wheels in the usual places of Python packages. */
function wheels(): string[] {
  const { VIRTUAL_ENV, CONDA_PREFIX, PATH = '' } = process.env;
  const beside = PATH.split(delimiter)
    .filter((folder) => existsSync(join(folder, 'python3')))
    .map(dirname);
  const prefixes = [VIRTUAL_ENV, CONDA_PREFIX, ...beside, '/usr/local', '/usr', join(homedir(), '.local')];
  const sites = [...new Set(prefixes.filter((prefix) => prefix !== undefined))].flatMap((prefix) =>
    list(join(prefix, 'lib'))
      .filter((name) => /^python3/.test(name))
      .flatMap((name) => [join(prefix, 'lib', name, 'site-packages'), join(prefix, 'lib', name, 'dist-packages')]),
  );
  return sites.flatMap((site) => list(join(site, 'nvidia')).map((part) => join(site, 'nvidia', part, 'lib')));
}

function list(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return []; // not there
  }
}
