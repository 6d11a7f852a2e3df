/**
 * The wire format of Protocol Buffers, for messages whose fields are a table: number, type, default.
 * Source: protobuf.dev, "Encoding". Groups are refused, fields that the table lacks are skipped.
 */
import { isUtf8 } from 'node:buffer';
import { FormatError } from '../util/errors.ts';

interface Kinds {
  string: string;
  strings: string[];
  bytes: Uint8Array;
  bool: boolean;
  int: number;
  float: number;
}
type Kind = keyof Kinds;

/** Field number, type and value when absent. */
export type Field<K extends Kind = Kind> = { [P in K]: readonly [number: number, kind: P, absent: Kinds[P]] }[K];
export type Fields = Readonly<Record<string, Field>>;
export type Message<F extends Fields> = { -readonly [N in keyof F]: Kinds[F[N][1]] };

const VARINT = 0;
const FIXED64 = 1;
const BYTES = 2;
const FIXED32 = 5;

/** Walks the fields of one message: `while (r.next()) switch (r.field) …`. */
export class ProtobufReader {
  field = 0;
  private wire = 0;
  private at: number;
  private readonly end: number;
  private readonly buffer: Buffer;
  private readonly path: string;

  /** `path` is for messages. */
  constructor(buffer: Buffer, path: string, at = 0, end: number = buffer.length) {
    this.buffer = buffer;
    this.path = path;
    this.at = at;
    this.end = end;
  }

  /** Moves to the next field; false at the end. Its value must then be read or skipped. */
  next(): boolean {
    if (this.at >= this.end) return false;
    const tag = this.varint();
    this.field = Math.floor(tag / 8);
    this.wire = tag % 8;
    if (tag < 8 || this.field >= 1 << 29) throw this.damaged(`field number ${this.field}`);
    return true;
  }

  skip(): void {
    if (this.wire === VARINT) this.varint();
    else if (this.wire === FIXED64) this.take(8);
    else if (this.wire === BYTES) this.take(this.varint());
    else if (this.wire === FIXED32) this.take(4);
    else throw this.damaged(`wire type ${this.wire}`);
  }

  /** A signed integer. */
  int(): number {
    this.expect(VARINT);
    return this.varint();
  }

  float(): number {
    this.expect(FIXED32);
    return this.buffer.readFloatLE(this.take(4));
  }

  string(): string {
    this.expect(BYTES);
    const length = this.varint();
    const start = this.take(length);
    const text = this.buffer.toString('utf8', start, start + length);
    if (text.includes('\ufffd') && !isUtf8(this.buffer.subarray(start, start + length)))
      throw this.damaged('a string that is not UTF-8');
    return text;
  }

  bytes(): Buffer {
    this.expect(BYTES);
    const length = this.varint();
    const start = this.take(length);
    return this.buffer.subarray(start, start + length);
  }

  /** The fields of a message inside this one. */
  message(): ProtobufReader {
    this.expect(BYTES);
    const length = this.varint();
    const start = this.take(length);
    return new ProtobufReader(this.buffer, this.path, start, start + length);
  }

  private expect(wire: number): void {
    if (this.wire !== wire) throw this.damaged(`field ${this.field} with wire type ${this.wire}, expected ${wire}`);
  }

  private take(length: number): number {
    const start = this.at;
    if (length < 0 || length > this.end - start)
      throw this.damaged(`a field of ${length} bytes where ${this.end - start} are left`);
    this.at = start + length;
    return start;
  }

  /** Signed; lengths and tags of a sound file are never below zero. */
  private varint(): number {
    const first = this.at < this.end ? this.buffer[this.at]! : 128;
    if (first < 128) {
      this.at++;
      return first;
    }
    let value = 0;
    let unit = 1;
    for (let i = 0; i < 10; i++, unit *= 128) {
      const byte = this.buffer[this.take(1)]!;
      value += (byte & 127) * unit;
      if (byte < 128) return i < 9 ? value : this.negative();
    }
    throw this.damaged('an integer of more than 10 bytes');
  }

  /** An integer of ten bytes: too long for a number to hold while it is summed up. */
  private negative(): number {
    let value = 0n;
    for (let i = 0; i < 10; i++) value |= BigInt(this.buffer[this.at - 10 + i]! & 127) << BigInt(7 * i);
    return Number(BigInt.asIntN(64, value));
  }

  damaged(found: string): FormatError {
    return new FormatError(`${this.path}: ${found} at byte ${this.at}: truncated, damaged or no sentencepiece model`);
  }
}

/** Reads a message by its table. */
export function readMessage<F extends Fields>(reader: ProtobufReader, fields: F): Message<F> {
  const found: Record<string, unknown> = {};
  const byNumber = new Map(Object.entries(fields).map(([name, field]) => [field[0], [name, field] as const]));
  for (const [name, [, , absent]] of Object.entries(fields)) found[name] = Array.isArray(absent) ? [] : absent;
  while (reader.next()) {
    const known = byNumber.get(reader.field);
    if (!known) {
      reader.skip();
      continue;
    }
    const [name, [, kind]] = known;
    if (kind === 'strings') (found[name] as string[]).push(reader.string());
    else if (kind === 'bool') found[name] = reader.int() !== 0;
    else if (kind === 'bytes') found[name] = reader.bytes();
    else found[name] = reader[kind]();
  }
  return found as Message<F>;
}

/** Appends fields to a message. */
export class ProtobufWriter {
  private readonly parts: Uint8Array[] = [];

  int(field: number, value: number): void {
    const bytes = varint(8 * field + VARINT);
    let rest = BigInt.asUintN(64, BigInt(value));
    for (; rest >= 128n; rest >>= 7n) bytes.push(Number(rest & 127n) | 128);
    this.parts.push(Uint8Array.from([...bytes, Number(rest)]));
  }

  float(field: number, value: number): void {
    const bytes = Buffer.from([...varint(8 * field + FIXED32), 0, 0, 0, 0]);
    bytes.writeFloatLE(value, bytes.length - 4);
    this.parts.push(bytes);
  }

  bytes(field: number, value: Uint8Array): void {
    this.parts.push(Uint8Array.from([...varint(8 * field + BYTES), ...varint(value.length)]), value);
  }

  string(field: number, value: string): void {
    this.bytes(field, Buffer.from(value));
  }

  finish(): Buffer {
    return Buffer.concat(this.parts);
  }
}

/** Writes what differs from the table's defaults. */
export function writeMessage<F extends Fields>(message: Message<F>, fields: F): Buffer {
  const writer = new ProtobufWriter();
  for (const [name, [number, kind, absent]] of Object.entries(fields).sort((a, b) => a[1][0] - b[1][0])) {
    const value: unknown = message[name];
    if (kind === 'strings') for (const text of value as string[]) writer.string(number, text);
    else if (kind === 'bytes') {
      if ((value as Uint8Array).length > 0) writer.bytes(number, value as Uint8Array);
    } else if (value !== absent) {
      if (kind === 'string') writer.string(number, value as string);
      else if (kind === 'float') writer.float(number, value as number);
      else writer.int(number, Number(value));
    }
  }
  return writer.finish();
}

function varint(value: number): number[] {
  const bytes: number[] = [];
  for (; value >= 128; value = Math.floor(value / 128)) bytes.push((value % 128) | 128);
  return [...bytes, value];
}
