import {
  Server,
  ServerCredentials,
  type handleUnaryCall,
  type sendUnaryData,
  type ServiceError,
} from '@grpc/grpc-js';
import type {
  WorkerServiceClient,
  WorkerServiceHandlers,
} from '../../proto/gen/longshadow/worker/v1/WorkerService.js';
import { makeClient } from '../../services/platform/rpc/client.js';
import { loadService } from '../../services/platform/rpc/load-service.js';

/**
 * Stands between a worker and those that call it, and damages hand-offs on the way. Its address goes
 * into WORKER_ADVERTISE; the worker behind it is told with forwardTo().
 */
export class FaultWorkerProxy {
  /** Hand-offs that are still to be damaged. */
  toDamage = 0;
  /** Hand-offs that were. */
  damaged = 0;
  #worker: WorkerServiceClient | null = null;

  private constructor(
    private readonly server: Server,
    readonly address: string,
  ) {}

  static async start(): Promise<FaultWorkerProxy> {
    const server = new Server();
    const port = await new Promise<number>((resolve, reject) => {
      server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, bound) => {
        if (error === null) resolve(bound);
        else reject(error);
      });
    });
    const proxy = new FaultWorkerProxy(server, `127.0.0.1:${port}`);
    server.addService(loadService('worker').service, proxy.#handlers());
    return proxy;
  }

  forwardTo(address: string): void {
    this.#worker?.close();
    this.#worker = makeClient('worker', address, null);
  }

  stop(): void {
    this.#worker?.close();
    this.server.forceShutdown();
  }

  #handlers(): WorkerServiceHandlers {
    return {
      GetHandOff: (call) => {
        const isDamaged = this.toDamage > 0;
        if (isDamaged) this.toDamage -= 1;
        let isFirst = true;
        const answer = this.#target().getHandOff(call.request);
        answer.on('data', ({ piece }: { piece: Buffer }) => {
          if (isDamaged && isFirst) {
            const at = Math.floor(piece.length / 2);
            piece.writeUInt8(piece.readUInt8(at) ^ 1, at);
            this.damaged += 1;
          }
          isFirst = false;
          call.write({ piece });
        });
        answer.on('error', (error: ServiceError) => {
          call.emit('error', error);
        });
        answer.on('end', () => {
          call.end();
        });
      },
      GetStatus: forward((request, done) => this.#target().getStatus(request, done)),
      ReleaseSession: forward((request, done) => this.#target().releaseSession(request, done)),
      ReuseSegments: forward((request, done) => this.#target().reuseSegments(request, done)),
    };
  }

  #target(): WorkerServiceClient {
    if (this.#worker === null) throw new Error('the proxy has no worker behind it');
    return this.#worker;
  }
}

function forward<Request, Response>(
  send: (request: Request, done: (error: ServiceError | null, response?: Response) => void) => void,
): handleUnaryCall<Request, Response> {
  return ({ request }, callback: sendUnaryData<Response>) => {
    send(request, (error, response) => {
      if (error !== null) callback(error);
      else if (response !== undefined) callback(null, response);
    });
  };
}
