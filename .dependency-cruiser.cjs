/** Import directions. The prose version, with reasons, is in ARCHITECTURE.md. */
const forbid = (name, from, to, comment) => ({ name, severity: 'error', comment, from, to });

module.exports = {
  forbidden: [
    forbid('no-cycles', {}, { circular: true }, 'Cycles hide which module owns a decision.'),
    forbid(
      'domain-is-pure',
      { path: '^services/domain/' },
      { pathNot: '^services/domain/' },
      'domain/ runs with no network, native code, clock or npm package.',
    ),
    forbid(
      'platform-knows-no-service',
      { path: '^services/platform/' },
      { path: '^services/(router|worker|decode|cli)/' },
      'platform/ is plumbing shared by all services.',
    ),
    forbid(
      'services-meet-over-grpc',
      { path: '^services/(router|worker|decode|cli)/' },
      { path: '^services/(router|worker|decode|cli)/', pathNot: '^services/$1/' },
      'A service may not import another service.',
    ),
    forbid(
      'engine-host-serves-both',
      { path: '^services/engine-host/' },
      { path: '^services/(router|worker|decode|cli)/' },
      'engine-host/ is what worker and decode share around one engine.',
    ),
    forbid(
      'router-has-no-engine',
      { path: '^services/(router|platform|domain)/' },
      { path: '^(native/|services/engine-host/)' },
      'The router image carries no add-on; what all services share must not need it either.',
    ),
    forbid(
      'one-door-to-the-engine',
      { path: '^services/' },
      { path: '^native/ts/(?!index\\.ts$)' },
      'Services see the typed face of the add-on, native/ts/index.ts, and nothing behind it.',
    ),
    forbid(
      'native-face-is-alone',
      { path: '^native/ts/' },
      { path: '^(services|proto|test)/' },
      'The typed face of the add-on knows nothing of the services.',
    ),
    forbid(
      'wire-types-stay-at-the-edge',
      { path: '^services/', pathNot: '^services/[^/]+/rpc/' },
      { path: '^proto/gen/' },
      'Generated messages are converted to domain types in rpc/.',
    ),
    forbid(
      'nothing-imports-tests',
      { pathNot: '^test/' },
      { path: '^test/' },
      'Shared fixtures live in test/support.',
    ),
    forbid(
      'no-missing-modules',
      {},
      { couldNotResolve: true },
      'An import must name something that is there.',
    ),
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    exclude: { path: '^(build|dist)/' },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
    enhancedResolveOptions: {
      exportsFields: ['exports'],
      conditionNames: ['import', 'require', 'node', 'default', 'types'],
    },
  },
};
