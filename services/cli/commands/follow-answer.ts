import { showAnswer } from '../output/show-answer.js';
import type { AnswerEvent } from '../rpc/answer-events.js';
import type { LastingOptions } from '../rpc/lasting-answer.js';
import type { Routers } from '../rpc/routers.js';
import { EXIT_INTERRUPTED } from './exit-status.js';
import { openRouters, type RouterFlags } from './router-options.js';

/**
 * Shows an answer to its end; Ctrl-C leaves it, with the exit status of that.
 * @param ask what gives the answer
 */
export async function followAnswer(
  flags: RouterFlags & { readonly json?: boolean },
  ask: (routers: Routers, lasting: LastingOptions) => AsyncIterable<AnswerEvent>,
): Promise<void> {
  const routers = openRouters(flags);
  const interrupt = new AbortController();
  const onInterrupt = (): void => {
    interrupt.abort();
  };
  process.once('SIGINT', onInterrupt);
  const onLost = (lost: string, next: string): void => {
    const where = next === lost ? 'asking it again' : `going on at ${next}`;
    process.stderr.write(`router ${lost} is gone; ${where}\n`);
  };
  try {
    const events = ask(routers, { signal: interrupt.signal, onLost });
    if (flags.json === true) {
      for await (const event of events) process.stdout.write(`${JSON.stringify(event)}\n`);
    } else {
      await showAnswer(events);
    }
  } catch (error) {
    if (!interrupt.signal.aborted) throw error;
    process.stderr.write('\ncancelled\n');
    process.exitCode = EXIT_INTERRUPTED;
  } finally {
    process.removeListener('SIGINT', onInterrupt);
    routers.close();
  }
}
