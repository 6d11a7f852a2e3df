/** Line charts as SVG text: inside a page, whose style sheet gives the colours, or as a file of their own. */

/** A line of a chart: points (x, y) from left to right. */
export interface Series {
  label: string;
  /** Class of the style sheet: its colour. */
  style: string;
  points: readonly (readonly [number, number])[];
  /** Circles at the points as well. */
  dots: boolean;
}

const width = 880;
const height = 360;
const margin = { left: 56, right: 132, top: 16, bottom: 44 };

/** At most `count` round numbers that span [low, high]. */
function ticks(low: number, high: number, count: number): number[] {
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= rough)!;
  const found: number[] = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++)
    found.push(Number((i * step).toPrecision(12)));
  return found;
}

/** A text for HTML or SVG, in elements and attributes. */
export const escapeHtml = (text: string): string => text.replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);

/** What a chart says, and how its axes go. */
export interface Labels {
  title: string;
  x: string;
  y: string;
  /** Whether x goes by doublings, with a tick at every point of the first series. */
  doublings?: boolean;
  /** Whether y starts at 0; near the smallest value when left out. */
  fromZero?: boolean;
}

/** The chart for a page: every series has at least one point. */
export function lineChart(series: readonly Series[], labels: Labels): string {
  const all = series.flatMap(({ points }) => points);
  const place = labels.doublings ? Math.log2 : (x: number) => x;
  const [xLow, xHigh] = extent(all.map(([x]) => place(x)));
  const [yLow, yHigh] = extent(all.map(([, y]) => y));
  const yMin = labels.fromZero ? 0 : Math.max(0, yLow - 0.05 * (yHigh - yLow));
  const px = (x: number) => margin.left + ((place(x) - xLow) / (xHigh - xLow)) * (width - margin.left - margin.right);
  const py = (y: number) =>
    height - margin.bottom - ((y - yMin) / (yHigh - yMin)) * (height - margin.top - margin.bottom);
  const right = width - margin.right;
  const parts: string[] = [];
  for (const y of ticks(yMin, yHigh, 6))
    parts.push(
      `<line class="grid" x1="${margin.left}" x2="${right}" y1="${at(py(y))}" y2="${at(py(y))}"/>`,
      `<text class="tick" x="${margin.left - 8}" y="${at(py(y) + 4)}" text-anchor="end">${y}</text>`,
    );
  for (const x of labels.doublings ? series[0]!.points.map(([x]) => x) : ticks(xLow, xHigh, 8))
    parts.push(
      `<text class="tick" x="${at(px(x))}" y="${height - margin.bottom + 20}" text-anchor="middle">${labels.doublings ? x : short(x)}</text>`,
    );
  parts.push(
    `<text class="axis" x="${(margin.left + right) / 2}" y="${height - 6}" text-anchor="middle">${escapeHtml(labels.x)}</text>`,
    `<text class="axis" transform="translate(14 ${height / 2}) rotate(-90)" text-anchor="middle">${escapeHtml(labels.y)}</text>`,
  );
  const ends = [...series].sort((a, b) => py(a.points.at(-1)![1]) - py(b.points.at(-1)![1]));
  const bottoms = apart(ends.map(({ points }) => py(points.at(-1)![1]) + 4));
  for (const [i, { label, style, points, dots }] of ends.entries()) {
    const path = points.map(([x, y], i) => `${i ? 'L' : 'M'}${at(px(x))} ${at(py(y))}`).join('');
    parts.push(`<path class="line ${style}" d="${path}"/>`);
    if (dots)
      for (const [x, y] of points)
        parts.push(
          `<circle class="dot ${style}" cx="${at(px(x))}" cy="${at(py(y))}" r="4"><title>${x}: ${y.toFixed(3)}</title></circle>`,
        );
    const [x, y] = points.at(-1)!;
    parts.push(
      `<text class="end ${style}" x="${at(px(x) + 10)}" y="${at(bottoms[i]!)}">${escapeHtml(label)}` +
        `<tspan x="${at(px(x) + 10)}" dy="15">${y.toFixed(y < 1000 ? 2 : 0)}</tspan></text>`,
    );
  }
  return `<svg viewBox="0 0 ${width} ${height}" role="img" aria-label="${escapeHtml(labels.title)}">${parts.join('')}</svg>`;
}

const at = (x: number): string => String(Math.round(x * 10) / 10);

/** 1500000 as "1.5M". */
const short = (x: number): string => {
  const unit = [1e9, 1e6, 1e3].findIndex((size) => Math.abs(x) >= Math.max(size, 1e4));
  return unit < 0 ? String(x) : `${Number((x / [1e9, 1e6, 1e3][unit]!).toPrecision(12))}${'GMk'[unit]}`;
};

/** Rising heights of labels of two lines, moved apart and kept inside the picture as far as they fit. */
function apart(wanted: readonly number[]): number[] {
  const placed: number[] = [];
  for (const y of wanted) placed.push(Math.max(y, (placed.at(-1) ?? Number.NEGATIVE_INFINITY) + LABEL));
  for (let i = placed.length - 1, limit = height - LABEL / 2; i >= 0; i--, limit -= LABEL)
    placed[i] = Math.min(placed[i]!, Math.max(limit, 12));
  return placed;
}

const LABEL = 32;

/** Told apart in light and dark, and by eyes that see fewer colours. */
const colours = ['#2563eb', '#d97706', '#059669', '#c026d3', '#64748b', '#dc2626', '#0891b2', '#a16207'];

/** The chart as an SVG file with colours of its own; series beyond the eighth share the first ones'. */
export function chartFile(series: readonly Omit<Series, 'style'>[], labels: Labels): string {
  const styled = series.map((one, i) => ({ ...one, style: `c${i % colours.length}` }));
  const rules = colours.map((c, i) => `.line.c${i},.dot.c${i}{stroke:${c}}.end.c${i}{fill:${c}}`).join('');
  const style =
    '<style>.grid{stroke:#8884}text{font:12px system-ui,sans-serif;fill:#777}.line{fill:none;stroke-width:2}' +
    `.dot{fill:#fff;stroke-width:1.5}${rules}</style>`;
  return lineChart(styled, labels).replace(/<svg ([^>]*)>/, `<svg xmlns="http://www.w3.org/2000/svg" $1>${style}`);
}

/** Smallest and largest, apart from each other even for one value. */
function extent(values: readonly number[]): [number, number] {
  const low = Math.min(...values);
  const high = Math.max(...values);
  return high > low ? [low, high] : [low, low + 1];
}
