/*
 * The container of GGUF version 3: magic, counts, metadata, the tensors' names and places, then
 * their data, each at a multiple of 32 bytes from where data begins. Little endian throughout.
 */

/** What a metadata value is written as; the format knows more types than these. */
export type GgufValue =
  | { readonly type: 'uint32'; readonly value: number }
  | { readonly type: 'float32'; readonly value: number }
  | { readonly type: 'bool'; readonly value: boolean }
  | { readonly type: 'string'; readonly value: string }
  | { readonly type: 'int32s'; readonly value: readonly number[] }
  | { readonly type: 'strings'; readonly value: readonly string[] };

/** Dtypes of tensors that are written, with the format's numbers for them. */
export const TENSOR_TYPES = { F32: 0, BF16: 30 } as const;
export type GgufTensorType = keyof typeof TENSOR_TYPES;

/** A dense tensor, row-major. */
export interface GgufTensor {
  readonly name: string;
  readonly type: GgufTensorType;
  /** Outermost dimension first, as everywhere in this project; the file has them the other way. */
  readonly shape: readonly number[];
  readonly data: Uint8Array;
}

/** Of data, relative to its beginning, which is a multiple of it too. */
export const GGUF_ALIGNMENT_BYTES = 32;

const VERSION = 3;
const VALUE_TYPES = { uint32: 4, int32: 5, float32: 6, bool: 7, string: 8, array: 9 } as const;

/** A whole file, in pieces to be written one after the other. */
export function encodeGguf(
  metadata: Readonly<Record<string, GgufValue>>,
  tensors: readonly GgufTensor[],
): Uint8Array[] {
  const entries = Object.entries(metadata);
  const head = [Buffer.from('GGUF'), u32(VERSION), u64(tensors.length), u64(entries.length)];
  for (const [key, value] of entries) head.push(text(key), ...encodeValue(value));
  let offset = 0;
  for (const { name, type, shape, data } of tensors) {
    const dimensions = shape.toReversed().map((length) => u64(length));
    head.push(text(name), u32(shape.length), ...dimensions);
    head.push(u32(TENSOR_TYPES[type]), u64(offset));
    offset = align(offset + data.byteLength);
  }
  const header = Buffer.concat(head);
  const pieces = [header, padding(header.byteLength)];
  for (const { data } of tensors) pieces.push(data, padding(data.byteLength));
  return pieces;
}

function encodeValue(value: GgufValue): Buffer[] {
  switch (value.type) {
    case 'uint32':
      return [u32(VALUE_TYPES.uint32), u32(value.value)];
    case 'float32':
      return [u32(VALUE_TYPES.float32), f32(value.value)];
    case 'bool':
      return [u32(VALUE_TYPES.bool), Buffer.from([value.value ? 1 : 0])];
    case 'string':
      return [u32(VALUE_TYPES.string), text(value.value)];
    case 'int32s':
      return [...arrayHead(VALUE_TYPES.int32, value.value), ...value.value.map(i32)];
    case 'strings':
      return [...arrayHead(VALUE_TYPES.string, value.value), ...value.value.map(text)];
  }
}

function arrayHead(elementType: number, values: readonly unknown[]): Buffer[] {
  return [u32(VALUE_TYPES.array), u32(elementType), u64(values.length)];
}

function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

function i32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32LE(value);
  return bytes;
}

function f32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeFloatLE(value);
  return bytes;
}

function u64(value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
}

/** UTF-8 after its length. */
function text(value: string): Buffer {
  const bytes = Buffer.from(value, 'utf8');
  return Buffer.concat([u64(bytes.byteLength), bytes]);
}

function padding(length: number): Uint8Array {
  return new Uint8Array(align(length) - length);
}

function align(length: number): number {
  return Math.ceil(length / GGUF_ALIGNMENT_BYTES) * GGUF_ALIGNMENT_BYTES;
}
