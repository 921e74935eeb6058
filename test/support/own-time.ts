import { readFileSync } from 'node:fs';

/** Processor time of all cores since the machine started, in ticks. */
interface ProcessorTicks {
  readonly busy: number;
  /** Wanted by this machine, and given to others by its host. */
  readonly stolen: number;
}

/**
 * Time that this machine had for itself: on a shared host a virtual machine may stand still for half
 * a second, and a promise in milliseconds says nothing about that.
 *
 * @returns milliseconds since the call, less the share of the wanted processor time that was stolen
 */
export function ownTime(): () => number {
  const startMs = performance.now();
  const start = processorTicks();
  return () => {
    const elapsedMs = performance.now() - startMs;
    const now = processorTicks();
    const stolen = now.stolen - start.stolen;
    const wanted = now.busy - start.busy + stolen;
    return wanted > 0 ? elapsedMs * (1 - stolen / wanted) : elapsedMs;
  };
}

/** From `cpu user nice system idle iowait irq softirq steal ...`. */
function processorTicks(): ProcessorTicks {
  const [line = ''] = readFileSync('/proc/stat', 'utf8').split('\n');
  const ticks = line.trim().split(/\s+/).slice(1).map(Number);
  const [user = 0, nice = 0, system = 0, , , irq = 0, softirq = 0, stolen = 0] = ticks;
  return { busy: user + nice + system + irq + softirq, stolen };
}
