/** attention in plain float64 loops, one query row at a time: the definition. Formulas: attention.ts. */
import { dropoutFactor } from '../../util/philox.ts';

type Values = Float64Array;

/** The arguments that forward and backward share. */
export interface AttentionArrays {
  q: Values;
  k: Values;
  v: Values;
  bias: Values | undefined;
  dense: Values | undefined;
  querySegments: Values | undefined;
  keySegments: Values | undefined;
  queryPositions: Values | undefined;
  keyPositions: Values | undefined;
  rng: Values | undefined;
}

/** The letters of attention.ts; P, E and G are 0 where there is no bias. */
export type AttentionSizes = Record<'B' | 'M' | 'N' | 'H' | 'D' | 'P' | 'E' | 'G', number>;
/** The scalars of attention.ts. */
export type AttentionScalars = Record<'scale' | 'causal' | 'queryOffset' | 'dropout' | 'site', number>;

interface Gradients {
  dq: Values;
  dk: Values;
  dv: Values;
  dbias: Values | undefined;
  ddense: Values | undefined;
}

/** One row of scores: (b, h, m) and what belongs to its keys. */
class Row {
  private readonly a: AttentionArrays;
  private readonly s: AttentionSizes;
  private readonly c: AttentionScalars;
  readonly b: number;
  readonly h: number;
  readonly m: number;

  constructor(a: AttentionArrays, s: AttentionSizes, c: AttentionScalars, [b, h, m]: [number, number, number]) {
    this.a = a;
    this.s = s;
    this.c = c;
    this.b = b;
    this.h = h;
    this.m = m;
  }

  /** Index of q[b,m,h,0]. */
  get query(): number {
    return ((this.b * this.s.M + this.m) * this.s.H + this.h) * this.s.D;
  }

  /** Index of k[b,n,h,0]. */
  key(n: number): number {
    return ((this.b * this.s.N + n) * this.s.H + this.h) * this.s.D;
  }

  biasIndex(n: number): number {
    const radius = (this.s.P - 1) / 2;
    const from = this.a.queryPositions?.[this.m] ?? this.m + this.c.queryOffset;
    const to = this.a.keyPositions?.[n] ?? n;
    return this.h * this.s.P + Math.max(-radius, Math.min(radius, to - from)) + radius;
  }

  denseIndex(n: number): number {
    const { E, G, M, N } = this.s;
    const plane = (E === 1 ? 0 : this.b) * G + (G === 1 ? 0 : this.h);
    return (plane * M + this.m) * N + n;
  }

  dropoutFactor(n: number): number {
    const { H, M, N } = this.s;
    const element = ((this.b * H + this.h) * M + this.m) * N + n;
    return this.a.rng && this.c.dropout > 0 ? dropoutFactor(this.a.rng, this.c.site, element, this.c.dropout) : 1;
  }

  sees(n: number): boolean {
    if (this.c.causal && n > this.m + this.c.queryOffset) return false;
    if (!this.a.keySegments) return true;
    const segment = this.a.keySegments[this.b * this.s.N + n]!;
    if (this.a.querySegments && this.a.querySegments[this.b * this.s.M + this.m] !== segment) return false;
    return segment >= 0;
  }

  scores(): Values {
    return Float64Array.from({ length: this.s.N }, (_, n) => {
      if (!this.sees(n)) return Number.NEGATIVE_INFINITY;
      let score = dot(this.a.q, this.query, this.a.k, this.key(n), this.s.D) * this.c.scale;
      if (this.a.bias) score += this.a.bias[this.biasIndex(n)]!;
      if (this.a.dense) score += this.a.dense[this.denseIndex(n)]!;
      return score;
    });
  }
}

function dot(x: Values, atX: number, y: Values, atY: number, length: number): number {
  let sum = 0;
  for (let i = 0; i < length; i++) sum += x[atX + i]! * y[atY + i]!;
  return sum;
}

function addScaled(y: Values, atY: number, factor: number, x: Values, atX: number, length: number): void {
  for (let i = 0; i < length; i++) y[atY + i]! += factor * x[atX + i]!;
}

function* rows(a: AttentionArrays, s: AttentionSizes, c: AttentionScalars): Generator<Row> {
  for (let b = 0; b < s.B; b++)
    for (let h = 0; h < s.H; h++) for (let m = 0; m < s.M; m++) yield new Row(a, s, c, [b, h, m]);
}

/** The forward pass: `out` [B,M,H,D] and `lse` [B,H,M], complete. */
export function attend(
  a: AttentionArrays & { out: Values; lse: Values },
  s: AttentionSizes,
  c: AttentionScalars,
): void {
  a.out.fill(0);
  let r = 0;
  for (const row of rows(a, s, c)) {
    const scores = row.scores();
    const top = scores.reduce((x, y) => Math.max(x, y), Number.NEGATIVE_INFINITY);
    const total = scores.reduce((sum, score) => sum + (score === top ? 1 : Math.exp(score - top)), 0);
    const seen = top > Number.NEGATIVE_INFINITY;
    a.lse[r] = seen ? top + Math.log(total) : top;
    scores.forEach((score, n) => {
      if (seen && score > Number.NEGATIVE_INFINITY)
        addScaled(a.out, row.query, Math.exp(score - a.lse[r]!) * row.dropoutFactor(n), a.v, row.key(n), s.D);
    });
    r++;
  }
}

/** The backward pass: complete gradients of the arguments, those of absent ones left out. */
export function attendBackward(
  a: AttentionArrays & { out: Values; lse: Values; dout: Values } & Gradients,
  s: AttentionSizes,
  c: AttentionScalars,
): void {
  for (const gradient of [a.dq, a.dk, a.dv, a.dbias, a.ddense]) gradient?.fill(0);
  let r = 0;
  for (const row of rows(a, s, c)) {
    const delta = dot(a.dout, row.query, a.out, row.query, s.D);
    const lse = a.lse[r++]!;
    row.scores().forEach((score, n) => {
      if (score === Number.NEGATIVE_INFINITY || lse === Number.NEGATIVE_INFINITY) return;
      const p = Math.exp(score - lse);
      const factor = row.dropoutFactor(n);
      addScaled(a.dv, row.key(n), p * factor, a.dout, row.query, s.D);
      const ds = p * (factor * dot(a.dout, row.query, a.v, row.key(n), s.D) - delta);
      addScaled(a.dq, row.query, ds * c.scale, a.k, row.key(n), s.D);
      addScaled(a.dk, row.key(n), ds * c.scale, a.q, row.query, s.D);
      if (a.dbias) a.dbias[row.biasIndex(n)]! += ds;
      if (a.ddense) a.ddense[row.denseIndex(n)]! += ds;
    });
  }
}
