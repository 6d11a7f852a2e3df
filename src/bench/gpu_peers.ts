/**
 * Other programs on the same GPU, right after ours: scripts/bench_gpu_peers.py in a Python that has PyTorch. Each piece of work has
 * a process of its own, which compiles before anything is measured and then waits for its turn.
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
/** Cores that one process needs while it compiles. */
const CORES_EACH = 2;

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
  private readonly peers = new Map<string, Peer>();
  private readonly preparing: Promise<unknown>;

  /** Starts as many processes at once as the machine has cores for. */
  constructor(python: string, works: readonly PeerWork[]) {
    const waiting = [...new Set(works.map(keyOf))];
    const worker = async () => {
      for (let next = waiting.shift(); next; next = waiting.shift()) {
        const peer = new Peer(python, next);
        this.peers.set(next, peer);
        await peer.answers();
      }
    };
    const workers = Math.max(1, Math.floor(availableParallelism() / CORES_EACH));
    this.preparing = Promise.all(Array.from({ length: workers }, worker));
    this.preparing.catch(() => {}); // `prepared` says it
  }

  /** Waits until every process has compiled. @throws UsageError if one ended */
  async prepared(): Promise<void> {
    await this.preparing;
  }

  /** The peers' figures for a case; its rate is of the same work as ours. */
  async measure(work: PeerWork, ours: Measurement): Promise<PeerMeasurement[]> {
    const peer = this.peers.get(keyOf(work))!;
    peer.ask(work.part ?? '');
    return (await peer.answers()).flatMap(({ peer: name, milliseconds, peakMegabytes = 0, error }) => {
      if (error !== undefined) console.error(`${ours.case}: ${name}: ${error}`);
      if (name === undefined || milliseconds === undefined) return [];
      const rate = (ours.rate * ours.milliseconds) / milliseconds;
      return [{ peer: name, milliseconds, rate, peakMegabytes }];
    });
  }

  /** Ends the processes. */
  end(): void {
    for (const peer of this.peers.values()) peer.end();
  }
}
