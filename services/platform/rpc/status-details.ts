import protobuf from 'protobufjs';
import type { ErrorDetails } from '../../domain/serving-error.js';

/*
 * The google.rpc details of a status, as the grpc-status-details-bin trailer carries them. The
 * types are built here, field for field as in google/rpc/status.proto and error_details.proto
 * (Google APIs), because a proto file of ours that imported them would break reflection.
 */

/** Trailer that gRPC libraries read google.rpc.Status from. */
export const STATUS_DETAILS_TRAILER = 'grpc-status-details-bin';

const TYPE_URL_PREFIX = 'type.googleapis.com/google.rpc.';

const root = protobuf.Root.fromJSON({
  nested: {
    Any: { fields: { typeUrl: { type: 'string', id: 1 }, value: { type: 'bytes', id: 2 } } },
    Duration: { fields: { seconds: { type: 'int64', id: 1 }, nanos: { type: 'int32', id: 2 } } },
    Status: {
      fields: {
        code: { type: 'int32', id: 1 },
        message: { type: 'string', id: 2 },
        details: { rule: 'repeated', type: 'Any', id: 3 },
      },
    },
    BadRequest: {
      fields: { fieldViolations: { rule: 'repeated', type: 'FieldViolation', id: 1 } },
      nested: {
        FieldViolation: {
          fields: { field: { type: 'string', id: 1 }, description: { type: 'string', id: 2 } },
        },
      },
    },
    RetryInfo: { fields: { retryDelay: { type: 'Duration', id: 1 } } },
    QuotaFailure: {
      fields: { violations: { rule: 'repeated', type: 'Violation', id: 1 } },
      nested: {
        Violation: {
          fields: { subject: { type: 'string', id: 1 }, description: { type: 'string', id: 2 } },
        },
      },
    },
  },
});

const types = {
  Status: root.lookupType('Status'),
  BadRequest: root.lookupType('BadRequest'),
  RetryInfo: root.lookupType('RetryInfo'),
  QuotaFailure: root.lookupType('QuotaFailure'),
};

type DetailType = 'BadRequest' | 'RetryInfo' | 'QuotaFailure';

/** google.rpc.Status with the details as Any messages. */
export function encodeStatusDetails(code: number, message: string, details: ErrorDetails): Buffer {
  const anys: { typeUrl: string; value: Uint8Array }[] = [];
  const add = (type: DetailType, value: Record<string, unknown>): void => {
    const encoded = types[type].encode(types[type].fromObject(value)).finish();
    anys.push({ typeUrl: TYPE_URL_PREFIX + type, value: encoded });
  };
  if (details.fieldViolations !== undefined) {
    add('BadRequest', { fieldViolations: details.fieldViolations });
  }
  if (details.retryAfterMs !== undefined) {
    const ms = Math.max(0, Math.round(details.retryAfterMs));
    add('RetryInfo', {
      retryDelay: { seconds: Math.floor(ms / 1000), nanos: (ms % 1000) * 1_000_000 },
    });
  }
  if (details.quota !== undefined) add('QuotaFailure', { violations: [details.quota] });
  const status = types.Status.fromObject({ code, message, details: anys });
  return Buffer.from(types.Status.encode(status).finish());
}

/**
 * Reads the details that we write; other details and damaged bytes give none: a peer's status is
 * still understood by its code.
 */
export function decodeStatusDetails(bytes: Uint8Array): ErrorDetails {
  try {
    const status = toObject('Status', bytes) as {
      details: { typeUrl: string; value: Uint8Array }[];
    };
    return status.details.reduce<ErrorDetails>(
      (all, any) => ({ ...all, ...decodeDetail(any.typeUrl, any.value) }),
      {},
    );
  } catch {
    return {};
  }
}

function decodeDetail(typeUrl: string, value: Uint8Array): ErrorDetails {
  switch (typeUrl.replace(TYPE_URL_PREFIX, '')) {
    case 'BadRequest': {
      const { fieldViolations } = toObject('BadRequest', value) as Required<
        Pick<ErrorDetails, 'fieldViolations'>
      >;
      return { fieldViolations };
    }
    case 'RetryInfo': {
      const { retryDelay } = toObject('RetryInfo', value) as {
        retryDelay: { seconds: number; nanos: number } | null;
      };
      if (retryDelay === null) return {};
      return { retryAfterMs: retryDelay.seconds * 1000 + Math.round(retryDelay.nanos / 1e6) };
    }
    case 'QuotaFailure': {
      const { violations } = toObject('QuotaFailure', value) as {
        violations: Required<ErrorDetails>['quota'][];
      };
      const [quota] = violations;
      return quota === undefined ? {} : { quota };
    }
    default:
      return {};
  }
}

function toObject(type: keyof typeof types, bytes: Uint8Array): unknown {
  const options = { longs: Number, defaults: true, arrays: true };
  return types[type].toObject(types[type].decode(bytes), options);
}
