import type { ChannelOptions, ServerOptions } from '@grpc/grpc-js';

/** Message limits of one side, in bytes. */
export interface MessageLimits {
  readonly maxReceiveBytes: number;
  readonly maxSendBytes: number;
}

const MIB = 2 ** 20;

/** Bulk data travels in 1 MiB pieces; 16 MiB leaves room for long prompts in one part. */
export const DEFAULT_MESSAGE_LIMITS: MessageLimits = {
  maxReceiveBytes: 16 * MIB,
  maxSendBytes: 16 * MIB,
};

/*
 * A prefill may keep a call silent for many minutes. Both sides ping every 30 s and give up on a
 * peer that does not answer within 20 s. grpc-js servers count no ping strikes (the options that
 * name them, grpc.http2.min_recv_ping_interval_without_data_ms and the like, exist in C++ only),
 * so no client is ever sent away with ENHANCE_YOUR_CALM; without max_connection_age and
 * max_connection_idle, which stay unset, no GOAWAY comes before a shutdown.
 */
const KEEPALIVE = {
  'grpc.keepalive_time_ms': 30_000,
  'grpc.keepalive_timeout_ms': 20_000,
} as const;

export function serverOptions(limits: MessageLimits): ServerOptions {
  return {
    ...KEEPALIVE,
    'grpc.max_receive_message_length': limits.maxReceiveBytes,
    'grpc.max_send_message_length': limits.maxSendBytes,
    'grpc.enable_channelz': 0,
  };
}

export function clientOptions(limits: MessageLimits): ChannelOptions {
  return {
    ...KEEPALIVE,
    'grpc.keepalive_permit_without_calls': 1,
    'grpc.max_receive_message_length': limits.maxReceiveBytes,
    'grpc.max_send_message_length': limits.maxSendBytes,
    // Doubles the throughput of large replies; grpc-js honours it in clients only.
    'grpc-node.flow_control_window': 4 * MIB,
    'grpc.initial_reconnect_backoff_ms': 100,
    'grpc.max_reconnect_backoff_ms': 2_000,
    // Cluster-internal traffic must not follow the http_proxy variable.
    'grpc.enable_http_proxy': 0,
    'grpc.enable_channelz': 0,
  };
}
