import { open } from 'node:fs/promises';

/** One dense tensor of 32-bit floats. */
export interface FloatTensor {
  readonly name: string;
  readonly shape: readonly number[];
  /** Row-major. */
  readonly values: Float32Array;
}

/** Header alignment that readers of the format may rely on. */
const ALIGNMENT_BYTES = 8;

/**
 * Writes one F32 tensor as a safetensors file: 64-bit header length, JSON header, data, all
 * little endian.
 */
export async function writeSafetensors(path: string, tensor: FloatTensor): Promise<void> {
  const { name, shape, values } = tensor;
  const header = JSON.stringify({
    [name]: { dtype: 'F32', shape, data_offsets: [0, values.byteLength] },
  });
  const padded = header.padEnd(Math.ceil(header.length / ALIGNMENT_BYTES) * ALIGNMENT_BYTES);
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(Buffer.byteLength(padded)));
  const file = await open(path, 'w');
  try {
    await file.writev([
      length,
      Buffer.from(padded),
      Buffer.from(values.buffer, values.byteOffset, values.byteLength),
    ]);
  } finally {
    await file.close();
  }
}
