// The table of docs/generation.md from the settings' own descriptions: node scripts/generation_table.mjs
import { generationFields } from '../dist/src/model/generation/options.js';

export const generationTable = () =>
  [
    '| option | default | |',
    '|---|---|---|',
    ...Object.entries(generationFields).map(([name, field]) => {
      const value = field.def.defaultValue;
      return `| \`${name}\` | ${value === undefined ? '' : `\`${JSON.stringify(value)}\``} | ${field.description.replaceAll('|', '\\|')} |`;
    }),
  ].join('\n');

if (process.argv[1] === import.meta.filename) console.log(generationTable());
