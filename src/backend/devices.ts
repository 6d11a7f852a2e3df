/** Backends by the names users write. */
import { BackendError, UsageError } from '../util/errors.ts';
import type { Backend } from './backend.ts';
import { openCpu } from './cpu/cpu.ts';
import { hasGpu, openCuda } from './cuda/open.ts';
import { openReference } from './reference.ts';

/** What `device` may be. */
export const devices = ['auto', 'cpu', 'cuda', 'reference'] as const;
/** A name of a device. */
export type Device = (typeof devices)[number];

/** Opens a device; `auto` is the fastest this machine has. @throws UsageError, BackendError if it is not there */
export function openDevice(device: Device = 'auto'): Backend {
  switch (device) {
    case 'auto':
      return hasGpu() ? gpuOrCpu() : openCpu();
    case 'cpu':
      return openCpu();
    case 'cuda':
      return openCuda();
    case 'reference':
      return openReference();
    default:
      throw new UsageError(`device: is ${JSON.stringify(device)}, expected one of ${devices.join(', ')}`);
  }
}

let told = false;

/** A GPU that lacks libraries is no reason not to run, but worth a line. */
function gpuOrCpu(): Backend {
  try {
    return openCuda();
  } catch (error) {
    if (!(error instanceof BackendError)) throw error;
    if (!told) console.error(`${error.message}; runs on the cpu`);
    told = true;
    return openCpu();
  }
}
