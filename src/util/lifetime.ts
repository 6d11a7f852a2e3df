import { UsageError } from './errors.ts';

/** Memory that may only be freed once nothing uses it any more. */
export class Lifetime {
  private readonly who: string;
  private readonly free: () => void;
  private users = 0;
  private ending: Promise<void> | undefined;
  private unused: (() => void) | undefined;

  /** @param who is named when it is used too late */
  constructor(who: string, free: () => void) {
    this.who = who;
    this.free = free;
  }

  /** @throws UsageError after `end` */
  check(): void {
    if (this.ending) throw new UsageError(`${this.who}: used after dispose(), expected another one to be opened`);
  }

  /** Runs f, which may use the memory until its promise is settled. @throws UsageError after `end` */
  async use<R>(f: () => Promise<R>): Promise<R> {
    this.check();
    this.users++;
    try {
      return await f();
    } finally {
      if (--this.users === 0) this.unused?.();
    }
  }

  /** Frees the memory, now or when the last use is over: the promise says when. A second call does nothing more. */
  end(): Promise<void> {
    this.ending ??= new Promise<void>((resolve) => {
      this.unused = () => {
        this.free();
        resolve();
      };
      if (this.users === 0) this.unused();
    });
    return this.ending;
  }
}
