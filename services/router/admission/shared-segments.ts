import type { Reservation, SegmentRecord, SessionRecord } from '../../domain/session-record.js';
import { sessionBytes } from './choose-lane.js';

/** What of a session's record says which bytes of its reservation other sessions may hold too. */
export type SharingRecord = Pick<
  SessionRecord,
  'fingerprint' | 'segments' | 'origins' | 'reservation'
>;

/**
 * Which segments of a value store several sessions hold.
 *
 * The rule by which a store is charged: each session reserves all its bytes, linked ones too, so that
 * whoever of them goes first leaves the others paid for. The store holds linked files once, however.
 * So promises may pass its capacity by as many bytes as they count more than once, and no more.
 * Segments are the same where their maker's fingerprint and their positions are. The last segment of a
 * session is nobody else's in this count: a longer turn runs it anew. A session that must run its
 * other segments anew asks for room first (drive/own-room.ts).
 */
export class SharedSegments {
  readonly #holders = new Map<string, number>();
  #countedTwice = 0;

  constructor(records: Iterable<SharingRecord> = []) {
    for (const record of records) this.add(record);
  }

  /** Bytes that reservations count for a second, third ... holder of the same file. */
  get countedTwice(): number {
    return this.#countedTwice;
  }

  /** @returns bytes of its reservation that others hold already */
  add(record: SharingRecord): number {
    let known = 0;
    for (const { key, bytes } of sharableOf(record)) {
      const holders = this.#holders.get(key) ?? 0;
      this.#holders.set(key, holders + 1);
      if (holders > 0) known += bytes;
    }
    this.#countedTwice += known;
    return known;
  }

  /** @returns bytes that the store gets back when the session goes: what others hold stays */
  remove(record: SharingRecord): number {
    let stays = 0;
    for (const { key, bytes } of sharableOf(record)) {
      const holders = this.#holders.get(key) ?? 0;
      if (holders > 1) {
        this.#holders.set(key, holders - 1);
        stays += bytes;
      } else this.#holders.delete(key);
    }
    this.#countedTwice -= stays;
    return (record.reservation?.bytes ?? 0) - stays;
  }
}

/** Bytes of a session's reservation that another one need not find room for, if it links its segments. */
export function sharableBytes(record: SharingRecord): number {
  return sharableOf(record).reduce((sum, { bytes }) => sum + bytes, 0);
}

function sharableOf(record: SharingRecord): { readonly key: string; readonly bytes: number }[] {
  const { segments, origins, fingerprint, reservation } = record;
  if (reservation === null) return [];
  return segments.slice(0, -1).map((segment) => {
    const { stage, beginToken, endToken } = segment;
    const maker = origins.find(
      (origin) => origin.beginToken <= beginToken && endToken <= origin.endToken,
    );
    const range = `${String(stage)} ${String(beginToken)} ${String(endToken)}`;
    const key = `${maker?.fingerprint ?? fingerprint} ${range}`;
    return { key, bytes: chargedBytes(segment, reservation) };
  });
}

/** What the reservation has for a segment; less where its files are smaller. */
function chargedBytes(
  { beginToken, endToken, bytes }: SegmentRecord,
  reservation: Reservation,
): number {
  const perToken = reservation.bytes / Math.max(sessionBytes(reservation.tokens, 1), 1);
  return Math.min(bytes, Math.floor((endToken - beginToken) * perToken));
}
