/** Native libraries through FFI. The only file that knows koffi, so that `node:ffi` can replace it. */
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import koffi from 'koffi';
import { BackendError } from './errors.ts';

/** A bound C function. Pointers may be typed arrays (no copy, written in place), addresses as numbers, or null. */
export type NativeFunction = (...args: unknown[]) => number;

export interface NativeLibrary {
  readonly path: string;
  /** Binds the function of a C prototype such as `int add(int a, int b)`. @throws BackendError if the symbol is missing */
  bind(prototype: string): NativeFunction;
}

let configured = false;

/** Folder of the compiled libraries, beside the compiled TypeScript. */
export const nativeDirectory = fileURLToPath(new URL('../../native/', import.meta.url));

/** Opens `libNAME.so` from the build. @throws BackendError naming the file and the command that makes it */
export function openLibrary(name: string): NativeLibrary {
  const path = `${nativeDirectory}lib${name}.so`;
  if (!existsSync(path)) throw new BackendError(`${path}: not found, expected after "npm run build" (needs g++)`);
  return { path, bind: binderOf(load(path), path) };
}

/** Binds a function of the system's C library. @throws BackendError if the symbol is missing */
export const bindSystem = (prototype: string): NativeFunction => binderOf(load(null), 'the C library')(prototype);

/** `errno` of the last call of this thread. */
export const systemError = (): number => koffi.errno();

function load(path: string | null): ReturnType<typeof koffi.load> {
  if (!configured) {
    // koffi runs calls on stacks of its own; its defaults (2 MiB, 128 KiB async) overflow into a segmentation fault.
    koffi.config({ sync_stack_size: 16 << 20, async_stack_size: 16 << 20 });
    configured = true;
  }
  return koffi.load(path);
}

function binderOf(library: ReturnType<typeof koffi.load>, path: string): NativeLibrary['bind'] {
  return (prototype) => {
    try {
      return library.func(prototype) as unknown as NativeFunction;
    } catch (cause) {
      throw new BackendError(`${path}: cannot bind "${prototype}": ${(cause as Error).message}`, { cause });
    }
  };
}
