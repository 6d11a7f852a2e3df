/** Time of every launch but a kernel's first by events, kernel by kernel: the first may compile it or search an algorithm. */
import type { KernelTimes } from '../profile.ts';
import type { Driver } from './driver.ts';

/** Launches that may wait for their time; then the device is waited for. */
const PENDING = 4096;

/** Pairs of events around launches, read once they are done. */
export class LaunchTimer {
  private readonly driver: Driver;
  private readonly times: KernelTimes;
  private readonly idle: number[] = [];
  private readonly seen = new Set<string>();
  private readonly pending: { name: string; from: number; to: number }[] = [];

  constructor(driver: Driver, times: KernelTimes) {
    this.driver = driver;
    this.times = times;
  }

  measure(name: string, launch: () => void): void {
    if (!this.seen.has(name)) {
      this.seen.add(name);
      launch();
      return;
    }
    const from = this.event();
    const to = this.event();
    this.driver.record(from);
    launch();
    this.driver.record(to);
    this.pending.push({ name, from, to });
    if (this.pending.length >= PENDING) this.collect();
  }

  /** Waits for the launches so far and adds up their times. */
  collect(): void {
    this.driver.synchronize();
    for (const { name, from, to } of this.pending) {
      this.times.add(name, this.driver.milliseconds(from, to) / 1e3);
      this.idle.push(from, to);
    }
    this.pending.length = 0;
  }

  private event(): number {
    return this.idle.pop() ?? this.driver.createEvent({ timing: true });
  }
}
