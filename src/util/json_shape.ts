/**
 * What values from a JSON file must look like, as functions that read them: small and ready at once, where a process is
 * short and counts its start. Errors name the place.
 */

/** A value is not what was expected. */
export class Mismatch extends Error {
  /** Keys from the document to the value. */
  readonly path: PropertyKey[] = [];
}

/** Gives the value, checked, without what nobody asked for. @throws Mismatch */
export type Shape<T> = (value: unknown) => T;
/** What a shape gives. */
export type Shaped<S> = S extends Shape<infer T> ? T : never;

type Fields = Record<string, Shape<unknown>>;
type Optional<F extends Fields> = { [K in keyof F]: undefined extends Shaped<F[K]> ? K : never }[keyof F];
/** Fields that may be undefined need not be there. */
type Fielded<F extends Fields> = { [K in Exclude<keyof F, Optional<F>>]: Shaped<F[K]> } & {
  [K in Optional<F>]?: Shaped<F[K]>;
};

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

function expecting<T>(what: string, is: (value: unknown) => boolean): Shape<T> {
  return (value) => {
    if (!is(value)) throw new Mismatch(`expected ${what}`);
    return value as T;
  };
}

/** Reads what lies under a key. */
function under<T>(key: PropertyKey, shape: Shape<T>, value: unknown): T {
  try {
    return shape(value);
  } catch (error) {
    if (error instanceof Mismatch) error.path.unshift(key);
    throw error;
  }
}

/** Shapes of single values, and of objects and arrays of anything. */
export const text: Shape<string> = expecting('a string', (value) => typeof value === 'string');
export const nonEmptyText: Shape<string> = expecting('text', (value) => typeof value === 'string' && value !== '');
export const flag: Shape<boolean> = expecting('true or false', (value) => typeof value === 'boolean');
export const anyObject: Shape<Record<string, unknown>> = expecting('an object', isObject);
export const anyList: Shape<unknown[]> = expecting('an array', Array.isArray);

/** A whole number from `least` to `most`. */
export const integer = (least: number, most: number): Shape<number> =>
  expecting(
    `an integer from ${least} to ${most}`,
    (value) => Number.isInteger(value) && (value as number) >= least && (value as number) <= most,
  );

/** A number from `least` to `most`. */
export const decimal = (least: number, most: number): Shape<number> =>
  expecting(
    `a number from ${least} to ${most}`,
    (value) => typeof value === 'number' && value >= least && value <= most,
  );

/** One of some texts. */
export const oneOf = <const T extends string>(...values: readonly T[]): Shape<T> =>
  expecting(values.map((value) => JSON.stringify(value)).join(' or '), (value) => values.includes(value as T));

/** What fits a shape and holds besides; `what` was expected where it does not. */
export const where = <T>(shape: Shape<T>, what: string, holds: (value: T) => boolean): Shape<T> => {
  const check = expecting<T>(what, (value) => holds(value as T));
  return (value) => check(shape(value));
};

/** What fits a shape, or nothing. */
export const optional =
  <T>(shape: Shape<T>): Shape<T | undefined> =>
  (value) =>
    value === undefined ? undefined : shape(value);

/** What fits a shape, nothing, or null. */
export const nullish =
  <T>(shape: Shape<T>): Shape<T | null | undefined> =>
  (value) =>
    value === undefined || value === null ? value : shape(value);

/** `absent` instead of a field that is not there. */
export const withDefault =
  <T>(shape: Shape<T>, absent: T): Shape<T> =>
  (value) =>
    value === undefined ? absent : shape(value);

/** An array whose entries fit a shape. */
export const listOf =
  <T>(shape: Shape<T>): Shape<T[]> =>
  (value) =>
    anyList(value).map((entry, i) => under(i, shape, entry));

/** Values by any keys. */
export const recordOf =
  <T>(shape: Shape<T>): Shape<Record<string, T>> =>
  (value) =>
    Object.fromEntries(Object.entries(anyObject(value)).map(([key, entry]) => [key, under(key, shape, entry)]));

/** An array of two entries, each of a shape of its own. */
export const pairOf =
  <A, B>(first: Shape<A>, second: Shape<B>): Shape<[A, B]> =>
  (value) => {
    const entries = anyList(value);
    if (entries.length !== 2) throw new Mismatch('expected two entries');
    return [under(0, first, entries[0]), under(1, second, entries[1])];
  };

/** An object's fields; others are left out, and so are those that are undefined. */
export const object =
  <F extends Fields>(fields: F): Shape<Fielded<F>> =>
  (value) => {
    const given = anyObject(value);
    const found: Record<string, unknown> = {};
    for (const key in fields) {
      const field = under(key, fields[key]!, Object.hasOwn(given, key) ? given[key] : undefined);
      if (field !== undefined) found[key] = field;
    }
    return found as Fielded<F>;
  };

/** The first of two that fits. */
export const either =
  <A, B>(first: Shape<A>, second: Shape<B>): Shape<A | B> =>
  (value) => {
    try {
      return first(value);
    } catch (error) {
      if (!(error instanceof Mismatch)) throw error;
      return second(value);
    }
  };

type Tagged<F extends Record<string, Shape<object>>> = {
  [K in keyof F]: { type: K } & Shaped<F[K]>;
}[keyof F];

/** Objects of several kinds, which their field `type` names. */
export const tagged =
  <F extends Record<string, Shape<object>>>(kinds: F): Shape<Tagged<F>> =>
  (value) => {
    const { type } = anyObject(value);
    if (typeof type !== 'string' || !Object.hasOwn(kinds, type)) under('type', oneOf(...Object.keys(kinds)), type);
    return { type, ...kinds[type as keyof F]!(value) } as Tagged<F>;
  };
