import { crc32 } from 'node:zlib';
import type { Redis } from 'ioredis';
import { ServingError } from '../../domain/serving-error.js';
import type { TokenIdStore } from '../../domain/session-store.js';
import { sessionKeys, tokenIdsKey, type SessionKeys } from './keys.js';
import { answered, runScript } from './redis-connection.js';
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
      const { tokens } = sessionKeys(sessionId);
      if (tokenIds.length === 0) return;
      const endToken = beginToken + tokenIds.length;
      const packed = packTokenIds(tokenIds);
      await runScript(redis, 'putTokenIds', tokens, beginToken, endToken, packed, TOKEN_IDS_MS);
    },

    get: async (sessionId, beginToken, endToken) => {
      const chunks = await storedChunks(redis, sessionKeys(sessionId), beginToken, endToken);
      const wanted = new Uint32Array(endToken - beginToken);
      let position = beginToken;
      for (const { begin, end, packed } of chunks) {
        const ids = unpackTokenIds(packed);
        const part = ids.subarray(position - begin, end - begin);
        wanted.set(part, position - beginToken);
        position += part.length;
        if (position < end) break;
      }
      if (position < endToken) throw absent(sessionId, position);
      return wanted;
    },
  };
}

/** A stored chunk: of its ids those of [begin, end) count. */
interface StoredChunk {
  readonly begin: number;
  readonly end: number;
  readonly packed: Buffer;
}

/** The chunks that may hold ids of the range, in order; none if its first is in no chunk. */
async function storedChunks(
  redis: Redis,
  keys: SessionKeys,
  beginToken: number,
  endToken: number,
): Promise<StoredChunk[]> {
  if (beginToken === endToken) return [];
  const [first] = await answered(redis.zrevrangebyscore(keys.tokens, beginToken, 0, 'LIMIT', 0, 1));
  if (first === undefined) return [];
  const found = await answered(redis.zrangebyscore(keys.tokens, first, `(${String(endToken)}`));
  const begins = found.map(Number);
  const values = await answered(redis.mgetBuffer(begins.map((begin) => tokenIdsKey(keys, begin))));
  return begins.map((begin, place) => ({
    begin,
    end: begins[place + 1] ?? endToken,
    packed: values[place] ?? packTokenIds(new Uint32Array()),
  }));
}

function absent(sessionId: string, position: number): ServingError {
  return new ServingError(
    'DATA_LOSS',
    `token ids of session ${sessionId} from position ${String(position)} are not in Redis`,
  );
}
