# The worker: runs prompt chunks and keeps their keys and values in shared memory.
#   docker build -f deploy/worker.Dockerfile -t longshadow/worker .
FROM node:20.20.2-bookworm-slim AS build
RUN apt-get update && apt-get install -y --no-install-recommends \
      cmake g++ libdnnl-dev libisal-dev ninja-build nlohmann-json3-dev pkg-config \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
RUN npm ci --include=dev
COPY CMakeLists.txt tsconfig.json tsconfig.build.json ./
COPY scripts scripts
COPY proto proto
COPY native native
COPY services services
RUN npx cmake-js build --target addon \
    && node scripts/build-javascript.mjs && npm prune --omit=dev

FROM node:20.20.2-bookworm-slim
RUN apt-get update && apt-get install -y --no-install-recommends libdnnl2 libgomp1 libisal2 \
    && rm -rf /var/lib/apt/lists/*
ENV NODE_ENV=production
WORKDIR /app
COPY --from=build /app/package.json ./
COPY --from=build /app/node_modules node_modules
COPY --from=build /app/proto proto
COPY --from=build /app/dist dist
COPY --from=build /app/build/Release/addon.node build/Release/addon.node
COPY models models
COPY deploy/scripts deploy/scripts
USER node
EXPOSE 7001
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s \
  CMD ["node", "deploy/scripts/health-check.mjs", "127.0.0.1:7001"]
ENTRYPOINT ["node", "--enable-source-maps", "dist/services/worker/main.js"]
