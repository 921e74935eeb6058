/** A GGUF file as a reader sees it that knows nothing of how it was written. */
export interface ReadGguf {
  readonly version: number;
  readonly metadata: ReadonlyMap<string, unknown>;
  readonly tensors: ReadonlyMap<string, ReadTensor>;
  /** Where the tensors' data begins. */
  readonly dataBegin: number;
}

export interface ReadTensor {
  /** Innermost dimension first. */
  readonly dimensions: readonly number[];
  /** The format's number of the dtype. */
  readonly type: number;
  /** From the beginning of the data. */
  readonly offset: number;
}

/** Reads up to the data, by the format's description. */
export function readGguf(file: Buffer): ReadGguf {
  const cursor = new Cursor(file);
  if (cursor.bytes(4).toString('latin1') !== 'GGUF') throw new Error('not a GGUF file');
  const version = cursor.u32();
  const tensorCount = cursor.u64();
  const metadataCount = cursor.u64();
  const metadata = new Map<string, unknown>();
  for (let entry = 0; entry < metadataCount; entry += 1) {
    const key = cursor.text();
    metadata.set(key, cursor.value(cursor.u32()));
  }
  const tensors = new Map<string, ReadTensor>();
  for (let index = 0; index < tensorCount; index += 1) {
    const name = cursor.text();
    const dimensions = Array.from({ length: cursor.u32() }, () => cursor.u64());
    tensors.set(name, { dimensions, type: cursor.u32(), offset: cursor.u64() });
  }
  return { version, metadata, tensors, dataBegin: Math.ceil(cursor.at / 32) * 32 };
}

class Cursor {
  at = 0;

  constructor(private readonly file: Buffer) {}

  bytes(length: number): Buffer {
    const begin = this.at;
    this.at += length;
    return this.file.subarray(begin, this.at);
  }

  u32(): number {
    return this.bytes(4).readUInt32LE();
  }

  u64(): number {
    return Number(this.bytes(8).readBigUInt64LE());
  }

  text(): string {
    return this.bytes(this.u64()).toString('utf8');
  }

  value(type: number): unknown {
    switch (type) {
      case 4:
        return this.u32();
      case 5:
        return this.bytes(4).readInt32LE();
      case 6:
        return this.bytes(4).readFloatLE();
      case 7:
        return this.bytes(1)[0] === 1;
      case 8:
        return this.text();
      case 9: {
        const elementType = this.u32();
        return Array.from({ length: this.u64() }, () => this.value(elementType));
      }
      default:
        throw new Error(`no value is of type ${type}`);
    }
  }
}
