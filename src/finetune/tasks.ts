/** The tasks by the names that settings give them. */
import type { FinetuneConfig } from './config.ts';
import type { AnyTask, TaskTools } from './task.ts';
import { classification } from './tasks/classification.ts';
import { instructions } from './tasks/instructions.ts';
import { mixture } from './tasks/mixture.ts';
import { preferences } from './tasks/preferences.ts';
import { questionAnswering } from './tasks/question_answering.ts';
import { similarity } from './tasks/similarity.ts';
import { textAnswers } from './tasks/text_answers.ts';
import { textToText } from './tasks/text_to_text.ts';
import { tokenClassification } from './tasks/token_classification.ts';

/** The task that the settings name. */
export function createTask({ task, train }: FinetuneConfig, tools: TaskTools): AnyTask {
  switch (task.name) {
    case 'text_to_text':
      return textToText(task, tools);
    case 'classification':
      return classification(task, tools);
    case 'token_classification':
      return tokenClassification(task, tools);
    case 'question_answering':
      return task.kind === 'text' ? textAnswers(task, tools) : questionAnswering(task, tools);
    case 'similarity':
      return similarity(task, tools);
    case 'preferences':
      return preferences(task, tools);
    case 'mixture':
      return mixture({ ...task, seed: train.seed }, tools);
    case 'instructions':
      return instructions({ ...task, seed: train.seed }, tools);
  }
}
