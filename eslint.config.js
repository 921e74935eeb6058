import tseslint from 'typescript-eslint';

const LONGEST_FILE_LINES = 400;
const LONGEST_FUNCTION_LINES = 50;

export default tseslint.config(
  { ignores: ['build/', 'dist/', 'proto/gen/', '.cache/'] },
  {
    files: ['**/*.ts'],
    extends: [tseslint.configs.strictTypeChecked],
    languageOptions: {
      parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname },
    },
    rules: {
      'max-lines': ['error', LONGEST_FILE_LINES],
      'max-lines-per-function': [
        'error',
        { max: LONGEST_FUNCTION_LINES, skipBlankLines: true, skipComments: true },
      ],
      eqeqeq: 'error',
      'no-console': 'error',
      '@typescript-eslint/no-explicit-any': 'error',
      '@typescript-eslint/no-floating-promises': 'error',
      '@typescript-eslint/switch-exhaustiveness-check': [
        'error',
        { considerDefaultExhaustiveForUnions: true },
      ],
      '@typescript-eslint/consistent-type-imports': ['error', { fixStyle: 'inline-type-imports' }],
      '@typescript-eslint/no-unused-vars': [
        'error',
        { argsIgnorePattern: '^_', varsIgnorePattern: '^_' },
      ],
      '@typescript-eslint/restrict-template-expressions': [
        'error',
        { allowNumber: true, allowBoolean: true },
      ],
      '@typescript-eslint/no-confusing-void-expression': ['error', { ignoreArrowShorthand: true }],
    },
  },
  {
    files: ['services/cli/**/*.ts'],
    rules: { 'no-console': 'off' },
  },
  {
    files: ['test/**/*.ts'],
    rules: {
      'max-lines-per-function': 'off',
      'no-console': 'off',
      'no-restricted-imports': [
        'error',
        { name: 'node:assert', message: 'Use test/support/assert.ts.' },
        { name: 'node:assert/strict', message: 'Use test/support/assert.ts, which says why.' },
      ],
      // test() of node:test returns a promise that the runner itself awaits.
      '@typescript-eslint/no-floating-promises': [
        'error',
        {
          allowForKnownSafeCalls: [
            { from: 'package', name: ['test', 'it', 'describe', 'suite'], package: 'node:test' },
          ],
        },
      ],
    },
  },
  {
    files: ['test/support/assert.ts'],
    rules: { 'no-restricted-imports': 'off' },
  },
);
