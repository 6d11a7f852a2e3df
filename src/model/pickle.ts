/**
 * The part of Python's pickle format that a dictionary of tensors needs, read as data. Nothing is ever imported or
 * called: of all callables only the few that stand for tensors and ordered dictionaries have a meaning here, everything
 * else is refused.
 *
 * Source: Python's pickletools (protocols 2 to 4); torch.save of PyTorch 1.6 and newer.
 */
import { FormatError } from '../util/errors.ts';

/** A name that the pickle refers to: "torch._utils _rebuild_tensor_v2". */
export class PickleGlobal {
  readonly name: string;
  constructor(name: string) {
    this.name = name;
  }
}

/** What a pickle of weights may hold. */
export type PickleValue =
  | null
  | boolean
  | number
  | string
  | PickleGlobal
  | PickleValue[]
  | Map<PickleValue, PickleValue>
  | object;

/** What the names and objects mean that a pickle only refers to. */
export interface PickleReader {
  /** What an object that lies outside the pickle is: PyTorch's storages. */
  persistent(id: PickleValue): PickleValue;
  /** What calling a global gives; must refuse what it does not know. */
  call(callable: PickleGlobal, values: PickleValue[]): PickleValue;
}

/** Opcodes by their bytes; the others do not occur in files of tensors. */
const op = {
  MARK: 0x28,
  EMPTY_TUPLE: 0x29,
  STOP: 0x2e,
  BINFLOAT: 0x47,
  BININT: 0x4a,
  BININT1: 0x4b,
  BININT2: 0x4d,
  NONE: 0x4e,
  BINPERSID: 0x51,
  REDUCE: 0x52,
  BINUNICODE: 0x58,
  EMPTY_LIST: 0x5d,
  APPEND: 0x61,
  BUILD: 0x62,
  GLOBAL: 0x63,
  APPENDS: 0x65,
  BINGET: 0x68,
  LONG_BINGET: 0x6a,
  BINPUT: 0x71,
  LONG_BINPUT: 0x72,
  SETITEM: 0x73,
  TUPLE: 0x74,
  SETITEMS: 0x75,
  EMPTY_DICT: 0x7d,
  PROTO: 0x80,
  TUPLE1: 0x85,
  TUPLE2: 0x86,
  TUPLE3: 0x87,
  NEWTRUE: 0x88,
  NEWFALSE: 0x89,
  LONG1: 0x8a,
  SHORT_BINUNICODE: 0x8c,
  STACK_GLOBAL: 0x93,
  MEMOIZE: 0x94,
  FRAME: 0x95,
} as const;

/** The value of a pickle. @throws FormatError for an opcode that is not of the table above, or a damaged pickle */
export function readPickle(bytes: Uint8Array, path: string, reader: PickleReader): PickleValue {
  return new Machine(bytes, path, reader).run();
}

class Machine {
  private readonly view: DataView;
  private readonly bytes: Uint8Array;
  private readonly path: string;
  private readonly reader: PickleReader;
  private at = 0;
  private stack: PickleValue[] = [];
  private readonly marked: PickleValue[][] = [];
  private readonly memo = new Map<number, PickleValue>();

  constructor(bytes: Uint8Array, path: string, reader: PickleReader) {
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.path = path;
    this.reader = reader;
  }

  run(): PickleValue {
    try {
      for (;;) {
        const code = this.byte();
        if (code === op.STOP) return this.pop();
        this.step(code);
      }
    } catch (cause) {
      if (cause instanceof FormatError) throw cause;
      throw this.error(`it ends or breaks off at byte ${this.at}`, cause); // a read beyond the end
    }
  }

  private step(code: number): void {
    const { stack } = this;
    switch (code) {
      case op.PROTO:
        if (this.byte() > 4) throw this.error('its protocol is newer than 4');
        return;
      case op.FRAME:
        this.at += 8;
        return;
      case op.MARK:
        this.marked.push(stack);
        this.stack = [];
        return;
      case op.NONE:
        return void stack.push(null);
      case op.NEWTRUE:
      case op.NEWFALSE:
        return void stack.push(code === op.NEWTRUE);
      case op.BININT:
        return void stack.push(this.view.getInt32(this.move(4), true));
      case op.BININT1:
        return void stack.push(this.byte());
      case op.BININT2:
        return void stack.push(this.view.getUint16(this.move(2), true));
      case op.LONG1:
        return void stack.push(this.long(this.byte()));
      case op.BINFLOAT:
        return void stack.push(this.view.getFloat64(this.move(8), false));
      case op.BINUNICODE:
        return void stack.push(this.text(this.view.getUint32(this.move(4), true)));
      case op.SHORT_BINUNICODE:
        return void stack.push(this.text(this.byte()));
      case op.EMPTY_TUPLE:
      case op.EMPTY_LIST:
        return void stack.push([]);
      case op.EMPTY_DICT:
        return void stack.push(new Map());
      case op.TUPLE1:
      case op.TUPLE2:
      case op.TUPLE3: {
        const items = Array.from({ length: code - op.TUPLE1 + 1 }, () => this.pop()).reverse();
        return void stack.push(items);
      }
      case op.TUPLE: {
        const items = this.toMark();
        return void this.stack.push(items);
      }
      case op.APPEND: {
        const item = this.pop();
        return void this.list().push(item);
      }
      case op.APPENDS: {
        const items = this.toMark();
        const list = this.list();
        for (const item of items) list.push(item);
        return;
      }
      case op.SETITEM: {
        const value = this.pop();
        const key = this.pop();
        return void this.dictionary().set(key, value);
      }
      case op.SETITEMS: {
        const items = this.toMark();
        const into = this.dictionary();
        for (let i = 0; i + 1 < items.length; i += 2) into.set(items[i]!, items[i + 1]!);
        return;
      }
      case op.GLOBAL:
        return void stack.push(new PickleGlobal(`${this.line()} ${this.line()}`));
      case op.STACK_GLOBAL: {
        const name = this.pop();
        return void stack.push(new PickleGlobal(`${this.pop()} ${name}`));
      }
      case op.BINPERSID:
        return void stack.push(this.reader.persistent(this.pop()));
      case op.REDUCE: {
        const values = this.pop();
        const callable = this.pop();
        if (!(callable instanceof PickleGlobal) || !Array.isArray(values)) throw this.error('it calls what is no name');
        return void stack.push(this.reader.call(callable, values));
      }
      case op.BUILD:
        this.pop(); // attributes of a dictionary: versions of modules
        this.dictionary();
        return;
      case op.BINPUT:
        return void this.memo.set(this.byte(), this.top());
      case op.LONG_BINPUT:
        return void this.memo.set(this.view.getUint32(this.move(4), true), this.top());
      case op.MEMOIZE:
        return void this.memo.set(this.memo.size, this.top());
      case op.BINGET:
        return void stack.push(this.recall(this.byte()));
      case op.LONG_BINGET:
        return void stack.push(this.recall(this.view.getUint32(this.move(4), true)));
      default:
        throw this.error(`opcode 0x${code.toString(16)} at byte ${this.at - 1} is not allowed in a file of tensors`);
    }
  }

  private move(bytes: number): number {
    const from = this.at;
    this.at += bytes;
    return from;
  }

  private byte(): number {
    return this.view.getUint8(this.move(1));
  }

  private text(length: number): string {
    if (this.at + length > this.bytes.length) throw this.error(`a text of ${length} bytes does not fit`);
    return Buffer.from(this.bytes.subarray(this.at, (this.at += length))).toString('utf8');
  }

  private line(): string {
    const end = this.bytes.indexOf(10, this.at);
    if (end < 0) throw this.error('a name does not end');
    const text = this.text(end - this.at);
    this.at++;
    return text;
  }

  /** A little-endian integer in two's complement. */
  private long(bytes: number): number {
    let value = 0n;
    for (let i = 0; i < bytes; i++) value |= BigInt(this.byte()) << BigInt(8 * i);
    return Number(BigInt.asIntN(8 * bytes, value));
  }

  private top(): PickleValue {
    if (this.stack.length === 0) throw this.error(`its stack is empty at byte ${this.at}`);
    return this.stack.at(-1)!;
  }

  private pop(): PickleValue {
    const value = this.top();
    this.stack.pop();
    return value;
  }

  private toMark(): PickleValue[] {
    const items = this.stack;
    const below = this.marked.pop();
    if (!below) throw this.error(`it has no mark at byte ${this.at}`);
    this.stack = below;
    return items;
  }

  private list(): PickleValue[] {
    const value = this.top();
    if (!Array.isArray(value)) throw this.error('it appends to what is no list');
    return value;
  }

  private dictionary(): Map<PickleValue, PickleValue> {
    const value = this.top();
    if (!(value instanceof Map)) throw this.error('it sets items of what is no dictionary');
    return value;
  }

  private recall(key: number): PickleValue {
    if (!this.memo.has(key)) throw this.error(`it recalls ${key}, which it never stored`);
    return this.memo.get(key)!;
  }

  private error(why: string, cause?: unknown): FormatError {
    return new FormatError(`${this.path}: its pickle is not a dictionary of tensors: ${why}`, { cause });
  }
}
