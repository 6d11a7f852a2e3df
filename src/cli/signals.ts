/** Ctrl-C and `kill`: the first asks for an orderly end, the second ends at once. `what` is done before the end. */
export function stopSignal(what = 'finishing the step and saving'): AbortSignal {
  const controller = new AbortController();
  for (const name of ['SIGINT', 'SIGTERM'] as const)
    process.once(name, () => {
      controller.abort();
      process.stderr.write(`\n${name}: ${what}; once more ends at once\n`);
      // `once` has removed this handler, so that the next signal ends the process by default
    });
  return controller.signal;
}
