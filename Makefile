# Everything a developer runs. `make help` lists it.

# npm installs Node 24 here on Linux; elsewhere the machine's own must be new enough (see `ready`).
MACHINE_PATH := $(PATH)
export PATH := $(CURDIR)/node_modules/.bin:$(PATH)

BASELINE := proto/baseline.binpb

.DEFAULT_GOAL := help

.PHONY: help
help: ## list what make can do
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-17s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# One command, run without a shell: make is then its parent, and the service watches make for signals.
.PHONY: run
run: ready ## start everything: PostgreSQL, NATS, the service and two demo tenants
	@node src/main.ts dev

.PHONY: test
test: ready ## run the whole suite against a PostgreSQL and a nats-server of its own
	vitest run

.PHONY: test-long
test-long: ready ## run the tests that take too long for every change
	vitest run --mode long

.PHONY: test-portability
test-portability: ready ## run the suite on other PostgreSQLs and nats-servers (RUN=name: one of them)
	node test/portability/run.ts $(RUN)

.PHONY: test-defects
test-defects: ready ## break each guarantee in a copy and require its test to notice
	node test/defects/run.ts

.PHONY: bench
bench: ready ## measure how fast events are stored, what access control costs, and what one tenant notices of another
	node bench/drain.ts
	node bench/access.ts
	node bench/noisy.ts
	node bench/oracle.ts

# Apart: an hour, and 30 GB of disk in the machine's folder for temporary files (bench/read-data.ts says how to have it back).
.PHONY: bench-read
bench-read: ready ## measure what it costs to search and to export logs of 1 and 10 million events
	node bench/read.ts
	node bench/read-export.ts

.PHONY: dev-setup
dev-setup: ready ## install, and migrate the database that DATABASE_URL names or `make run` keeps
	@node src/main.ts dev-setup

.PHONY: migrate
migrate: ready ## bring the database that DATABASE_URL names to this version
	@node src/main.ts migrate

.PHONY: lint
lint: ready ## lint the source and the protos
	oxlint
	buf lint

.PHONY: check
check: lint proto-fresh defects-fresh ## format, lint, types, architecture, protos compatible, generated files, docs and defects fresh
	@node src/dev/docs/write.ts --check
	biome check
	tsc --noEmit
	vitest run --mode static test/architecture.test.ts
	buf breaking proto --against $(BASELINE)

.PHONY: proto
proto: ready ## generate src/gen and the validation rules' proto
	node src/dev/print-validate-proto.ts > proto/buf/validate/validate.proto.new
	mv proto/buf/validate/validate.proto.new proto/buf/validate/validate.proto
	buf generate

.PHONY: docs
docs: ready ## write what of docs/ has its source in the code: API reference, OpenAPI, tables of settings and metrics
	@node src/dev/docs/write.ts

.PHONY: proto-fresh
proto-fresh: ready
	@rm -rf node_modules/.cache/fresh && mkdir -p node_modules/.cache/fresh
	@node src/dev/print-validate-proto.ts > node_modules/.cache/fresh/validate.proto
	@buf generate --output node_modules/.cache/fresh
	@diff -u proto/buf/validate/validate.proto node_modules/.cache/fresh/validate.proto \
		&& diff -r src/gen node_modules/.cache/fresh/src/gen \
		|| { echo "The generated files are not what the protos give: run make proto." >&2; exit 1; }

# Trying them takes minutes; that one no longer fits the code is seen at once.
.PHONY: defects-fresh
defects-fresh:
	@for defect in test/defects/*.patch; do \
		git apply --check $$defect || { echo "$$defect no longer applies" >&2; exit 1; }; \
	done

# What a release promised: written anew with each release, never to make `buf breaking` pass.
.PHONY: proto-baseline
proto-baseline: ready ## (release only) make today's protos the ones later ones must be compatible with
	buf build proto --exclude-source-info -o $(BASELINE)

.PHONY: ready
ready: node_modules/.package-lock.json
	@node -e 'process.exitCode = parseInt(process.versions.node) >= 24 ? 0 : 1' \
		|| { echo "Node 24 or newer is needed, and npm has none for this platform: install one. Found: $$(node --version)" >&2; exit 1; }

# npm runs on the machine's own Node: it replaces the one it would otherwise be running on.
node_modules/.package-lock.json: package-lock.json
	@PATH="$(MACHINE_PATH)" npm ci --no-audit --no-fund
	@ln -sf ../../src/dev/auditlog.sh node_modules/.bin/auditlog
	@touch $@
