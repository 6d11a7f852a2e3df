/** What a model is to the pipeline: text without further cuts in, tokens out. */

export interface Token {
  id: number;
  token: string;
  /** UTF-16 units of the text that was given. */
  start: number;
  end: number;
}

export interface Model {
  tokenize(text: string): Token[];
}

/** Words that a model has met before, up to a number of them. Long ones are not worth remembering. */
export function cached(model: Model): Model {
  const known = new Map<string, Token[]>();
  return {
    tokenize(text) {
      if (text.length > 64) return model.tokenize(text);
      let tokens = known.get(text);
      if (!tokens) {
        tokens = model.tokenize(text);
        if (known.size >= 20000) known.clear();
        known.set(text, tokens);
      }
      return tokens;
    },
  };
}
