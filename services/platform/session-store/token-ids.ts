import { crc32 } from 'node:zlib';
import type { Redis } from 'ioredis';
import { ServingError } from '../../domain/serving-error.js';
import type { TokenIdStore } from '../../domain/session-store.js';
import { sessionKeys, tokenIdsKey, type SessionKeys } from './keys.js';
import { answered } from './redis-connection.js';
import { TOKEN_IDS_MS } from './scripts/record-scripts.js';

const CRC_BYTES = 4;
const ID_BYTES = 4;

/** Little-endian uint32 ids, then their CRC32 (zlib's polynomial), little-endian. */
export function packTokenIds(tokenIds: Uint32Array): Buffer {
  const packed = Buffer.allocUnsafe(tokenIds.length * ID_BYTES + CRC_BYTES);
  tokenIds.forEach((id, place) => packed.writeUInt32LE(id, place * ID_BYTES));
  const ids = packed.subarray(0, packed.length - CRC_BYTES);
  packed.writeUInt32LE(crc32(ids), ids.length);
  return packed;
}

/** @throws ServingError DATA_LOSS when the length or the checksum is wrong */
export function unpackTokenIds(packed: Buffer): Uint32Array {
  const bytes = packed.length - CRC_BYTES;
  const whole = bytes >= 0 && bytes % ID_BYTES === 0;
  if (!whole || crc32(packed.subarray(0, bytes)) !== packed.readUInt32LE(bytes)) {
    throw new ServingError('DATA_LOSS', 'token ids in Redis do not match their checksum');
  }
  return Uint32Array.from({ length: bytes / ID_BYTES }, (_, place) =>
    packed.readUInt32LE(place * ID_BYTES),
  );
}

/** Token ids of prompt chunks on Redis. */
export function makeTokenIdStore(redis: Redis): TokenIdStore {
  return {
    put: async (sessionId, beginToken, tokenIds) => {
      const keys = sessionKeys(sessionId);
      const key = tokenIdsKey(keys, beginToken);
      await Promise.all([
        answered(redis.set(key, packTokenIds(tokenIds), 'PX', TOKEN_IDS_MS)),
        answered(redis.zadd(keys.tokens, beginToken, String(beginToken))),
        answered(redis.pexpire(keys.tokens, TOKEN_IDS_MS)),
      ]);
    },

    get: async (sessionId, beginToken, endToken) => {
      const keys = sessionKeys(sessionId);
      const wanted = new Uint32Array(endToken - beginToken);
      let position = beginToken;
      while (position < endToken) {
        const { begin, ids } = await chunkAt(redis, keys, position);
        const part = ids.subarray(position - begin, endToken - begin);
        if (part.length === 0) throw absent(sessionId, position);
        wanted.set(part, position - beginToken);
        position += part.length;
      }
      return wanted;
    },
  };

  /** The chunk that begins at the position, or else the last one that begins before it. */
  async function chunkAt(
    connection: Redis,
    keys: SessionKeys,
    position: number,
  ): Promise<{ begin: number; ids: Uint32Array }> {
    const exact = await answered(connection.getBuffer(tokenIdsKey(keys, position)));
    if (exact !== null) return { begin: position, ids: unpackTokenIds(exact) };
    const [before] = await answered(
      connection.zrevrangebyscore(keys.tokens, position, 0, 'LIMIT', 0, 1),
    );
    const begin = Number(before);
    const packed =
      before === undefined ? null : await answered(connection.getBuffer(tokenIdsKey(keys, begin)));
    return packed === null
      ? { begin: position, ids: new Uint32Array() }
      : { begin, ids: unpackTokenIds(packed) };
  }
}

function absent(sessionId: string, position: number): ServingError {
  return new ServingError(
    'DATA_LOSS',
    `token ids of session ${sessionId} from position ${String(position)} are not in Redis`,
  );
}
