/** Which parameters are trained, and how fast, by their names. */
import type { T5Config } from '../model/config.ts';
import { UsageError } from '../util/errors.ts';

/**
 * Says whether a parameter's name has one of these patterns: whole parts of it, with "*" for any part or a piece of one,
 * "0-5" for a number in that range. "encoder.block.0-5", "shared", "*norm".
 * @param names of all parameters: every pattern must have at least one @throws UsageError
 */
export function namedBy(patterns: readonly string[], names: readonly string[]): (name: string) => boolean {
  const expressions = patterns.map((pattern) => {
    const expression = new RegExp(`(^|\\.)${pattern.split('.').map(partExpression).join('\\.')}(\\.|$)`);
    if (!names.some((name) => expression.test(name)))
      throw new UsageError(
        `train.frozen: "${pattern}" names no parameter, expected parts of names such as "${names[0]}" or ` +
          `"${names.find((name) => name.includes('.block.')) ?? names.at(-1)}", with "0-5" for a range of numbers`,
      );
    return expression;
  });
  return (name) => expressions.some((expression) => expression.test(name));
}

function partExpression(part: string): string {
  const [, from, to] = /^(\d+)-(\d+)$/.exec(part) ?? [];
  if (from !== undefined) {
    const [first, last] = [Number(from), Number(to)];
    return `(${Array.from({ length: Math.max(0, last - first + 1) }, (_, i) => first + i).join('|')})`;
  }
  return part.replace(/[\\^$+?()[\]{}|]/g, '\\$&').replaceAll('*', '[^.]*');
}

/**
 * What learning rates are multiplied by: decay once for the last block of a stack, once more for each block below it and
 * for the embeddings; 1 for what lies behind the blocks. Source: Clark et al. 2020, arXiv:2003.10555, section 3.1.
 */
export function layerDecay(decay: number, config: T5Config, names: readonly string[]): (name: string) => number {
  const blocks = { encoder: config.num_layers, decoder: config.num_decoder_layers };
  const hasDecoder = names.some((name) => /(^|\.)decoder\./.test(name));
  const deepest = Math.max(blocks.encoder, hasDecoder ? blocks.decoder : 0);
  return (name) => {
    const [, stack, block] = /(encoder|decoder)\.block\.(\d+)\./.exec(name) ?? [];
    if (stack !== undefined) return decay ** (blocks[stack as keyof typeof blocks] - Number(block));
    return /(^|\.)(shared|embed_tokens)\./.test(name) ? decay ** (deepest + 1) : 1;
  };
}
