import assert from '../../support/assert.js';
import { test } from 'node:test';
import type { Command } from 'commander';
import { makeProgram } from '../../../services/cli/program.js';

const NAMES = [
  ...['up', 'generate', 'resume', 'fork', 'status', 'keys', 'models', 'logits', 'greedy', 'demo'],
  ...['eval', 'bench', 'patterns'],
];

/** What `--help` prints of a command. */
function helpOf(command: Command): string {
  let text = '';
  command.configureOutput({ writeOut: (part) => (text += part) }).outputHelp();
  return text;
}

/** The commands that do something, by their words. */
function runnable(command: Command, words: readonly string[] = []): [string, Command][] {
  if (command.commands.length === 0) return [[words.join(' '), command]];
  return command.commands.flatMap((below) => runnable(below, [...words, below.name()]));
}

test("the program's help names every command and gives examples", () => {
  const program = makeProgram();
  assert.deepEqual(program.commands.map((command) => command.name()).sort(), [...NAMES].sort());
  const help = helpOf(program);
  for (const name of NAMES) assert.match(help, new RegExp(`^ {2}${name} `, 'm'), name);
  assert.match(help, /Examples:\n {2}\S/);
});

for (const [words, command] of runnable(makeProgram())) {
  test(`help of "${words}" says what it does and gives examples of it`, () => {
    assert.notEqual(command.description(), '');
    assert.match(helpOf(command), new RegExp(`Examples:\n(.*\n)*? {2}.*longshadow ${words} `));
  });
}
