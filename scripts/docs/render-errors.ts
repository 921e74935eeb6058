import { status } from '@grpc/grpc-js';
import { ERROR_CODES, type ErrorCode } from '../../services/domain/serving-error.js';
import { STATUS_BY_CODE } from '../../services/platform/rpc/status.js';
import { markdownTable } from './markdown-table.js';

/** What each code means to a caller and what to change. A code without a row does not compile. */
const ADVICE: Readonly<Record<ErrorCode, readonly [meaning: string, change: string]>> = {
  BAD_REQUEST: [
    'A field is missing, out of range or contradicts another.',
    'Change the field that the details name.',
  ],
  EMPTY_PROMPT: ['The upload closed without a token.', 'Send at least one part with content.'],
  INVALID_UTF8: [
    'A text part is not UTF-8, or the upload ended inside a character.',
    'Send UTF-8; a character may be split between parts but not left open at the end.',
  ],
  TOKEN_ID_OUT_OF_RANGE: [
    "A token id is not in the model's vocabulary.",
    'Send ids below the `vocab_size` that `ListModels` gives.',
  ],
  INVALID_SAMPLING: [
    'Temperature, top-k, top-p or the number of new tokens is outside its range.',
    'Keep to the ranges in `router_service.proto`.',
  ],
  INVALID_DEADLINE: ['The deadline is negative or has passed.', 'Send a deadline in the future.'],
  PROMPT_TOO_LONG: [
    'The prompt passes what the model can hold, or the `max_prompt_tokens` of its header.',
    'Shorten the prompt, or ask for a larger `max_prompt_tokens` where the model allows it.',
  ],
  CHAT_TEMPLATE_FAILED: [
    "The model's chat template refused the messages, or the model has none.",
    'Send roles in the order that the template knows, or raw text.',
  ],
  POLICY_NOT_AVAILABLE: [
    'The prefill or cache policy is in the contract but not in this build.',
    'Leave the policy unset, or choose one that `ListModels` offers.',
  ],
  UNKNOWN_MODEL: [
    'No worker and decode serve a model of this name.',
    'Choose a name from `ListModels`.',
  ],
  SESSION_NOT_FOUND: [
    'No session has this id: it never existed, or ended some time ago.',
    'Start a new session.',
  ],
  SESSION_BUSY: ['A turn of the session still runs.', 'Wait for its end, or cancel it.'],
  SESSION_ENDED: ['The session has ended and holds nothing any more.', 'Start a new session.'],
  STALE_EPOCH: [
    'The session was planned again; the message belongs to an older plan.',
    'Nothing: only services meet it, and they drop the older work.',
  ],
  VALUE_STORE_FULL: [
    'Host memory for keys and values is used up.',
    'Try again after the time in the details, or give the value store more room.',
  ],
  RESERVATION_EXCEEDED: [
    'The session needs more memory than was reserved at its start.',
    'Ask for a larger `max_prompt_tokens` in the header.',
  ],
  TOO_MANY_SESSIONS: [
    'As many sessions run as the cluster allows.',
    'Try again after the time in the details.',
  ],
  QUEUE_FULL: [
    "Too much already waits in the queues of all the model's workers.",
    'Try again after the time in the details, or start another worker.',
  ],
  MESSAGE_TOO_LARGE: [
    'One message passes the limit for its size.',
    'Send the prompt in several smaller parts.',
  ],
  NO_WORKER: [
    "No worker of the model is there, or none with the router's pattern file.",
    "Try again; start a worker if none runs, with the router's pattern file.",
  ],
  NO_DECODE: ['No decode of the model is there.', 'Try again; start a decode if none runs.'],
  WORKER_LOST: [
    'The worker of the session is gone, or came back with another pattern file, and no other took its work over in time.',
    'Send the request again.',
  ],
  DECODE_LOST: [
    'The decode of the session is gone, and no other took its work over in time.',
    'Send the request again.',
  ],
  REDIS_UNAVAILABLE: [
    'Redis does not answer. A session that had begun before may go on, or be ended later.',
    'Send the request again when it is back.',
  ],
  SESSION_LOST: ['Redis lost its data, and the session with it.', 'Send the request again.'],
  UPLOAD_LOST: [
    'The router that took the upload died, or was stopped, before the upload ended.',
    'Send the request again, from its first part.',
  ],
  SHUTTING_DOWN: [
    'This process is ending.',
    'Follow the session with `Resume` on another router; send what was not yet accepted again.',
  ],
  DATA_LOSS: [
    'Bytes did not match their checksum or fingerprint and were not used.',
    'Send the request again; look for faulty memory or mixed model files if it returns.',
  ],
  JOB_CORRUPT: [
    "A prefill job's payload was damaged on its way, and again after it was rebuilt.",
    'Send the request again; look for faulty memory, or for another program that writes to this Redis.',
  ],
  MODEL_INVALID: [
    'The model folder or its pattern file is missing, damaged, of a shape that is not supported, or the file is of another model.',
    'Check the folder with `longshadow models inspect DIR`; change the layer and head of the pattern file that the message names, or choose the file of this model ([minference.md](minference.md)).',
  ],
  CANCELLED: ["The client, or someone with the session's id, cancelled it.", 'Nothing.'],
  DEADLINE_EXCEEDED: [
    'The session did not end before its deadline.',
    'Give it more time or a shorter prompt.',
  ],
  UNAUTHENTICATED: [
    'The router wants an API key, and the call had none, or one that it does not know. A client without an accepted certificate is refused before, in the TLS handshake, which clients report as UNAVAILABLE.',
    'Send `authorization: Bearer KEY`; see [security.md](security.md).',
  ],
  PERMISSION_DENIED: [
    'The API key is right, but not for this tenant.',
    "Leave the header's `tenant` empty, or name the tenant of the key.",
  ],
  INTERNAL: [
    "A bug. The cause is in the service's log, never in the answer.",
    "Report it with the session's id and the time.",
  ],
};

/** docs/errors.md. */
export function renderErrors(): string {
  const rows = ERROR_CODES.map((code) => {
    const [meaning, change] = ADVICE[code];
    return [`\`${code}\``, `\`${status[STATUS_BY_CODE[code]]}\``, meaning, change];
  });
  return `<!-- Written by \`npm run docs:gen\` from services/domain/serving-error.ts. -->

# Errors

Every refusal and failure of a service has one code of this closed list. A call that fails ends with
a gRPC status whose message is \`CODE: what is wrong and what to change\`; a session that fails after
it was accepted also gets a last event with the same code. Where a program can act on more, the
\`grpc-status-details-bin\` trailer holds a \`google.rpc.Status\` with \`BadRequest\` (which field),
\`RetryInfo\` (when) or \`QuotaFailure\` (which limit).

What gRPC itself ends has the text of a gRPC library and no code: a connection or TLS handshake that
fails (\`UNAVAILABLE\`), a call's own deadline, a method that the service does not have
(\`UNIMPLEMENTED\`), bytes that are no message of the method (\`INTERNAL\`), and a message over a limit
that a client sets itself. \`longshadow\` shows those with the code that comes nearest.

Only \`UNAVAILABLE\` promises that the same call may safely be sent again.

${markdownTable(['Code', 'gRPC status', 'Meaning', 'What to change'], rows)}
`;
}
