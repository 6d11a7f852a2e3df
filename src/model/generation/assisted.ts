/**
 * Assisted decoding (Leviathan et al. 2022, arXiv:2211.17192): a small model drafts several tokens, the large one looks
 * at all of them in one step and keeps those that it would have written itself. The tokens are those of greedy decoding.
 */
import { logSoftmax } from '../../ops/log_softmax/log_softmax.ts';
import { argmax, topK } from '../../ops/top_k/top_k.ts';
import { dispose, scope } from '../../tensor/scope.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import { UsageError } from '../../util/errors.ts';
import type { T5Config } from '../config.ts';
import type { Seq2Seq } from '../seq2seq.ts';
import { likeliest } from './draw.ts';
import { breathe, type GenerateOutput, hostScores, keptScores, type Run, snapshot, stepAt, stepOn } from './run.ts';
import { type Decoding, endDecoding, startDecoding } from './step.ts';

/** A model that drafts: a T5ForConditionalGeneration with the same vocabulary. */
export interface Assistant {
  readonly config: T5Config;
  readonly seq2seq: Seq2Seq;
}

/** @throws UsageError for a call that cannot be assisted */
export function checkAssistant({ settings: s, source, c }: Run, assistant: Assistant): void {
  const fail = (what: string) => {
    throw new UsageError(`generate: assistant_model ${what}`);
  };
  const { config } = assistant;
  if (!config || !assistant.seq2seq) fail('is not a T5ForConditionalGeneration');
  if (config.vocab_size !== c.vocab_size)
    fail(`has vocab_size ${config.vocab_size}, expected the model's ${c.vocab_size}`);
  if (source.rows > 1) fail(`drafts for one source at a time, but there are ${source.rows}`);
  if (s.num_beams > 1 || s.do_sample || s.num_return_sequences > 1)
    fail('drafts for greedy decoding, expected num_beams 1 and do_sample false');
  for (const { position_encoding_type: positions } of [c, config])
    if (positions === 'fire') fail('needs positions that do not depend on the query: no fire');
}

export async function assisted(run: Run, assistant: Assistant): Promise<GenerateOutput> {
  const { settings: s, source, streamer } = run;
  const capacity = s.max_length;
  const tokens = [...run.prompts[0]!];
  const kept = keptScores(run);
  const drafter: Drafter = {
    p: assistant.seq2seq,
    pass: { config: assistant.config, checkpointing: false },
    known: 0,
  };
  let drafts = s.num_assistant_tokens;
  const most = s.num_assistant_tokens_schedule === 'constant' ? drafts : capacity;
  const target = startDecoding(run.p, source, { capacity, rows: most + 1, caches: 'shared' }, run.pass);
  let small: Decoding | undefined;
  let [drafted, accepted] = [0, 0];
  try {
    small = startDecoding(drafter.p, source, { capacity, rows: 1, caches: 'own' }, drafter.pass);
    streamer?.put([[...tokens]]);
    for (const [at, id] of tokens.slice(0, -1).entries())
      target.replay.release(stepOn(run, target, Int32Array.of(id), at));
    for (let done = false; !done; ) {
      const count = Math.min(drafts, most, capacity - tokens.length - 1);
      const proposal = await draft(run, drafter, small, tokens, count);
      const first = tokens.length - 1;
      const ids = Int32Array.of(tokens[first]!, ...proposal);
      const logits = stepAt(
        run,
        target,
        ids,
        ids.map((_, i) => first + i),
      );
      const right = await verify(run, logits, { tokens, proposal, kept }, (id) => {
        tokens.push(id);
        streamer?.put([[id]]);
        done = run.ended([tokens])[0]!;
        return !done;
      });
      target.replay.release(logits);
      drafter.known = Math.min(drafter.known, first + right + 1); // what comes after was drafted wrongly
      drafted += proposal.length;
      accepted += right;
      if (s.num_assistant_tokens_schedule !== 'constant')
        drafts = right === proposal.length ? drafts + 2 : Math.max(1, drafts - 1);
      await breathe(run);
    }
    streamer?.end();
    return {
      sequences: [tokens],
      ...(kept.scores && { scores: kept.scores }),
      ...(kept.logits && { logits: kept.logits }),
      assistant: { drafted, accepted, acceptance_rate: drafted > 0 ? accepted / drafted : 0 },
    };
  } finally {
    endDecoding(target);
    if (small) endDecoding(small);
  }
}

/** The small model; `known` tokens of the answer are in its caches. */
interface Drafter extends Pick<Run, 'p' | 'pass'> {
  known: number;
}

/** Up to `count` tokens that may come next; the last one may be a guess. */
async function draft(
  run: Run,
  drafter: Drafter,
  decoding: Decoding,
  known: number[],
  count: number,
): Promise<number[]> {
  const tokens = [...known];
  const least = run.settings.assistant_confidence_threshold;
  for (let sure = true; sure && tokens.length - known.length < count; ) {
    let logits: Tensor | undefined;
    for (; drafter.known < tokens.length; drafter.known++) {
      if (logits) decoding.replay.release(logits);
      logits = stepOn(drafter, decoding, Int32Array.of(tokens[drafter.known]!), drafter.known);
    }
    try {
      const { id, probability } = await guess(run, logits!, tokens);
      tokens.push(id);
      sure = probability >= least;
    } finally {
      decoding.replay.release(logits!);
    }
  }
  return tokens.slice(known.length);
}

async function guess(run: Run, logits: Tensor, tokens: number[]): Promise<{ id: number; probability: number }> {
  if (!run.process) {
    const { values, ids } = scope(() => topK(logSoftmax(logits), 1));
    const [[value], [id]] = [await values.read(), await ids.read()];
    dispose(values, ids);
    return { id: id!, probability: Math.exp(value!) };
  }
  const scores = run.process([tokens], await hostScores(logits, { log: false }));
  const id = likeliest(scores);
  return { id, probability: 1 / scores.reduce((sum, score) => sum + Math.exp(score - scores[id]!), 0) };
}

/**
 * Takes the large model's own tokens up to the first one that was not proposed, while `take` says to go on, and frees
 * the logits. Returns how many of the proposal were right.
 */
async function verify(
  run: Run,
  logits: Tensor,
  { tokens, proposal, kept }: { tokens: number[]; proposal: readonly number[]; kept: ReturnType<typeof keptScores> },
  take: (id: number) => boolean,
): Promise<number> {
  const plain = !run.process && !kept.scores && !kept.logits;
  const best = plain ? scope(() => argmax(logits)) : undefined;
  const ids = best && (await best.read());
  const all = plain ? undefined : await hostScores(logits, { log: false });
  if (best) dispose(best);
  const V = run.c.vocab_size;
  for (let i = 0; ; i++) {
    let id = ids?.[i];
    if (all) {
      const raw = all.subarray(i * V, (i + 1) * V);
      kept.logits?.push(snapshot(raw, 1));
      const scores = run.process ? run.process([tokens], raw) : raw;
      kept.scores?.push(snapshot(scores, 1));
      id = likeliest(scores);
    }
    const right = id === proposal[i];
    const more = take(id!);
    if (!right || !more) return right ? i + 1 : i;
  }
}
