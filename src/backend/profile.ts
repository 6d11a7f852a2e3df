/** Where the time goes: a backend that times every launch and prints a table at exit. Switched on by DEBUG=2. */
import type { Backend } from './backend.ts';
import type { AnyKernel } from './kernel.ts';

/** The same backend with its launches timed; `launch` waits for the kernel, which the CPU's does anyway. */
export function profiled<B extends Backend>(backend: B): B {
  const times = new Map<string, { calls: number; seconds: number }>();
  const launch = backend.launch.bind(backend);
  backend.launch = (kernel: AnyKernel, ...rest) => {
    const began = performance.now();
    launch(kernel, ...rest);
    const seconds = (performance.now() - began) / 1e3;
    const total = times.get(kernel.name);
    if (total) {
      total.calls++;
      total.seconds += seconds;
    } else times.set(kernel.name, { calls: 1, seconds });
  };
  const began = performance.now();
  process.once('exit', () => {
    const all = (performance.now() - began) / 1e3;
    const rows = [...times].sort(([, a], [, b]) => b.seconds - a.seconds);
    console.error(`\n${backend.name}: ${all.toFixed(2)} s since the backend was opened`);
    for (const [name, { calls, seconds }] of rows)
      console.error(
        `${seconds.toFixed(3).padStart(9)} s ${((100 * seconds) / all).toFixed(1).padStart(5)} % ` +
          `${String(calls).padStart(8)} calls ${((1e6 * seconds) / calls).toFixed(1).padStart(10)} µs  ${name}`,
      );
  });
  return backend;
}
