/** Downloads from a server on this machine that answers as the hub does, and drops connections half way. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import {
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, beforeEach, describe, test } from 'node:test';
import { type HubProgress, resolveModel } from '../src/hub/hub.ts';
import { T5ForConditionalGeneration } from '../src/model/t5.ts';
import { AutoTokenizer } from '../src/tokenizer/auto_tokenizer.ts';
import { trainTokenizer } from '../src/tokenizer/train.ts';
import { FormatError, UsageError } from '../src/util/errors.ts';
import { published } from './model_configs.ts';

const root = mkdtempSync(join(tmpdir(), 'fat5-hub-'));
const commit = 'a'.repeat(40);
const files = new Map<string, Buffer>();
let requests: string[] = [];
/** Bytes after which the server hangs up on the weights, one entry a request. */
let drops: number[] = [];
let corrupt = false;
let wantsToken: string | undefined;

const gitHash = (bytes: Buffer) => createHash('sha1').update(`blob ${bytes.length}\0`).update(bytes).digest('hex');
const sha256 = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex');
const isLarge = (path: string) => path.endsWith('.safetensors');

function answer(request: IncomingMessage, response: ServerResponse): void {
  const url = new URL(request.url!, 'http://hub');
  const range = /^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1];
  requests.push(`${url.pathname}${range ? ` from ${range}` : ''}`);
  const json = (status: number, value: unknown) =>
    response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(value));
  if (wantsToken && request.headers.authorization !== `Bearer ${wantsToken}`) return void json(401, { error: 'who?' });
  if (/^\/api\/models\/org\/tiny(\/revision\/[^/]+)?$/.test(url.pathname))
    return void json(200, {
      _id: '1',
      id: 'org/tiny',
      sha: commit,
      gated: false,
      private: false,
      downloads: 0,
      likes: 0,
      lastModified: '2026-01-01',
    });
  if (url.pathname.startsWith(`/api/models/org/tiny/tree/${commit}`)) {
    const entries = [...files].map(([path, bytes]) => ({
      type: 'file',
      path,
      size: bytes.length,
      oid: gitHash(bytes),
      ...(isLarge(path) && { lfs: { oid: sha256(bytes), size: bytes.length, pointerSize: 130 } }),
    }));
    return void json(200, entries);
  }
  const path = new RegExp(`^/org/tiny/resolve/${commit}/(.+)$`).exec(url.pathname)?.[1];
  const bytes = path && files.get(path);
  if (!bytes) return void json(404, { error: 'Repository not found' });
  const from = Number(range ?? 0);
  const rest = Buffer.from(bytes.subarray(from));
  if (corrupt && isLarge(path)) rest[rest.length >> 1]! ^= 1;
  response.writeHead(range ? 206 : 200, { 'content-length': String(rest.length) });
  const drop = isLarge(path) ? drops.shift() : undefined;
  if (drop === undefined) return void response.end(rest);
  response.write(rest.subarray(0, drop), () => setTimeout(() => response.destroy(), 20));
}

const server = createServer(answer);
let cache: string;
const saved = { ...process.env };

before(async () => {
  const model = T5ForConditionalGeneration.from_config(published.v1_1, { device: 'cpu', seed: 2 });
  await model.save_pretrained(join(root, 'model'));
  model.dispose();
  for (const name of readdirSync(join(root, 'model'))) files.set(name, readFileSync(join(root, 'model', name)));
  files.set('README.md', Buffer.from('not needed'));
  files.set('pytorch_model.bin', Buffer.from('not needed, there is a better one'));
  await new Promise<void>((ready) => server.listen(0, '127.0.0.1', ready));
  process.env.HF_ENDPOINT = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  delete process.env.HF_HUB_OFFLINE;
  process.env.HF_TOKEN = 'hf_secret';
});
after(() => {
  server.close();
  server.closeAllConnections();
  process.env = saved;
  rmSync(root, { recursive: true });
});
beforeEach(() => {
  cache = mkdtempSync(join(root, 'cache-'));
  [requests, drops, corrupt, wantsToken] = [[], [], false, undefined];
});

const weights = () => files.get('model.safetensors')!;
const downloads = () => requests.filter((path) => path.includes('/resolve/'));

describe('a model named as on the hub', () => {
  test("arrives in Python's cache layout and loads", async () => {
    const folder = await resolveModel('org/tiny', { cache_dir: cache });
    assert.equal(folder, join(cache, 'models--org--tiny', 'snapshots', commit));
    assert.deepEqual(readdirSync(folder).sort(), ['config.json', 'model.safetensors']);
    assert.ok(lstatSync(join(folder, 'model.safetensors')).isSymbolicLink());
    assert.deepEqual(
      readdirSync(join(cache, 'models--org--tiny', 'blobs')).sort(),
      [gitHash(files.get('config.json')!), sha256(weights())].sort(),
    );
    assert.equal(readFileSync(join(cache, 'models--org--tiny', 'refs', 'main'), 'utf8'), commit);
    const model = await T5ForConditionalGeneration.from_pretrained('org/tiny', { device: 'cpu', cache_dir: cache });
    assert.equal((await model.forward({ input_ids: [[5, 1]], labels: [[6, 1]] })).logits.dims[1], 2);
    model.dispose();
    assert.equal(downloads().length, 2, 'the second time nothing is downloaded');
  });

  test('goes on where a dropped connection left it, also in another process', async () => {
    drops = [100, 1000, 50];
    await resolveModel('org/tiny', { cache_dir: cache });
    const parts = downloads().filter((path) => path.includes('safetensors'));
    assert.equal(parts.length, 4);
    assert.deepEqual(
      parts.map((path) => Number(/from (\d+)/.exec(path)?.[1] ?? 0)),
      [0, 100, 1100, 1150],
    );
    assert.deepEqual(readFileSync(join(cache, 'models--org--tiny/snapshots', commit, 'model.safetensors')), weights());
  });

  test('keeps what has arrived when the connection never holds', async () => {
    drops = [100, 0, 0, 0, 0];
    await assert.rejects(
      resolveModel('org/tiny', { cache_dir: cache }),
      (error: Error) =>
        error instanceof UsageError && /broke off 5 times .* what has arrived is kept/.test(error.message),
    );
    await resolveModel('org/tiny', { cache_dir: cache });
    assert.ok(downloads().at(-1)!.endsWith('from 100'), downloads().at(-1));
  });

  test('is refused with the wrong checksum, and nothing of it stays', async () => {
    corrupt = true;
    await assert.rejects(
      resolveModel('org/tiny', { cache_dir: cache }),
      (error: Error) =>
        error instanceof FormatError && /model\.safetensors: what arrived has SHA-256/.test(error.message),
    );
    assert.ok(!existsSync(join(cache, 'models--org--tiny', 'blobs', sha256(weights()))));
    assert.deepEqual(
      readdirSync(join(cache, 'models--org--tiny', 'blobs')).filter((name) => name.endsWith('.incomplete')),
      [],
    );
  });

  test('is found without the network once it is there', async () => {
    await assert.rejects(
      resolveModel('org/tiny', { cache_dir: cache, local_files_only: true }),
      /org\/tiny: not in .*, and the network may not be used/,
    );
    assert.deepEqual(requests, []);
    const folder = await resolveModel('org/tiny', { cache_dir: cache });
    requests = [];
    assert.equal(await resolveModel('org/tiny', { cache_dir: cache, local_files_only: true }), folder);
    process.env.HF_HUB_OFFLINE = '1';
    assert.equal(await resolveModel('org/tiny', { cache_dir: cache }), folder);
    delete process.env.HF_HUB_OFFLINE;
    assert.deepEqual(requests, []);
    const endpoint = process.env.HF_ENDPOINT;
    process.env.HF_ENDPOINT = 'http://127.0.0.1:9'; // nobody listens
    assert.equal(await resolveModel('org/tiny', { cache_dir: cache }), folder);
    await assert.rejects(resolveModel('org/else', { cache_dir: cache }), /no such folder, and .* cannot be reached/);
    process.env.HF_ENDPOINT = endpoint;
  });

  test('comes once for two that ask at the same time', async () => {
    const folders = await Promise.all([1, 2, 3].map(() => resolveModel('org/tiny', { cache_dir: cache })));
    assert.equal(new Set(folders).size, 1);
    assert.equal(downloads().length, 2);
    assert.deepEqual(readFileSync(join(folders[0]!, 'model.safetensors')), weights());
  });

  test('tells how far it is', async () => {
    const seen: HubProgress[] = [];
    await resolveModel('org/tiny', { cache_dir: cache, progress_callback: (progress) => seen.push(progress) });
    const last = seen.filter(({ file }) => file === 'model.safetensors').at(-1)!;
    assert.deepEqual(last, {
      status: 'done',
      name: 'org/tiny',
      file: 'model.safetensors',
      loaded: weights().length,
      total: weights().length,
    });
  });

  test('gives its tokenizer without its weights', async () => {
    const none = { cache_dir: cache, local_files_only: true };
    await assert.rejects(AutoTokenizer.from_pretrained('org/tiny', none), /org\/tiny: not in/);
    await assert.rejects(
      AutoTokenizer.from_pretrained('org/tiny', { cache_dir: cache }),
      /org\/tiny: has no tokenizer, expected tokenizer\.json or spiece\.model/,
    );
    const { tokenizer } = await trainTokenizer({ vocab_size: 300, sentinels: 2 }, ['a small text', 'another text']);
    tokenizer.save(join(root, 'tokenizer'));
    const own = readdirSync(join(root, 'tokenizer'));
    for (const name of own) files.set(name, readFileSync(join(root, 'tokenizer', name)));
    try {
      requests = [];
      const found = await AutoTokenizer.from_pretrained('org/tiny', { cache_dir: cache });
      assert.deepEqual(found.encode('a small text'), tokenizer.encode('a small text'));
      assert.deepEqual(
        downloads()
          .map((path) => path.split('/').at(-1))
          .sort(),
        own.sort(),
      );
      const again = await AutoTokenizer.from_pretrained('org/tiny', none);
      assert.equal(again.hash, tokenizer.hash);
      await assert.rejects(resolveModel('org/tiny', none), /only a part of it is in/);
      for (const one of [found, again, tokenizer]) one.dispose();
    } finally {
      for (const name of own) files.delete(name);
    }
  });

  test('needs the token that the hub asks for', async () => {
    wantsToken = 'hf_secret';
    await resolveModel('org/tiny', { cache_dir: cache });
    wantsToken = 'hf_other';
    await assert.rejects(
      resolveModel('org/tiny', { cache_dir: mkdtempSync(join(root, 'c-')) }),
      /a private or gated model needs a token in HF_TOKEN/,
    );
  });
});

test('what is neither folder nor model is one clear line', async () => {
  await assert.rejects(
    resolveModel(undefined as never),
    (e: Error) => e instanceof UsageError && /model: got undefined, expected a folder or a name/.test(e.message),
  );
  await assert.rejects(
    resolveModel('org/none', { cache_dir: cache }),
    /org\/none: .*no model of this name with revision "main"/,
  );
  await assert.rejects(
    resolveModel('./no/such/folder', { cache_dir: cache }),
    /not found, expected a folder or a name/,
  );
  mkdirSync(join(root, 'here'));
  writeFileSync(join(root, 'here/config.json'), '{}');
  assert.equal(await resolveModel(join(root, 'here')), join(root, 'here'));
});
