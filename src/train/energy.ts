import { readdirSync, readFileSync } from 'node:fs';

const powercap = '/sys/class/powercap';

/** Energy counters of the processor packages (Linux powercap); usually readable by root only. */
export class EnergyMeter {
  private readonly packages: { path: string; range: number }[] = [];
  private last: number[] = [];

  constructor(folder = powercap) {
    try {
      for (const name of readdirSync(folder).filter((n) => /^intel-rapl:\d+$/.test(n))) {
        const read = (file: string) => Number(readFileSync(`${folder}/${name}/${file}`, 'utf8'));
        read('energy_uj');
        this.packages.push({ path: `${folder}/${name}/energy_uj`, range: read('max_energy_range_uj') });
      }
    } catch {
      this.packages.length = 0; // no such counters, or not for this user
    }
    this.last = this.readings();
  }

  /** Joules since the last call; undefined where the machine does not tell. */
  joules(): number | undefined {
    if (this.packages.length === 0) return undefined;
    const now = this.readings();
    let microjoules = 0;
    now.forEach((value, i) => {
      const spent = value - this.last[i]!;
      microjoules += spent >= 0 ? spent : spent + this.packages[i]!.range; // the counter wraps
    });
    this.last = now;
    return microjoules / 1e6;
  }

  private readings(): number[] {
    return this.packages.map(({ path }) => Number(readFileSync(path, 'utf8')));
  }
}
