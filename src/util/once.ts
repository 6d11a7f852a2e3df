/** Calls `open` when first asked. */
export function once<Value>(open: () => Value): () => Value {
  let opened: { value: Value } | undefined;
  return () => {
    opened ??= { value: open() };
    return opened.value;
  };
}
