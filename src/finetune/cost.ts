/** What a run costs: time, energy, memory. A run that goes on adds to what it had cost before. */
import type { Backend } from '../backend/backend.ts';
import { EnergyMeter } from '../train/energy.ts';

/** As scores.json has it. */
export interface Cost {
  /** Of training, scoring and saving. */
  seconds: number;
  /** Of the GPU where that trains, else of the processor packages; null where nobody knows. */
  energy_joules: number | null;
  /** Who measured the energy, or why nobody did. */
  energy_from: string;
  /** Largest memory of the GPU's allocations where that trains, else of the whole process. */
  peak_bytes: number;
}

/** The part of a cost that a checkpoint keeps, as numbers. */
export type CostState = Record<string, number>;

/** Counts from its making on. */
export class CostMeter {
  private readonly backend: Backend;
  private readonly packages = new EnergyMeter();
  private readonly started = performance.now();
  private readonly before: { seconds: number; joules: number | undefined; bytes: number };
  private readonly firstReading: number | undefined;
  private readonly watts: number | undefined;
  private joules = 0;

  /**
   * @param state of the checkpoint that the run goes on from
   * @param watts power to reckon with where nothing is measured
   */
  constructor(backend: Backend, { state, watts }: { state?: CostState | undefined; watts?: number | undefined } = {}) {
    this.backend = backend;
    this.watts = watts;
    this.before = state
      ? { seconds: state.seconds ?? 0, joules: state.joules, bytes: state.bytes ?? 0 }
      : { seconds: 0, joules: 0, bytes: 0 };
    this.firstReading = backend.joules?.();
    backend.resetPeak();
  }

  get seconds(): number {
    return this.before.seconds + (performance.now() - this.started) / 1000;
  }

  /** The cost until now. Called at least every few minutes, since the counters of processors wrap. */
  now(): Cost {
    const measured = this.energy();
    const own = measured ?? (this.watts && this.watts * (this.seconds - this.before.seconds));
    const known = own !== undefined && this.before.joules !== undefined;
    return {
      seconds: this.seconds,
      energy_joules: known ? own + this.before.joules! : null,
      energy_from: known ? this.source(measured) : this.reason(own),
      peak_bytes: Math.max(this.before.bytes, this.peak()),
    };
  }

  /** What a checkpoint keeps. */
  state(): CostState {
    const { seconds, energy_joules, peak_bytes } = this.now();
    return { seconds, bytes: peak_bytes, ...(energy_joules !== null && { joules: energy_joules }) };
  }

  private get onGpu(): boolean {
    return this.backend.name === 'cuda';
  }

  private energy(): number | undefined {
    if (this.onGpu) {
      const now = this.backend.joules?.();
      return now === undefined || this.firstReading === undefined ? undefined : now - this.firstReading;
    }
    const more = this.packages.joules();
    if (more === undefined) return undefined;
    this.joules += more;
    return this.joules;
  }

  private source(measured: number | undefined): string {
    if (measured === undefined) return `estimated at ${this.watts} W`;
    return this.onGpu ? 'GPU (NVML)' : 'processor packages (RAPL)';
  }

  private reason(own: number | undefined): string {
    if (own !== undefined) return 'unknown: an earlier part of the run was not measured';
    return this.onGpu ? "unknown: NVML does not tell the GPU's energy" : 'unknown: no RAPL counters that may be read';
  }

  private peak(): number {
    return this.onGpu ? this.backend.usage.peakBytes : process.resourceUsage().maxRSS * 1024;
  }
}
