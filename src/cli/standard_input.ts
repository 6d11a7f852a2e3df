import { readTextLines, type TextLines } from '../data/read.ts';

/** Lines of standard input as they arrive; somebody at a terminal is told that they are waited for. @throws FormatError */
export async function* standardInputLines(command: string): AsyncGenerator<TextLines> {
  if (process.stdin.isTTY) console.error(`${command}: reads lines from here; Ctrl-D ends them`);
  yield* readTextLines('-');
}
