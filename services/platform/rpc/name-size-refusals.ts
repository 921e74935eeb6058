import { ServerInterceptingCall, status, type ServerInterceptor } from '@grpc/grpc-js';

/** How a call ends, as grpc-js tells it. */
type Ended = Parameters<ServerInterceptingCall['sendStatus']>[0];

/** What grpc-js says of a message over a limit, by its beginning, and what to change. */
const ADVICE = [
  ['Received message', 'send it as several smaller ones'],
  ['Sent message', 'ask for less in one call'],
] as const;

/**
 * Gives the refusal of a message over the limit its code and what to change, as every other one
 * has. grpc-js refuses such a message itself: no handler sees it, and no interceptor is asked,
 * since the innermost call tells its own `sendStatus`. So that is what is wrapped here.
 */
export const nameSizeRefusals: ServerInterceptor = (_method, call) => {
  const send = call.sendStatus.bind(call);
  call.sendStatus = (ended) => {
    send(named(ended));
  };
  return new ServerInterceptingCall(call);
};

function named(ended: Ended): Ended {
  const { code, details } = ended;
  const advice = ADVICE.find(([beginning]) => details.startsWith(beginning))?.[1];
  if (code !== status.RESOURCE_EXHAUSTED || advice === undefined) return ended;
  return { ...ended, details: `MESSAGE_TOO_LARGE: ${details}: ${advice}` };
}
