import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { sentencesOf } from '../src/cli/quickstart/corpus.ts';
import { maskedSentences, question, score, spread } from '../src/cli/quickstart/sentences.ts';
import { writeTexts } from '../src/eval/texts.ts';
import type { T5ForConditionalGeneration } from '../src/model/t5.ts';
import { trainTokenizer } from '../src/tokenizer/train.ts';

const folder = mkdtempSync(join(tmpdir(), 'fat5-quickstart-'));
after(() => rmSync(folder, { recursive: true }));

describe('a text with masks', () => {
  test('reaches the model without loose spaces before its masks', async () => {
    const texts = ['the first words of the first text', 'the words that follow the first words'];
    const { tokenizer } = await trainTokenizer({ vocab_size: 330, sentinels: 4 }, texts);
    const rows: (readonly (readonly number[])[])[] = [];
    const model = {
      config: { pad_token_id: tokenizer.pad_token_id },
      generate: async ({ input_ids }: { input_ids: number[][] }) => rows.push(input_ids) && input_ids,
    } as unknown as T5ForConditionalGeneration;
    await writeTexts(model, tokenizer, ['the <extra_id_0> first <extra_id_1>'], { max_new_tokens: 1, mode: 'R' });
    const expected = ['[R]', ...pieces('the'), '<extra_id_0>', ...pieces(' first'), '<extra_id_1>', '</s>'];
    assert.deepEqual(
      rows[0]![0]!.filter((id) => id !== tokenizer.pad_token_id).map((id) => tokenizer.id_to_token(id)),
      expected,
    );
    function pieces(text: string): (string | undefined)[] {
      return [...tokenizer.encode(text, { add_special_tokens: false })].map((id) => tokenizer.id_to_token(id));
    }
  });
});

describe('sentences of quickstart', () => {
  test('are cut at the ends of sentences and lines, without scraps', () => {
    assert.deepEqual(
      sentencesOf('A first sentence is here. Is the second one here? Yes.\n- an item of some list\n\n'),
      ['A first sentence is here.', 'Is the second one here?', '- an item of some list'],
    );
  });

  test('are masked at one plain word, the same one every time, and each asked about once', () => {
    const path = join(folder, 'held.jsonl');
    const sentence = 'Returns the first element that is a descendant of this node, if any.';
    const texts = [
      sentence,
      sentence,
      'Too short.',
      'The `x`, `y`, `z`, `u`, `v`, `w` of the `t`, `s` and `r` are in `q`.',
    ];
    writeFileSync(path, texts.map((text) => JSON.stringify({ text })).join('\n'));
    const [only, ...rest] = maskedSentences(path, 10);
    assert.equal(rest.length, 0);
    assert.equal(only!.masked.replace('<extra_id_0>', only!.word), sentence);
    assert.match(only!.word, /^[a-z]+$/);
    assert.deepEqual(maskedSentences(path, 10), [only]);
    assert.equal(question(only!), `${only!.masked} <extra_id_1>`);
  });

  test('are spread evenly', () => {
    assert.deepEqual(spread(10, 3), [1, 5, 8]);
    assert.deepEqual(spread(2, 5), [0, 1]);
    assert.deepEqual(spread(0, 5), []);
  });

  test('score exact words beside the most frequent one', () => {
    const words = ['the', 'of', 'the', 'node'].map((word) => ({ masked: '', word }));
    assert.deepEqual(score(words, ['the', 'of', 'a', 'nodes']), {
      right: 2,
      of: 4,
      frequent: { word: 'the', right: 2 },
    });
    assert.deepEqual(score([], []), { right: 0, of: 0, frequent: { word: '', right: 0 } });
  });
});
