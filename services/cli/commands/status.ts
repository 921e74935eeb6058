import type { Command } from 'commander';
import { formatBytes, formatCount, formatTable } from '../output/format.js';
import type { ClusterMemberStatus, ClusterStatus } from '../rpc/cluster-status.js';
import { addRouterOptions, openRouters, type RouterFlags } from './router-options.js';

const EXAMPLES = `
Examples:
  longshadow status --router 127.0.0.1:7000
  longshadow status --router 127.0.0.1:7000 --json | jq '.members[].residentBytes'`;

export function addStatusCommand(program: Command): void {
  const command = program
    .command('status')
    .description('Show members, memory and sessions of a cluster');
  addRouterOptions(command)
    .option('--json', 'one JSON object on standard output')
    .addHelpText('after', EXAMPLES)
    .action(async (flags: RouterFlags & { json?: boolean }) => {
      const routers = openRouters(flags);
      try {
        const status = await routers.status();
        process.stdout.write(
          `${flags.json === true ? JSON.stringify(status) : describeStatus(status)}\n`,
        );
      } finally {
        routers.close();
      }
    });
}

/** Digits of a digest that tell two pattern files apart; the same as in messages of the router. */
const DIGEST_BEGINNING = 12;

/** Members and sessions as two tables. */
export function describeStatus(status: ClusterStatus): string {
  const members = formatTable(
    [
      { title: 'MEMBER' },
      { title: 'ADDRESS' },
      { title: 'MODEL' },
      { title: 'DEVICE' },
      { title: 'STATE' },
      { title: 'SESSIONS', right: true },
      { title: 'STORE', right: true },
      { title: 'MAPPED', right: true },
      { title: 'PRIVATE', right: true },
      { title: 'RESIDENT', right: true },
      { title: 'WORK', right: true },
      { title: 'PATTERNS' },
    ],
    status.members.map(memberRow),
  );
  if (status.sessions.length === 0) return `${members}\n\nno sessions`;
  const sessions = formatTable(
    [
      { title: 'SESSION' },
      { title: 'STATE' },
      { title: 'MODEL' },
      { title: 'RECEIVED', right: true },
      { title: 'PREFILLED', right: true },
      { title: 'EPOCH', right: true },
      { title: 'RESERVED', right: true },
    ],
    status.sessions.map((session) => [
      session.sessionId,
      session.state,
      session.model,
      formatCount(session.receivedTokens),
      formatCount(session.nextToken),
      String(session.epoch),
      formatBytes(session.reservedBytes),
    ]),
  );
  return `${members}\n\n${sessions}`;
}

function memberRow(member: ClusterMemberStatus): string[] {
  const place = [member.memberId, member.address, member.model, member.device];
  if (!member.reachable) return [...place, 'unreachable'];
  const work =
    member.role === 'decode'
      ? `${formatCount(member.decodeSteps)} steps`
      : `${formatCount(member.prefillChunks)} chunks`;
  return [
    ...place,
    member.draining ? 'draining' : 'ready',
    formatCount(member.sessions),
    formatBytes(member.storeFileBytes),
    formatBytes(member.mappedBytes),
    formatBytes(member.privateBytes),
    formatBytes(member.residentBytes),
    work,
    member.patternsSha256.slice(0, DIGEST_BEGINNING),
  ];
}
