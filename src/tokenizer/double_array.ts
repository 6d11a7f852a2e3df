/**
 * A trie of byte strings as Darts-clone stores it, the format of sentencepiece's precompiled charsmap. Subtrees that are
 * equal are stored once.
 *
 * A state is a base; its child by byte b stands at unit base ^ b:
 *   bits 0–7 the byte, 8 whether a string ends here, 9 whether the offset counts in 256s, 10–30 the offset:
 *   unit index ^ offset is the child's base. Where a string ends, unit base ^ 0 holds its value and bit 31.
 */

/** A state: its children by ascending byte, and its value where a string ends. */
interface State {
  bytes: number[];
  children: number[];
  value: number; // -1: no string ends here
}

const NEVER = 0x80000000; // a unit that matches no byte

/** Units of the trie of strings, ascending by bytes and different, with values from 0 to 2^31 - 1. */
export function doubleArray(strings: readonly Uint8Array[], values: readonly number[]): Uint32Array {
  const states: State[] = [];
  const known = new Map<string, number>();
  const register = ({ bytes, children, value }: State): number => {
    const key = `${value}:${bytes}:${children}`;
    let id = known.get(key);
    if (id === undefined) {
      id = states.push({ bytes, children, value }) - 1;
      known.set(key, id);
    }
    return id;
  };
  const empty = (): State => ({ bytes: [], children: [], value: -1 });
  // The states along the last string are still open: a child is registered once no further string passes through it.
  const path: State[] = [empty()];
  const last: number[] = [];
  const close = (depth: number) => {
    while (path.length > depth + 1) {
      const id = register(path.pop()!);
      const parent = path.at(-1)!;
      parent.bytes.push(last.pop()!);
      parent.children.push(id);
    }
  };
  strings.forEach((string, i) => {
    let shared = 0;
    while (shared < last.length && last[shared] === string[shared]) shared++;
    close(shared);
    for (let depth = shared; depth < string.length; depth++) {
      path.push(empty());
      last.push(string[depth]!);
    }
    path.at(-1)!.value = values[i]!;
  });
  close(0);
  return place(states, register(path[0]!));
}

/** Gives every state a base whose units are free and that no other state has. */
function place(states: readonly State[], root: number): Uint32Array {
  let units = new Uint32Array(1 << 16).fill(NEVER);
  let used = new Uint8Array(1 << 16);
  let isBase = new Uint8Array(1 << 16);
  let firstFree = 1; // below are no free units; unit 0 leads to the root
  let size = 256;
  const bases = new Int32Array(states.length).fill(-1);
  used[0] = isBase[0] = 1;
  const grow = (end: number) => {
    size = Math.max(size, (end + 255) & ~255);
    if (size <= units.length) return;
    const [oldUnits, oldUsed, oldBase] = [units, used, isBase];
    units = new Uint32Array(size * 2).fill(NEVER);
    used = new Uint8Array(size * 2);
    isBase = new Uint8Array(size * 2);
    units.set(oldUnits);
    used.set(oldUsed);
    isBase.set(oldBase);
  };
  const findBase = (labels: readonly number[]): number => {
    // Far behind the end there is hardly room: only what is free near it is looked at.
    for (let at = Math.max(firstFree, size - 1024); ; at++) {
      if (at >= size) grow(at + 1);
      if (used[at] === 1) continue;
      const base = at ^ labels[0]!;
      let fits = isBase[base] === 0;
      for (let i = 1; fits && i < labels.length; i++) fits = used[base ^ labels[i]!] === 0;
      if (fits) return base;
    }
  };
  const visit = (id: number): number => {
    if (bases[id]! >= 0) return bases[id]!;
    const { bytes, children, value } = states[id]!;
    const labels = value >= 0 ? [0, ...bytes] : bytes;
    const base = findBase(labels);
    bases[id] = base;
    isBase[base] = 1;
    for (const label of labels) used[base ^ label] = 1;
    while (used[firstFree]) firstFree++;
    if (value >= 0) units[base] = NEVER | value;
    children.forEach((child, i) => {
      const at = base ^ bytes[i]!;
      units[at] = unit(at ^ visit(child), bytes[i]!, states[child]!.value >= 0);
    });
    return base;
  };
  units[0] = unit(visit(root), 0, states[root]!.value >= 0);
  return units.slice(0, size);
}

function unit(offset: number, byte: number, ends: boolean): number {
  const coded = offset < 1 << 21 ? offset << 10 : (offset << 2) | 512;
  if (offset >= 1 << 21 && (offset & 255 || offset >= 1 << 29)) throw new RangeError('a trie too large for its format');
  return (coded | byte | (ends ? 256 : 0)) >>> 0;
}
