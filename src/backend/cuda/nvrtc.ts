/** CUDA C++ to machine code for this device by NVRTC, each specialisation once: the results are cached on disk. */
import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { readCached, writeCached } from '../../util/cache.ts';
import { BackendError } from '../../util/errors.ts';
import { type NativeFunction, type NativeLibrary, nativeDirectory } from '../../util/native.ts';
import type { FloatType } from '../dtype.ts';
import { versionText } from './driver.ts';
import type { Specialisation } from './program.ts';

/** Where the build puts the .cu and .cuh files. */
export const sourceFolder = join(nativeDirectory, 'cuda');

const computeTypes: Record<FloatType, string> = { f32: 'float', bf16: '__nv_bfloat16', f16: '__half' };

/** "sm_90a": Hopper's own instructions need the suffix. */
export const architecture = (arch: number): string => `sm_${arch}${arch === 90 ? 'a' : ''}`;

/** What the compiler is told about a specialisation, include folders aside. nvcc takes the same. */
export const defineOptions = ({ type, defines }: Specialisation): string[] => [
  '-std=c++17',
  `-DCOMPUTE_TYPE=${computeTypes[type]}`,
  ...Object.entries(defines).map(([name, value]) => `-D${name}=${value}`),
];

/** A source and everything of ours that it includes, as one text: what a cached result depends on. */
export function expandSource(source: string, folder = sourceFolder, seen = new Set<string>()): string {
  const path = join(folder, source);
  if (seen.has(path)) return '';
  seen.add(path);
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (cause) {
    throw new BackendError(`${path}: not found, expected after "npm run build"`, { cause });
  }
  const included = [...text.matchAll(/^\s*#include "([^"]+)"/gm)].map(([, name]) => {
    const beside = join(dirname(source), name!);
    return expandSource(existsSync(join(folder, beside)) ? beside : name!, folder, seen);
  });
  return [...included, text].join('\n');
}

interface Calls {
  create: NativeFunction;
  compile: NativeFunction;
  compileAsync: (...args: unknown[]) => Promise<number>;
  destroy: NativeFunction;
  logSize: NativeFunction;
  log: NativeFunction;
  imageSize: NativeFunction;
  image: NativeFunction;
}

/** NVRTC with what it has compiled. */
export class Compiler {
  /** NVRTC's version as the driver writes versions. */
  readonly version: number;
  private readonly calls: Calls;
  private readonly headers: string;
  private readonly arch: string;
  private readonly images = new Map<string, Uint8Array>();

  /** `headers` is the folder of CUDA's own. */
  constructor(library: NativeLibrary, headers: string, arch: number) {
    this.calls = {
      create: library.bind('int nvrtcCreateProgram(void *p, const char *s, const char *name, int n, void *h, void *i)'),
      compile: library.bind('int nvrtcCompileProgram(uint64_t program, int count, const char **options)'),
      compileAsync: library.bindAsync('int nvrtcCompileProgram(uint64_t program, int count, const char **options)'),
      destroy: library.bind('int nvrtcDestroyProgram(void *program)'),
      logSize: library.bind('int nvrtcGetProgramLogSize(uint64_t program, void *bytes)'),
      log: library.bind('int nvrtcGetProgramLog(uint64_t program, void *log)'),
      imageSize: library.bind('int nvrtcGetCUBINSize(uint64_t program, void *bytes)'),
      image: library.bind('int nvrtcGetCUBIN(uint64_t program, void *image)'),
    };
    this.version = nvrtcVersion(library);
    this.headers = headers;
    this.arch = architecture(arch);
  }

  /** Machine code of a specialisation. @throws BackendError with the compiler's log */
  compile(what: Specialisation): Uint8Array {
    const key = keyOf(what);
    const known = this.images.get(key) ?? this.cached(what);
    if (known) {
      this.images.set(key, known);
      return known;
    }
    const program = this.create(what);
    const options = this.options(what);
    return this.finish(what, program, this.calls.compile(program[0], options.length, options));
  }

  /** Compiles many at once, on several threads; `compile` finds them afterwards, or gives the errors of those that fail. */
  async compileAll(list: readonly Specialisation[]): Promise<void> {
    const wanted = new Map(list.map((what) => [keyOf(what), what]));
    await Promise.allSettled(
      [...wanted].map(async ([key, what]) => {
        if (this.images.has(key)) return;
        const cached = this.cached(what);
        if (cached) {
          this.images.set(key, cached);
          return;
        }
        const program = this.create(what);
        const options = this.options(what);
        this.finish(what, program, await this.calls.compileAsync(program[0], options.length, options));
      }),
    );
  }

  private create({ source }: Specialisation): BigUint64Array {
    const path = join(sourceFolder, source);
    if (!existsSync(path)) throw new BackendError(`${path}: not found, expected after "npm run build"`);
    const program = new BigUint64Array(1);
    const code = this.calls.create(program, readFileSync(path, 'utf8'), path, 0, null, null);
    if (code !== 0) throw new BackendError(`${source}: nvrtcCreateProgram gives ${code}`);
    return program;
  }

  private options(what: Specialisation): string[] {
    const folders = [sourceFolder, dirname(join(sourceFolder, what.source)), this.headers, join(this.headers, 'cccl')];
    return [
      `--gpu-architecture=${this.arch}`,
      '-default-device',
      ...defineOptions(what),
      ...folders.map((folder) => `-I${folder}`),
    ];
  }

  private finish(what: Specialisation, program: BigUint64Array, code: number): Uint8Array {
    const { calls } = this;
    const bytes = new BigUint64Array(1);
    const text = (size: NativeFunction, get: NativeFunction) => {
      size(program[0], bytes);
      const found = new Uint8Array(Number(bytes[0]));
      get(program[0], found);
      return found;
    };
    try {
      if (code !== 0) {
        const log = Buffer.from(text(calls.logSize, calls.log)).toString().replace(/\0$/, '');
        throw new BackendError(
          `${what.source}: does not compile for ${this.arch} with ${JSON.stringify(what.defines)} and ${what.type}\n${log}`,
        );
      }
      const image = text(calls.imageSize, calls.image);
      this.images.set(keyOf(what), image);
      writeCached(this.cacheName(what), image);
      return image;
    } finally {
      calls.destroy(program);
    }
  }

  private cached(what: Specialisation): Uint8Array | undefined {
    return readCached(this.cacheName(what));
  }

  private cacheName(what: Specialisation): string {
    const hash = createHash('sha256');
    for (const part of [versionText(this.version), this.arch, ...defineOptions(what), expandSource(what.source)])
      hash.update(part).update('\0');
    return join('cuda', `${hash.digest('hex').slice(0, 32)}.cubin`);
  }
}

const keyOf = ({ source, type, defines }: Specialisation) => `${source} ${type} ${JSON.stringify(defines)}`;

/** 13000 for NVRTC 13.0. */
export function nvrtcVersion(library: NativeLibrary): number {
  const version = new Int32Array(2);
  library.bind('int nvrtcVersion(void *major, void *minor)')(version.subarray(0, 1), version.subarray(1));
  return 1000 * version[0]! + 10 * version[1]!;
}
