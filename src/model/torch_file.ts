/**
 * pytorch_model.bin as torch.save writes it since PyTorch 1.6: a zip file with a pickle (data.pkl) that describes the
 * tensors and one stored entry for each storage. The pickle is read as data, never executed.
 */
import { FormatError } from '../util/errors.ts';
import { type PickleGlobal, type PickleValue, readPickle } from './pickle.ts';
import { readExactly, type TensorEntry, TensorFile, type TensorType, tensorTypes } from './tensors_on_disk.ts';
import { zipEntries } from './zip.ts';

/** Opens a file. @throws UsageError if it cannot be opened, FormatError if it is damaged or holds more than tensors */
export const openTorchFile = (path: string): TensorFile => new TensorFile(path, tensorsOf);

const storageTypes: Record<string, TensorType> = {
  DoubleStorage: 'F64',
  FloatStorage: 'F32',
  HalfStorage: 'F16',
  BFloat16Storage: 'BF16',
  LongStorage: 'I64',
  IntStorage: 'I32',
  ShortStorage: 'I16',
  CharStorage: 'I8',
  ByteStorage: 'U8',
  BoolStorage: 'BOOL',
};

class Storage {
  readonly dtype: TensorType;
  readonly position: number;
  readonly length: number;
  constructor(dtype: TensorType, position: number, length: number) {
    this.dtype = dtype;
    this.position = position;
    this.length = length;
  }
}

class TensorView {
  readonly storage: Storage;
  readonly offset: number;
  readonly shape: readonly number[];
  readonly strides: readonly number[];
  constructor(storage: Storage, offset: number, shape: readonly number[], strides: readonly number[]) {
    this.storage = storage;
    this.offset = offset;
    this.shape = shape;
    this.strides = strides;
  }
}

/** A pickle of a model's tensors is some hundred bytes for each. */
const MAX_PICKLE_BYTES = 1 << 28;

function tensorsOf(path: string, descriptor: number): Map<string, TensorEntry> {
  const zip = zipEntries(path, descriptor);
  const pickleName = [...zip.keys()].find((name) => /^[^/]+\/data\.pkl$/.test(name));
  if (!pickleName) throw new FormatError(`${path}: has no data.pkl, expected a file of torch.save`);
  const folder = pickleName.slice(0, -'data.pkl'.length);
  const part = (name: string) => {
    const { position, bytes } = zip.get(name)!;
    return readExactly(path, descriptor, position, bytes);
  };
  if (zip.get(pickleName)!.bytes > MAX_PICKLE_BYTES)
    throw new FormatError(
      `${path}: its data.pkl has ${zip.get(pickleName)!.bytes} bytes, expected at most ${MAX_PICKLE_BYTES}`,
    );
  const order = zip.has(`${folder}byteorder`) ? Buffer.from(part(`${folder}byteorder`)).toString('latin1') : 'little';
  if (order !== 'little') throw new FormatError(`${path}: its byte order is ${order}, expected little`);

  const storage = (id: PickleValue): Storage => {
    const [tag, type, key, , length] = Array.isArray(id) ? id : [];
    const name = /^torch (\w+)$/.exec((type as PickleGlobal | undefined)?.name ?? '')?.[1];
    const dtype = name === undefined ? undefined : storageTypes[name];
    const entry = zip.get(`${folder}data/${String(key)}`);
    if (tag !== 'storage' || !dtype || !entry || typeof length !== 'number')
      throw new FormatError(`${path}: a storage of type ${name ?? 'unknown'} under "${String(key)}" is not readable`);
    if (entry.bytes < length * tensorTypes[dtype])
      throw new FormatError(
        `${path}: storage ${String(key)} has ${entry.bytes} bytes for ${length} elements of ${dtype}`,
      );
    return new Storage(dtype, entry.position, length);
  };
  const value = readPickle(part(pickleName), path, {
    persistent: storage,
    call: (name, given) => call(path, name, given),
  });
  if (!(value instanceof Map)) throw new FormatError(`${path}: holds no dictionary of tensors`);
  const entries = new Map<string, TensorEntry>();
  for (const [name, tensor] of value) {
    if (typeof name !== 'string' || !(tensor instanceof TensorView))
      throw new FormatError(`${path}: "${String(name)}" is no tensor, expected a dictionary of tensors`);
    entries.set(name, entryOf(path, name, tensor));
  }
  return entries;
}

/** The meaning of the names that files of tensors call. */
function call(path: string, { name }: PickleGlobal, given: PickleValue[]): PickleValue {
  if (name === 'collections OrderedDict' && given.length === 0) return new Map();
  if (name === 'torch._utils _rebuild_parameter' && given[0] instanceof TensorView) return given[0];
  if (name === 'torch._utils _rebuild_tensor_v2') {
    const [storage, offset, shape, strides] = given;
    if (storage instanceof Storage && isSize(offset) && isSizes(shape) && isSizes(strides))
      return new TensorView(storage, offset, shape, strides);
  }
  throw new FormatError(
    `${path}: its pickle calls "${name.replace(' ', '.')}", which is not allowed in a file of tensors`,
  );
}

const isSize = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;
const isSizes = (value: unknown): value is number[] => Array.isArray(value) && value.every(isSize);

function entryOf(path: string, name: string, { storage, offset, shape, strides }: TensorView): TensorEntry {
  const length = shape.reduce((a, b) => a * b, 1);
  let expected = 1;
  for (let d = shape.length - 1; d >= 0; d--) {
    if (shape[d] !== 1 && strides[d] !== expected && length > 0)
      throw new FormatError(
        `${path}: ${name} is [${shape}] with strides [${strides}], expected rows one after the other; save it again after .contiguous()`,
      );
    expected *= shape[d]!;
  }
  if (!Number.isSafeInteger(length) || strides.length !== shape.length || offset + length > storage.length)
    throw new FormatError(`${path}: ${name} is [${shape}] from element ${offset}, its storage has ${storage.length}`);
  const position = storage.position + offset * tensorTypes[storage.dtype];
  return { dtype: storage.dtype, shape, length, position };
}
