/** The energy that a GPU has taken, from NVML, which comes with the driver. */
import { BackendError } from '../../util/errors.ts';
import { openSystemLibrary } from '../../util/native.ts';

/** Reads joules since the driver was loaded. */
export type EnergyCounter = () => number;

/** The counter of the device at a PCI address such as "0000:3b:00.0"; undefined where NVML or the device has none. */
export function openEnergyCounter(pciAddress: string): EnergyCounter | undefined {
  try {
    const nvml = openSystemLibrary('libnvidia-ml.so.1');
    const out = new BigUint64Array(new ArrayBuffer(8));
    const device = nvml.bind('int nvmlDeviceGetHandleByPciBusId_v2(const char *address, void *device)');
    const energy = nvml.bind('int nvmlDeviceGetTotalEnergyConsumption(uint64_t device, void *millijoules)');
    if (nvml.bind('int nvmlInit_v2()')() !== 0 || device(pciAddress, out) !== 0) return undefined;
    const handle = out[0]!;
    if (energy(handle, out) !== 0) return undefined; // older than Volta
    let last = Number(out[0]);
    return () => {
      if (energy(handle, out) === 0) last = Number(out[0]);
      return last / 1000;
    };
  } catch (error) {
    if (error instanceof BackendError) return undefined;
    throw error;
  }
}
