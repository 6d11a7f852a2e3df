/** The errors this package throws on purpose. Message grammar: who: what is, what was expected, where that came from. */

/** The user can fix this: a bad flag, a bad config value, a missing file. Printed as one line; exit status 2. */
export class UsageError extends Error {
  override name = 'UsageError';
}

/** A file is not what it claims to be: names the path, what was expected and what was found. Exit status 3. */
export class FormatError extends Error {
  override name = 'FormatError';
}

/** A tensor's shape contradicts the contract of the kernel it was given to. */
export class ShapeError extends Error {
  override name = 'ShapeError';
}

/** A native library, driver or kernel failed: names the call, the code and the sizes. */
export class BackendError extends Error {
  override name = 'BackendError';
}
