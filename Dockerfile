# The service as an image; docker-compose.yml runs it with all it needs.
# The version is that of the Node the tests run on (src/dev/package.json).
ARG NODE=node:24.21.0-trixie-slim

# What it needs when it runs. The embedded PostgreSQL of development is not among it: src/dev is not here yet.
FROM ${NODE} AS dependencies
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
RUN npm ci --omit=dev --no-audit --no-fund

# The package, as npm would publish it.
FROM ${NODE} AS build
WORKDIR /build
COPY package.json package-lock.json .npmrc ./
RUN npm ci --no-audit --no-fund
COPY tsconfig.json tsconfig.build.json README.md CHANGELOG.md LICENSE ./
COPY migrations migrations
COPY proto proto
COPY src src
RUN npm pack && mkdir package && tar -xzf auditlog-*.tgz -C package --strip-components=1

FROM ${NODE}
LABEL org.opencontainers.image.title="auditlog" \
      org.opencontainers.image.description="Multi-tenant, tamper-evident audit log service" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="Apache-2.0"
WORKDIR /app
COPY --from=build /build/package ./
COPY --from=dependencies /app/node_modules node_modules
# HOST: in a container the loopback address is reached by nobody.
ENV NODE_ENV=production HOST=0.0.0.0
# By number, so that Kubernetes can see that it is not root. Nothing is written anywhere.
USER 65532:65532
EXPOSE 8080 50051
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=7s --start-period=30s --retries=3 CMD ["node", "/app/dist/main.js", "health"]
# V8 lets its heap grow with the machine's memory, however little is in use: on a machine with much, the process would keep twice
# what it needs. With less than 2 GB of old space it collects sooner; that is still six times the bytes that the service's limits let it hold.
ENTRYPOINT ["node", "--max-old-space-size=1536", "--max-semi-space-size=8", "/app/dist/main.js"]
CMD ["serve"]
