/** Plots of measurements on a GPU: attention by length, cross entropy and RMSNorm by width, time and memory; ours and the peers'. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { chartFile, type Labels } from '../util/chart.ts';
import type { Measurement } from './bench.ts';
import { plotted as attention, attentionName, plottedShape } from './gpu_attention.ts';
import { plotted as kernels } from './gpu_kernels.ts';

interface Plot {
  file: string;
  labels: Labels;
  /** Cases by their place on the x axis, ours with a line of its own where `label` is given. */
  points: readonly { x: number; name: string; label?: string }[];
  value: (found: { milliseconds: number; rate: number; peakMegabytes: number }) => number;
}

const OURS = 'fat5';

/** Writes the plots whose cases were measured, as SVG files in a folder; returns their paths. */
export function writePlots(found: readonly Measurement[], folder: string): string[] {
  const byName = new Map(found.map((measurement) => [measurement.case, measurement]));
  mkdirSync(folder, { recursive: true });
  return [...attentionPlots(), ...kernelPlots()].flatMap(({ file, labels, points, value }) => {
    const lines = new Map<string, [number, number][]>();
    for (const { x, name, label = OURS } of points) {
      const measurement = byName.get(name);
      if (!measurement) continue;
      for (const { peer, ...figures } of [{ peer: label, ...measurement }, ...(measurement.peers ?? [])]) {
        const y = value(figures);
        if (y > 0) lines.set(peer, [...(lines.get(peer) ?? []), [x, y]]);
      }
    }
    if ((lines.get(OURS)?.length ?? 0) < 2) return [];
    const series = [...lines].map(([label, line]) => ({ label, points: line, dots: true }));
    const path = join(folder, file);
    writeFileSync(path, chartFile(series, labels));
    return [path];
  });
}

const attentionPlots = (): Plot[] =>
  attention.widths.flatMap((D) =>
    attention.causal.flatMap((causal) =>
      (['forward', 'backward', 'memory'] as const).map((what) => ({
        file: `attention_d${D}${causal ? '_causal' : ''}_${what}.svg`,
        labels: {
          title: `Attention with T5's bias, ${what}, head width ${D}${causal ? ', causal' : ''}`,
          ...{ x: 'length', y: what === 'memory' ? 'MB at most' : 'TFLOP/s', doublings: true, fromZero: true },
        },
        points: (['bf16', 'f16'] as const).flatMap((type) =>
          attention.lengths.map((S) => ({
            x: S,
            // A backward pass holds what the forward pass gave it.
            name: attentionName(plottedShape(S, D, causal), what === 'forward' ? what : 'backward', type),
            ...(type === 'f16' && { label: `${OURS}, float16` }),
          })),
        ),
        value: ({ rate, peakMegabytes }) => (what === 'memory' ? peakMegabytes : rate),
      })),
    ),
  );

const kernelPlots = (): Plot[] => {
  const works = [
    { name: 'RMSNorm', file: 'rms_norm', x: 'width', sizes: kernels.widths },
    { name: 'RMSNorm backward', file: 'rms_norm_backward', x: 'width', sizes: kernels.widths },
    {
      ...{ name: 'cross entropy and its gradient', file: 'cross_entropy' },
      ...{ x: 'vocabulary', sizes: kernels.vocabularies },
    },
  ];
  return works.flatMap(({ name, file, x, sizes }) => {
    const points = sizes.map((size) => ({ x: size, name: `${name} ${kernels.rows} x ${size}` }));
    const title = `${name}, ${kernels.rows.toLocaleString('en')} rows`;
    const common = { x, doublings: true, fromZero: true };
    return [
      {
        ...{ file: `${file}_time.svg`, points, labels: { title, y: 'milliseconds', ...common } },
        value: ({ milliseconds }: { milliseconds: number }) => milliseconds,
      },
      {
        ...{ file: `${file}_memory.svg`, points, labels: { title, y: 'MB at most', ...common } },
        value: ({ peakMegabytes }: { peakMegabytes: number }) => peakMegabytes,
      },
    ];
  });
};
