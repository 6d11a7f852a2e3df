/** The page that quickstart leaves: one HTML file without scripts or links to load. */
import type { EvaluationRecord, MetricsRecord, TrainRecord } from '../../train/metrics.ts';
import { duration } from '../../train/metrics.ts';
import { escapeHtml, lineChart } from '../../util/chart.ts';
import type { Score } from './sentences.ts';

export interface ReportData {
  /** Name and value, in groups. */
  facts: Record<string, readonly (readonly [string, string])[]>;
  records: readonly MetricsRecord[];
  /** Sentences with a mask, the word that was there, and what the model wrote. */
  fills: readonly { masked: string; word: string; answer: string }[];
  /** The words of all sentences that it was asked about. */
  words: Score;
  commands: readonly { command: string; why: string }[];
}

const styles = `
:root { color-scheme: light dark; --paper: #fbfaf8; --ink: #1d1f24; --quiet: #666a73; --rule: #e3e0da; --card: #ffffff;
  --one: #2f6db5; --two: #c2571a; }
@media (prefers-color-scheme: dark) { :root { --paper: #15171b; --ink: #e7e6e3; --quiet: #9a9da6; --rule: #2c3037;
  --card: #1c1f25; --one: #74b0f4; --two: #f0935a; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.55 system-ui, sans-serif; }
main { max-width: 60rem; margin: 0 auto; padding: 3rem 1.25rem 4rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .3rem; letter-spacing: -.015em; }
h2 { font-size: 1.1rem; margin: 2.6rem 0 .8rem; }
.lead, figcaption, .why { color: var(--quiet); }
.numbers { display: grid; grid-template-columns: repeat(auto-fit, minmax(9rem, 1fr)); gap: .8rem; margin: 1.8rem 0 0; }
.numbers div, figure, .fill { background: var(--card); border: 1px solid var(--rule); border-radius: .6rem; padding: .9rem 1.1rem; }
.numbers b { display: block; font-size: 1.5rem; font-variant-numeric: tabular-nums; letter-spacing: -.01em; }
.numbers span { color: var(--quiet); font-size: .88rem; }
figure { margin: 0; padding: 1rem; }
svg { width: 100%; height: auto; display: block; font: 13px system-ui, sans-serif; }
.grid { stroke: var(--rule); } .tick, .axis { fill: var(--quiet); }
.line { fill: none; stroke-width: 2; stroke-linejoin: round; } .line.one { stroke: var(--one); } .line.two { stroke: var(--two); }
.dot.one { fill: var(--one); } .dot.two { fill: var(--two); } .dot { stroke: var(--card); stroke-width: 1.5; }
.end.one { fill: var(--one); } .end.two { fill: var(--two); } .end { font-weight: 600; }
.fill { margin: 0 0 .7rem; } .fill p { margin: 0; } .fill .source { color: var(--quiet); font-size: .92rem; }
mark { background: none; color: var(--two); font-weight: 600; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
td, th { text-align: left; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid var(--rule); vertical-align: top; font-weight: 400; }
th { color: var(--quiet); width: 42%; }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(18rem, 1fr)); gap: 0 2.5rem; }
code { font: .88em ui-monospace, monospace; } pre { margin: 0 0 .2rem; overflow-x: auto; }
`;

/** The report as HTML. */
export function report({ facts, records, fills, words, commands }: ReportData): string {
  const train = records.filter((r): r is TrainRecord => r.kind === 'train');
  const held = records.filter((r): r is EvaluationRecord => r.kind === 'evaluation');
  const [first, last] = [held[0]!, held.at(-1)!];
  const end = train.at(-1)!;
  const chart = lineChart(
    [
      { label: 'training', style: 'one', dots: false, points: train.map((r) => [r.step, r.loss]) },
      { label: 'held out', style: 'two', dots: true, points: held.map((r) => [r.step, r.nll]) },
    ],
    { title: 'Loss against steps', x: 'step', y: 'nats per token' },
  );
  const numbers: [string, string][] = [
    [first.nll.toFixed(2), 'held-out NLL before'],
    [last.nll.toFixed(2), 'held-out NLL after'],
    [`${(100 * last.accuracy).toFixed(1)} %`, 'target tokens right'],
    [`${words.right} of ${words.of}`, 'masked words right'],
    [duration(end.seconds), 'minutes of training'],
    [Math.round(end.tokens_per_second).toLocaleString('en'), 'tokens a second'],
  ];
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>A T5, pre-trained here</title><style>${styles}</style></head><body><main>
<h1>A T5, pre-trained here</h1>
<p class="lead">From raw text to a model that fills in masked spans, on this machine’s processor.</p>
<div class="numbers">${numbers.map(([value, name]) => `<div><b>${value}</b><span>${name}</span></div>`).join('')}</div>
<h2>Loss</h2>
<figure>${chart}<figcaption>Cross entropy of the target tokens: masked ones and the masks’ own names. A model that knows nothing of the text would stay near
${first.nll.toFixed(1)}. The held-out set and its masks are always the same.</figcaption></figure>
<h2>The model’s own words</h2>
<p class="lead">One word of each sentence was masked. The sentences are from the held-out part, and which word was chosen before
the training. Of ${words.of} such words the model wrote ${words.right} exactly; always writing “${escapeHtml(words.frequent.word)}”, the most
frequent of them, would be right ${words.frequent.right} times. Evenly spread over all of them, these are ${fills.length}:</p>
${fills.map(fillCard).join('\n')}
<h2>What was made</h2>
<div class="facts">${Object.entries(facts).map(factTable).join('')}</div>
<h2>Go on</h2>
${commands.map(({ command, why }) => `<pre><code>${escapeHtml(command)}</code></pre><p class="why">${escapeHtml(why)}</p>`).join('\n')}
</main></body></html>
`;
}

function fillCard({ masked, word, answer }: ReportData['fills'][number]): string {
  const [before, after] = masked.split('<extra_id_0>').map(escapeHtml);
  const remark = answer === word ? 'right' : `the sentence has: ${escapeHtml(word)}`;
  return `<div class="fill"><p>${before}<mark>${escapeHtml(answer || '…')}</mark>${after}</p><p class="source">${remark}</p></div>`;
}

const factTable = ([group, rows]: [string, readonly (readonly [string, string])[]]): string =>
  `<table><caption hidden>${escapeHtml(group)}</caption>${rows
    .map(([name, value]) => `<tr><th scope="row">${escapeHtml(name)}</th><td>${escapeHtml(value)}</td></tr>`)
    .join('')}</table>`;
