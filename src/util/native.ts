/** Native libraries through FFI. The only file that knows koffi, so that `node:ffi` can replace it. */
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import koffi from 'koffi';
import { BackendError } from './errors.ts';

/** A bound C function. Pointers may be typed arrays (no copy, written in place), addresses as numbers, or null. */
export type NativeFunction = (...args: unknown[]) => number;

/** An opened library. */
export interface NativeLibrary {
  readonly path: string;
  /** Binds the function of a C prototype such as `int add(int a, int b)`. @throws BackendError if the symbol is missing */
  bind(prototype: string): NativeFunction;
  /** The same, run on another thread while the event loop goes on. */
  bindAsync(prototype: string): (...args: unknown[]) => Promise<number>;
}

let configured = false;

/** Folder of the compiled libraries, beside the compiled TypeScript. */
export const nativeDirectory = fileURLToPath(new URL('../../native/', import.meta.url));

/** Opens `libNAME.so` from the build. @throws BackendError naming the file and the command that makes it */
export function openLibrary(name: string): NativeLibrary {
  const path = `${nativeDirectory}lib${name}.so`;
  if (!existsSync(path)) throw new BackendError(`${path}: not found, expected after "npm run build" (needs g++)`);
  return openSystemLibrary(path);
}

/** Opens a library by path, or by a name that the system's loader finds. @throws BackendError with the loader's reason */
export function openSystemLibrary(path: string): NativeLibrary {
  let library: Library;
  try {
    library = load(path);
  } catch (cause) {
    throw new BackendError(`${path}: cannot be opened: ${(cause as Error).message}`, { cause });
  }
  return {
    path,
    bind: (prototype) => bound(library, path, prototype) as unknown as NativeFunction,
    bindAsync(prototype) {
      const { async: call } = bound(library, path, prototype);
      return (...args) =>
        new Promise((resolve, reject) =>
          call(...args, (error: Error | null, result: number) => (error ? reject(error) : resolve(result))),
        );
    },
  };
}

/** Binds a function of the system's C library. @throws BackendError if the symbol is missing */
export const bindSystem = (prototype: string): NativeFunction =>
  bound(load(null), 'the C library', prototype) as unknown as NativeFunction;

/** `errno` of the last call of this thread. */
export const systemError = (): number => koffi.errno();

type Library = ReturnType<typeof koffi.load>;

function load(path: string | null): Library {
  if (!configured) {
    // koffi runs calls on stacks of its own; its defaults (2 MiB, 128 KiB async) overflow into a segmentation fault.
    koffi.config({ sync_stack_size: 16 << 20, async_stack_size: 16 << 20 });
    configured = true;
  }
  return koffi.load(path);
}

function bound(library: Library, path: string, prototype: string) {
  try {
    return library.func(prototype);
  } catch (cause) {
    throw new BackendError(`${path}: cannot bind "${prototype}": ${(cause as Error).message}`, { cause });
  }
}

/** Where an array buffer's bytes are. They do not move, but they go with the buffer: keep it. */
export const addressOf = (buffer: ArrayBuffer): number => Number(koffi.address(buffer));

/** Foreign memory as an array buffer. Costly: make one per allocation and keep it, below 4 GiB. */
export const viewOf = (address: number, bytes: number): ArrayBuffer => koffi.view(BigInt(address), bytes);
