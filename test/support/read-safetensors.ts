import { readFileSync } from 'node:fs';

/** One F32 tensor of a safetensors file, copied so that it is aligned. */
export function readSafetensors(
  path: string,
  name: string,
): { shape: readonly number[]; values: Float32Array } {
  const bytes = readFileSync(path);
  const headerBytes = Number(bytes.readBigUInt64LE(0));
  const header = JSON.parse(bytes.subarray(8, 8 + headerBytes).toString('utf8')) as Record<
    string,
    { dtype: string; shape: number[]; data_offsets: [number, number] } | undefined
  >;
  const tensor = header[name];
  if (tensor?.dtype !== 'F32') throw new Error(`${path} has no F32 tensor ${name}`);
  const [begin, end] = tensor.data_offsets;
  const data = Uint8Array.from(bytes.subarray(8 + headerBytes + begin, 8 + headerBytes + end));
  return { shape: tensor.shape, values: new Float32Array(data.buffer) };
}
