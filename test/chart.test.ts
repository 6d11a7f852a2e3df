import assert from 'node:assert/strict';
import { test } from 'node:test';
import { chartFile } from '../src/util/chart.ts';

const labels = { title: 'score <against> tokens', x: 'tokens seen', y: 'score' };
const line = (label: string, ...ys: number[]) => ({
  label,
  dots: true,
  points: ys.map((y, i) => [i * 2_000_000, y] as const),
});

test('a chart file stands alone: every point a circle at its place, axes in short numbers, text escaped', () => {
  const svg = chartFile([line('a&b', 0, 50, 100)], labels);
  assert.match(
    svg,
    /^<svg xmlns="http:\/\/www.w3.org\/2000\/svg" [^>]*aria-label="score &#60;against&#62; tokens"><style>/,
  );
  const circles = [...svg.matchAll(/<circle class="dot c0" cx="([\d.]+)" cy="([\d.]+)"/g)].map(([, x, y]) => [
    Number(x),
    Number(y),
  ]);
  assert.deepEqual(circles, [
    [56, 316],
    [402, 166],
    [748, 16],
  ]);
  for (const x of ['0', '500k', '1M', '4M']) assert.ok(svg.includes(`text-anchor="middle">${x}</text>`), x);
  assert.match(svg, /a&#38;b<tspan[^>]*>100\.00</);
});

test('labels of lines that end together stay apart and inside the picture', () => {
  const svg = chartFile(
    Array.from({ length: 6 }, (_, i) => line(`l${i}`, 50, i / 100)),
    labels,
  );
  const heights = [...svg.matchAll(/class="end c\d" x="[\d.]+" y="([\d.]+)"/g)].map(([, y]) => Number(y));
  assert.equal(heights.length, 6);
  for (let i = 1; i < heights.length; i++) assert.ok(heights[i]! - heights[i - 1]! >= 32, `${heights}`);
  assert.ok(heights.at(-1)! <= 344, `${heights}`);
});

test('by doublings, points lie evenly and have a tick each; from zero, heights are in proportion', () => {
  const points = [8192, 16_384, 32_768].map((x, i) => [x, i + 1] as const);
  const svg = chartFile([{ label: 'a', dots: false, points }], { ...labels, doublings: true, fromZero: true });
  assert.match(svg, /<path class="line c0" d="M56 216L402 116L748 16"/);
  for (const [x] of points) assert.ok(svg.includes(`>${x}</text>`), `${x}`);
});
