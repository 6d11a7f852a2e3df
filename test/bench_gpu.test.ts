/** What the GPU benchmarks do without a GPU: choose cases, talk to peers, draw. */
import assert from 'node:assert/strict';
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { gpuCases } from '../src/bench/gpu.ts';
import { chosen } from '../src/bench/gpu_case.ts';
import { gpuKernelCases } from '../src/bench/gpu_kernels.ts';
import { GpuPeers } from '../src/bench/gpu_peers.ts';
import { writePlots } from '../src/bench/gpu_plots.ts';
import { UsageError } from '../src/util/errors.ts';

const root = mkdtempSync(join(tmpdir(), 'fat5-bench-gpu-test-'));
after(() => rmSync(root, { recursive: true }));

/** A "Python" that ignores the script and answers as it would. */
function python(name: string, body: string): string {
  const path = join(root, name);
  writeFileSync(path, `#!/bin/sh\n${body}\n`);
  chmodSync(path, 0o755);
  return path;
}
const ours = { case: 'x', milliseconds: 2, rate: 300, unit: 'GB/s', peakMegabytes: 1 };

test('every case has a name of its own, and is chosen by a part of it', () => {
  const all = [...gpuCases, ...gpuKernelCases()];
  assert.equal(new Set(all.map(({ name }) => name)).size, all.length);
  assert.deepEqual(chosen(all, []), all);
  assert.deepEqual(
    chosen(all, ['D128 causal backward', 'copy']).map(({ name }) => name.replace(/ B.* S/, ' S')),
    [
      ...['', ' f16'].flatMap((type) =>
        [256, 512, 1024, 2048, 4096, 8192, 16_384].map((S) => `attention S${S} D128 causal backward${type}`),
      ),
      'copy',
    ],
  );
});

test('a peer is asked part by part, for the same work as ours, once per process', async (t) => {
  t.mock.method(console, 'error', () => {});
  const started = join(root, 'started');
  const path = python(
    'good',
    `echo "$2" >> ${started}; echo a remark; echo '{"done": true}'
while read part; do
  echo "{\\"peer\\": \\"$part\\", \\"milliseconds\\": 6, \\"peakMegabytes\\": 5}"; echo '{"done": true}'
done`,
  );
  const work = { kind: 'rms_norm', rows: 4, width: 8 } as const;
  const peers = new GpuPeers(path, [
    { ...work, part: 'forward' },
    { ...work, part: 'backward' },
  ]);
  for (const part of ['forward', 'backward']) {
    await peers.prepare({ ...work, part });
    assert.deepEqual(await peers.measure({ ...work, part }, ours), [
      { peer: part, milliseconds: 6, rate: 100, peakMegabytes: 5 },
    ]);
  }
  peers.end();
  assert.equal(readFileSync(started, 'utf8'), `${JSON.stringify(work)}\n`);
});

test('a peer that ends is left out, the others go on', async (t) => {
  const said = t.mock.method(console, 'error', () => {});
  const path = python(
    'half',
    `case "$2" in *decode*) echo out of memory >&2; exit 1;; esac
echo '{"peer": "a", "error": "not here"}'; echo '{"done": true}'; read part; exit 1`,
  );
  const peers = new GpuPeers(path, [{ kind: 'encode' }, { kind: 'decode' }]);
  for (const kind of ['encode', 'decode'] as const) {
    await peers.prepare({ kind });
    assert.deepEqual(await peers.measure({ kind }, ours), []);
  }
  peers.end();
  const words = said.mock.calls.map(({ arguments: [text] }) => text as string).filter((text) => !/compiled/.test(text));
  assert.deepEqual(words.length, 3);
  assert.ok(words.some((text) => /decode.*out of memory/.test(text)));
  assert.ok(words.includes('{"kind":"encode"} a: not here'));
});

test('a Python that is not there or fails is said with its last words', async (t) => {
  t.mock.method(console, 'error', () => {});
  for (const [path, words] of [
    [join(root, 'none'), /ENOENT/],
    [python('bad', "echo 'no module named torch' >&2; exit 1"), /no module named torch/],
  ] as const) {
    const peers = new GpuPeers(path, [{ kind: 'decode' }]);
    await assert.rejects(
      peers.prepare({ kind: 'decode' }),
      (error) => error instanceof UsageError && words.test(error.message),
    );
    peers.end();
  }
});

test('plots show what was measured at two places or more, ours and the peers', () => {
  const found = [512, 1024].map((S, i) => ({
    ...ours,
    case: `attention B${16_384 / S} H32 S${S} D64 forward`,
    rate: 100 * (i + 1),
    peers: [{ peer: 'another', milliseconds: 1, rate: 50, peakMegabytes: 0 }],
  }));
  const alone = { ...ours, case: 'RMSNorm 16384 x 4096' };
  const files = writePlots([...found, alone], join(root, 'plots'));
  assert.deepEqual(files, [join(root, 'plots', 'attention_d64_forward.svg')]);
  const svg = readFileSync(files[0]!, 'utf8');
  for (const text of ['>fat5<', '200.00', '>another<', '50.00', 'TFLOP/s', '>1024<'])
    assert.ok(svg.includes(text), text);
});
