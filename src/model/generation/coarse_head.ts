/**
 * Greedy tokens on the CPU: the head is what a step reads most of, and its copy in int8 is a quarter of it. The tokens are
 * those of the float32 head (ops/likeliest).
 */
import { Coarse } from '../../ops/likeliest/likeliest.ts';
import { headScale } from '../seq2seq.ts';
import type { Run } from './run.ts';
import type { Decoding, Head } from './step.ts';

/** Tokens that a decoding writes with the head itself, and those that must be left, before a copy is worth making. */
const FIRST = 3;
const LEFT = 12;

/** Whether a call wants nothing but the likeliest tokens. */
export const isPlainlyGreedy = ({ process, settings: s }: Run): boolean =>
  !process && !s.do_sample && !(s.return_dict_in_generate && (s.output_scores || s.output_logits));

/**
 * What makes tokens i32 [1,R] of a decoder's states, after `written` tokens; undefined where logits have to. Only weights that
 * lie in their file have a copy: others may be trained.
 */
export function coarseHead({ p, c }: Run, { capacity, place }: Decoding, written: number): Head | undefined {
  const { head, parameters } = p;
  if (head.backend.name !== 'cpu' || head.dtype !== 'f32' || !parameters.isLentTensor(head)) return undefined;
  if (!head.derived && (written < FIRST || capacity - place < LEFT)) return undefined;
  if (!head.derived) {
    const copy = new Coarse(head);
    copy.fill(head);
    head.derived = copy;
  }
  const copy = head.derived as Coarse;
  return (states) => copy.likeliest(states, head, headScale(c));
}
