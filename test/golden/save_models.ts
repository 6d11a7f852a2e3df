/** Saves the models whose expected values t5_golden.py computes: node dist/test/golden/save_models.js FOLDER */
import { join } from 'node:path';
import { T5ForConditionalGeneration } from '../../src/index.ts';
import { published } from '../model_configs.ts';

const folder = process.argv[2]; // none when the test runner loads every file
if (folder)
  for (const [name, config] of Object.entries(published))
    await T5ForConditionalGeneration.from_config(config, { seed: 7 }).save_pretrained(join(folder, name));
