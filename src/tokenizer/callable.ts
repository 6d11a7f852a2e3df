/** Objects that can be called, as transformers.js's tokenizers and pipelines can. */
export abstract class Callable {
  constructor() {
    const call = (...args: unknown[]) => (call as unknown as { _call(...args: unknown[]): unknown })._call(...args);
    // biome-ignore lint/correctness/noConstructorReturn: the function is the object
    return Object.setPrototypeOf(call, new.target.prototype);
  }
}
