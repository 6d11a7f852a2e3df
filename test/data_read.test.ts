/** Readers: formats, compressions, globs, and every way in which a file can be bad. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { expandSources, globExpression } from '../src/data/glob.ts';
import { type ReadOptions, readDocuments } from '../src/data/read.ts';
import { Xxh64 } from '../src/data/xxh64.ts';
import { FormatError, UsageError } from '../src/util/errors.ts';

const folder = mkdtempSync(join(tmpdir(), 'fat5-read-'));
after(() => rmSync(folder, { recursive: true }));

function file(name: string, content: string | Uint8Array): string {
  const path = join(folder, name);
  mkdirSync(join(path, '..'), { recursive: true });
  writeFileSync(path, content);
  return path;
}

async function read(path: string, options?: ReadOptions): Promise<string[]> {
  const found: string[] = [];
  for await (const document of readDocuments(path, options))
    found.push('bad' in document ? `${document.line}! ${document.bad}` : `${document.line}: ${document.text}`);
  return found;
}

const jsonl = '{"text":"un"}\n\n{"text":"deux","n":2}\r\n{"text":" "}\n{"text":"trois"}';

test('JSON lines give their text with its line number; blank lines and empty texts are no documents', async () => {
  assert.deepEqual(await read(file('a.jsonl', jsonl)), ['1: un', '3: deux', '5: trois']);
  assert.deepEqual(await read(file('b.ndjson', '\ufeff{"body":"x"}\n'), { field: 'body' }), ['1: x']);
});

test('a gzip file reads like the plain one, also with several members', async () => {
  const members = Buffer.concat([gzipSync(jsonl.slice(0, 20)), gzipSync(jsonl.slice(20))]);
  assert.deepEqual(await read(file('a.jsonl.gz', members)), ['1: un', '3: deux', '5: trois']);
});

test('a zstd file reads like the plain one, also with several frames', async () => {
  // Two frames of `zstd -q -c`: two lines, then one.
  const frames = Buffer.from(
    'KLUv/SQ0oQEAeyJ0ZXh0IjoicHJlbWllciBkb2N1bWVudCJ9CnsidGV4dCI6ImxlIGRldXhpw6htZSJ9CmnhEdUotS/9JCYxAQB7InRleHQi' +
      'OiJ0aGlyZCwgZnJvbSBhIHNlY29uZCBmcmFtZSJ9CqPaTwc=',
    'base64',
  );
  const lines = ['1: premier document', '2: le deuxième', '3: third, from a second frame'];
  assert.deepEqual(await read(file('a.jsonl.zst', frames)), lines);
  await assert.rejects(read(file('cut.jsonl.zst', frames.subarray(0, 60))), (error: Error) => {
    assert.ok(error instanceof FormatError);
    assert.match(error.message, /cut\.jsonl\.zst: the zstd stream is truncated/);
    return true;
  });
  for (let at = 0; at < frames.length; at++) {
    const damaged = Buffer.from(frames);
    damaged[at]! ^= 1 << (at % 8);
    // A flag without a meaning may change; the text may not.
    const text = await read(file('damaged.jsonl.zst', damaged)).catch((error: unknown) => {
      assert.ok(error instanceof FormatError, `byte ${at}: ${error}`);
      return lines;
    });
    assert.deepEqual(text, lines, `byte ${at}`);
  }
});

test('XXH64 gives the published hashes, however the bytes are cut', () => {
  const text = 'Nobody inspects the spammish repetition';
  for (const [input, expected] of [
    ['', 'ef46db3751d8e999'],
    ['a', 'd24ec4f1a98c6e5b'],
    ['abc', '44bc2cf5ad770999'],
    [text, 'fbcea83c8a378bf1'],
  ] as const)
    for (const cut of [1, 7, 32, 100]) {
      const hash = new Xxh64();
      for (let at = 0; at < input.length; at += cut) hash.update(Buffer.from(input.slice(at, at + cut)));
      assert.equal(hash.digest().toString(16), expected);
    }
});

test('a text file is one document, or one per line, or one per paragraph', async () => {
  const path = file('a.txt', 'one\ntwo\n \t\nthree\n\n\nfour');
  assert.deepEqual(await read(path), ['1: one\ntwo\n \t\nthree\n\n\nfour']);
  assert.deepEqual(await read(path, { document: 'line' }), ['1: one', '2: two', '4: three', '7: four']);
  assert.deepEqual(await read(path, { document: 'blank-line' }), ['1: one\ntwo', '4: three', '7: four']);
});

test('lines that straddle the pieces of a stream are put together', async () => {
  const texts = Array.from({ length: 9000 }, (_, i) => `${i} ${'é'.repeat(i % 97)}`);
  const path = file('long.txt.gz', gzipSync(texts.join('\n')));
  assert.deepEqual(
    await read(path, { document: 'line' }),
    texts.map((text, i) => `${i + 1}: ${text}`),
  );
});

test('a bad line names file and line, and is counted and left out with skip_bad', async () => {
  const bytes = Buffer.concat([
    Buffer.from('{"text":"ok"}\n{"text":\n{"txt":"x"}\n{"text":3}\n[1]\n{"text":"'),
    Buffer.from([0xff]),
    Buffer.from('"}\n{"text":"end"}\n'),
  ]);
  const path = file('bad.jsonl', bytes);
  await assert.rejects(read(path), (error: Error) => {
    assert.ok(error instanceof FormatError);
    assert.match(error.message, /bad\.jsonl:2: invalid JSON .*skip_bad/);
    return true;
  });
  const found = await read(path, { skip_bad: true });
  assert.match(found[1]!, /^2! invalid JSON/);
  assert.deepEqual(
    [found[0], ...found.slice(2)],
    [
      '1: ok',
      '3! no field "text", it has txt',
      '4! field "text" is not a string',
      '5! not a JSON object',
      '6! invalid UTF-8',
      '7: end',
    ],
  );
  await assert.rejects(read(file('bad.txt', Buffer.from([0x61, 0xc3]))), /bad\.txt:1: invalid UTF-8/);
});

test('a truncated gzip file is an error that names it, after the documents before the cut', async () => {
  const whole = gzipSync(Array.from({ length: 50000 }, (_, i) => `{"text":"document ${i * 7919}"}`).join('\n'));
  const path = file('cut.jsonl.gz', whole.subarray(0, whole.length >> 1));
  let documents = 0;
  const run = async () => {
    for await (const _ of readDocuments(path)) documents++;
  };
  await assert.rejects(run(), (error: Error) => {
    assert.ok(error instanceof FormatError);
    assert.match(error.message, /cut\.jsonl\.gz: the gzip stream is truncated after \d+ decompressed bytes/);
    return true;
  });
  assert.ok(documents > 10000 && documents < 50000);
  await assert.rejects(read(file('not.jsonl.gz', '{"text":"x"}\n')), /not\.jsonl\.gz: does not begin as a gzip file/);
});

test('standard input is read like a file, compressed or not, a document per line', () => {
  const module = new URL('../src/data/read.js', import.meta.url).href;
  const program = `import { readDocuments } from ${JSON.stringify(module)};
    const found = [];
    for await (const document of readDocuments('-', JSON.parse(process.argv[1]))) found.push(document);
    console.log(JSON.stringify(found));`;
  const run = (options: ReadOptions, input: string | Uint8Array): unknown => {
    const args = ['--input-type=module', '-e', program, JSON.stringify(options)];
    return JSON.parse(execFileSync(process.execPath, args, { input, encoding: 'utf8' }));
  };
  const lines = [
    { line: 1, text: 'un' },
    { line: 2, text: 'deux' },
  ];
  assert.deepEqual(run({}, 'un\ndeux\n'), lines);
  assert.deepEqual(run({ format: 'jsonl' }, gzipSync('{"text":"un"}\n{"text":"deux"}\n')), lines);
});

test('an unknown kind of file asks for a format', async () => {
  const path = file('a.dat', 'x\n');
  await assert.rejects(read(path), UsageError);
  assert.deepEqual(await read(path, { format: 'text' }), ['1: x']);
});

test('sources are files, folders and globs in a fixed order, each file once', () => {
  for (const name of ['s/b.txt', 's/a.jsonl.gz', 's/skip.bin', 's/deep/c.md', 's/deep/er/d.txt', 's/e[1].txt'])
    file(name, 'x');
  const found = (...sources: string[]) => expandSources(sources.map((s) => join(folder, s))).map(({ path }) => path);
  const paths = (...names: string[]) => names.map((name) => join(folder, name));
  const all = ['s/a.jsonl.gz', 's/b.txt', 's/deep/c.md', 's/deep/er/d.txt', 's/e[1].txt'];
  assert.deepEqual(found('s'), paths(...all));
  assert.deepEqual(found('s/skip.bin', 's/*.txt'), paths('s/skip.bin', 's/b.txt', 's/e[1].txt'));
  assert.deepEqual(
    found('s/**/*.{md,txt}', 's/b.txt'),
    paths('s/b.txt', 's/deep/c.md', 's/deep/er/d.txt', 's/e[1].txt'),
  );
  assert.deepEqual(found('s/e[1].txt'), paths('s/e[1].txt'));
  assert.throws(() => found('none.txt'), /none\.txt: not found/);
  assert.throws(() => found('s/*.parquet'), UsageError);
  assert.throws(() => found('s/deep/er/../../skip.bin', 'empty*'), UsageError);
  assert.throws(() => expandSources([]), UsageError);
});

test('globs match names as a shell does', () => {
  const matches = (glob: string, path: string) => globExpression(glob).test(path);
  assert.ok(matches('a/**/b?.txt', 'a/b1.txt') && matches('a/**/b?.txt', 'a/x/y/b2.txt'));
  assert.ok(!matches('a/*.txt', 'a/b/c.txt') && !matches('a.txt', 'abtxt') && !matches('[!a].md', 'a.md'));
  assert.ok(matches('[!a].md', 'b.md') && matches('x{1,2}.(z)', 'x2.(z)') && matches('a,b', 'a,b'));
});
