/** Backends by the names users write. */
import { UsageError } from '../util/errors.ts';
import type { Backend } from './backend.ts';
import { openCpu } from './cpu/cpu.ts';
import { openReference } from './reference.ts';

export const devices = ['auto', 'cpu', 'reference'] as const;
export type Device = (typeof devices)[number];

/** Opens a device; `auto` is the fastest this machine has. @throws UsageError, BackendError if it is not built */
export function openDevice(device: Device = 'auto'): Backend {
  if (!devices.includes(device))
    throw new UsageError(`device: is ${JSON.stringify(device)}, expected one of ${devices.join(', ')}`);
  return device === 'reference' ? openReference() : openCpu();
}
