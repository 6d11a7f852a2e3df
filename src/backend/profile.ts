/** Where the time goes: the launches of a backend by kernel, as a table at exit. Switched on by DEBUG=2. */
import type { Backend } from './backend.ts';
import type { AnyKernel } from './kernel.ts';

/** Sums of times by kernel, printed as a table. */
export class KernelTimes {
  private readonly times = new Map<string, { calls: number; seconds: number }>();
  private readonly began = performance.now();

  add(name: string, seconds: number): void {
    const total = this.times.get(name);
    if (total) {
      total.calls++;
      total.seconds += seconds;
    } else this.times.set(name, { calls: 1, seconds });
  }

  print(backend: string): void {
    const all = (performance.now() - this.began) / 1e3;
    const rows = [...this.times].sort(([, a], [, b]) => b.seconds - a.seconds);
    console.error(`\n${backend}: ${all.toFixed(2)} s since the backend was opened`);
    for (const [name, { calls, seconds }] of rows)
      console.error(
        `${seconds.toFixed(3).padStart(9)} s ${((100 * seconds) / all).toFixed(1).padStart(5)} % ` +
          `${String(calls).padStart(8)} calls ${((1e6 * seconds) / calls).toFixed(1).padStart(10)} µs  ${name}`,
      );
  }
}

/** The same backend with its launches timed on the host: for one whose `launch` returns when the work is done. */
export function profiled<B extends Backend>(backend: B): B {
  const times = new KernelTimes();
  const launch = backend.launch.bind(backend);
  backend.launch = (kernel: AnyKernel, ...rest) => {
    const began = performance.now();
    launch(kernel, ...rest);
    times.add(kernel.name, (performance.now() - began) / 1e3);
  };
  if (backend.list) Object.assign(backend, { list: undefined }); // whose launches would not be seen one by one
  process.once('exit', () => times.print(backend.name));
  return backend;
}
