/**
 * Other programs on the same GPU, right after ours: scripts/bench_gpu_peers.py in a Python that has PyTorch. Each piece of work has
 * a process of its own. Several compile at once, while nothing is measured, and then wait for their turns.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { availableParallelism } from 'node:os';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { UsageError } from '../util/errors.ts';
import type { Measurement, PeerMeasurement } from './bench.ts';

/** What a peer is asked for: `kind` names a function of the script, `part` a share of its work, the rest are its arguments. */
export interface PeerWork {
  kind: 'train' | 'encode' | 'decode' | 'attention' | 'rms_norm' | 'cross_entropy';
  part?: string;
  [argument: string]: unknown;
}

const script = fileURLToPath(new URL('../../../scripts/bench_gpu_peers.py', import.meta.url));
/** What the script prints: a figure, a peer that failed, or that this is all. */
type Line = { peer?: string; milliseconds?: number; peakMegabytes?: number; error?: string; done?: true };

/** One process of the script. */
class Peer {
  private readonly child: ChildProcess;
  private readonly lines: AsyncIterator<string>;
  private readonly closed: Promise<unknown>;
  private lastWords = '';

  /** `work` as JSON. */
  constructor(python: string, work: string) {
    this.child = spawn(python, [script, work], { stdio: ['pipe', 'pipe', 'pipe'] });
    this.closed = new Promise((resolve) => this.child.once('close', resolve));
    this.child.on('error', (error) => (this.lastWords = error.message));
    this.child.stderr!.on('data', (text: Buffer) => (this.lastWords = (this.lastWords + text).slice(-2000)));
    this.child.stdin!.on('error', () => {}); // it ended: reading says so
    this.lines = createInterface({ input: this.child.stdout! })[Symbol.asyncIterator]();
  }

  /** What it prints until it waits again. @throws UsageError if it ends instead */
  async answers(): Promise<Line[]> {
    const found: Line[] = [];
    for (;;) {
      const { done, value } = await this.lines.next();
      if (done) {
        await this.closed; // its last words are complete then
        throw new UsageError(`bench: ${script} ended: ${this.lastWords.trim().split('\n').at(-1)}`);
      }
      if (!value.startsWith('{')) continue; // a library's remark
      const line = JSON.parse(value) as Line;
      if (line.done) return found;
      found.push(line);
    }
  }

  ask(part: string): void {
    this.child.stdin!.write(`${part}\n`);
  }

  end(): void {
    this.child.kill('SIGKILL');
  }
}

/** The same for the parts of one piece of work. */
const keyOf = ({ part: _, ...work }: PeerWork) => JSON.stringify(work);

export class GpuPeers {
  private readonly python: string;
  private readonly works: readonly string[];
  private readonly peers = new Map<string, Peer>();
  /** How many of the works have been prepared. */
  private done = 0;
  /** Why one ended. */
  private failure: UsageError | undefined;

  /** `works` in the order in which they will be measured. */
  constructor(python: string, works: readonly PeerWork[]) {
    this.python = python;
    this.works = [...new Set(works.map(keyOf))];
  }

  /**
   * Makes ready what measures a work: if that is not there yet, then together with those after it, as many as the machine has
   * cores for, and those before it end. @throws UsageError if none of the first ones can run
   */
  async prepare(work: PeerWork): Promise<void> {
    const place = this.works.indexOf(keyOf(work));
    if (place < this.done) return;
    this.end();
    const group = this.works.slice(place, place + availableParallelism());
    this.done = place + group.length;
    const began = performance.now();
    for (const key of group) this.peers.set(key, new Peer(this.python, key));
    await Promise.all(group.map((key) => this.answersOf(key)));
    console.error(
      `${this.peers.size} of ${group.length} peers compiled, ${Math.round((performance.now() - began) / 1e3)} s`,
    );
    if (place === 0 && this.peers.size === 0) throw this.failure;
  }

  /** The peers' figures for a case, none from a process that ended; its rate is of the same work as ours. */
  async measure(work: PeerWork, ours: Measurement): Promise<PeerMeasurement[]> {
    this.peers.get(keyOf(work))?.ask(work.part ?? '');
    return (await this.answersOf(keyOf(work))).flatMap(({ peer, milliseconds, peakMegabytes = 0 }) => {
      if (peer === undefined || milliseconds === undefined) return [];
      return [{ peer, milliseconds, rate: (ours.rate * ours.milliseconds) / milliseconds, peakMegabytes }];
    });
  }

  /** What a process prints; what goes wrong is printed here. */
  private async answersOf(key: string): Promise<Line[]> {
    try {
      const lines = (await this.peers.get(key)?.answers()) ?? [];
      for (const { peer, error } of lines) if (error !== undefined) console.error(`${key} ${peer}: ${error}`);
      return lines;
    } catch (error) {
      if (!(error instanceof UsageError)) throw error;
      this.peers.delete(key);
      this.failure = error;
      console.error(`${key}: ${error.message}`);
      return [];
    }
  }

  /** Ends the processes. */
  end(): void {
    for (const peer of this.peers.values()) peer.end();
    this.peers.clear();
  }
}
