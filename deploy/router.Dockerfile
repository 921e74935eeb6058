# The router: JavaScript only, no native engine.
#   docker build -f deploy/router.Dockerfile -t longshadow/router .
FROM node:20.20.2-bookworm-slim AS build
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
RUN npm ci --include=dev
COPY tsconfig.json tsconfig.build.json ./
COPY scripts scripts
COPY proto proto
COPY native/ts native/ts
COPY services services
RUN node scripts/build-javascript.mjs && npm prune --omit=dev

FROM node:20.20.2-bookworm-slim
ENV NODE_ENV=production
WORKDIR /app
COPY --from=build /app/package.json ./
COPY --from=build /app/node_modules node_modules
COPY --from=build /app/proto proto
COPY --from=build /app/dist dist
COPY models models
COPY deploy/scripts deploy/scripts
USER node
EXPOSE 7000
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s \
  CMD ["node", "deploy/scripts/health-check.mjs", "127.0.0.1:7000"]
ENTRYPOINT ["node", "--enable-source-maps", "dist/services/router/main.js"]
