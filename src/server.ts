import { ApiKeyVerifier, findApiKeyIn } from "./auth/api-key-verifier.ts";
import { Authenticator } from "./auth/authenticator.ts";
import { type BelieveTokensOptions, believeTokens } from "./auth/believe-tokens.ts";
import { KeyChanges } from "./auth/key-changes.ts";
import { LastUses, writeUsesTo } from "./auth/last-uses.ts";
import { CertificateVerifier } from "./auth/mtls.ts";
import { type DerivedKeys, deriveKeys } from "./auth/secret.ts";
import { Closer } from "./closer.ts";
import type { Config } from "./config.ts";
import { AuditError } from "./errors.ts";
import { Exporter } from "./export/export.ts";
import { Turns } from "./export/turns.ts";
import { addGauges } from "./gauges.ts";
import { Ingest } from "./ingest/ingest.ts";
import { NatsDoor } from "./ingest/nats-door.ts";
import { Redriver } from "./ingest/redrive.ts";
import type { Logger } from "./logger.ts";
import { startLoop } from "./loop.ts";
import { Counts } from "./query/aggregate.ts";
import { KeyQuery } from "./query/api-keys.ts";
import { LetterQuery } from "./query/dead-letters.ts";
import { Query } from "./query/query.ts";
import { ReadLog, TELL_EVERY_MS } from "./query/read-log.ts";
import { TenantQuery } from "./query/tenants.ts";
import { openWalk } from "./query/walk.ts";
import { listen } from "./rpc/listen.ts";
import { type OpenTls, openTls } from "./rpc/open-tls.ts";
import { Appender } from "./storage/append.ts";
import type { ChainHead } from "./storage/batch.ts";
import { type Database, openDatabase } from "./storage/db.ts";
import { DISABLED_ASKED_MS } from "./storage/disabled-tenants.ts";
import { Partitions } from "./storage/partitions.ts";
import { SchemaVersion } from "./storage/schema-version.ts";
import { ServiceLog } from "./storage/service-log.ts";
import { LetterSettler } from "./storage/settle-letter.ts";
import { Tenants } from "./storage/tenants.ts";
import { Telemetry } from "./telemetry.ts";

export interface RunningServer {
	readonly httpUrl: string;
	readonly grpcUrl: string;
	/** The NATS door, if it is configured. */
	readonly natsDoor: NatsDoor | undefined;
	/** Looks at once whether files that are read again have changed. */
	reload(): void;
	/** Drains: the doors close, what was accepted is decided, then the connections end. */
	close(): Promise<void>;
}

const PARTITION_CHECK_MS = 3_600_000;
/** How many exports read at a time: with the counts fewer than the reader has connections, so that searches find some. */
const READING_EXPORTS = 4;

/**
 * The whole service on one page. Built sink-first: each line uses only what stands above it, so closing in reverse
 * drains the path from its source.
 */
export async function startServer(config: Config, logger: Logger): Promise<RunningServer> {
	for (const name of config.unknownNames) logger.warn({ name }, "unknown setting ignored");
	const closer = new Closer();
	try {
		const telemetry = new Telemetry();
		const keys = deriveKeys(config.secret);
		const db = closer.add(openDatabase({ databaseUrl: config.databaseUrl, keys, logger }), (d) => d.close());
		const schema = await checkSchema(db, logger);
		// Asked for the log's sake; while the database is away, the first write asks.
		void db.canCopy(db.writer).catch(() => {});
		const partitions = new Partitions(db);
		const repeat = (name: string, everyMs: number, job: () => Promise<void>) =>
			closer.add(startLoop(name, everyMs, logger, job), (loop) => loop.close());
		repeat("partitions", PARTITION_CHECK_MS, () => partitions.ensureAhead(new Date()));

		let natsDoor: NatsDoor | undefined;
		const onAppended = (head: ChainHead) => {
			telemetry.observe("audit_batch_events", {}, head.events);
			natsDoor?.publishChainHead(head);
		};
		const onAppendedByService = (head: ChainHead) => {
			telemetry.count("audit_events_stored_total", { door: "service" }, head.events);
			onAppended(head);
		};
		const hashing = { manifestKey: keys.manifests, contentMacKey: keys.contentMacs };
		const log = new ServiceLog({ db, partitions, ...hashing, onAppended: onAppendedByService });
		const tenants = new Tenants({ db, log });
		repeat("disabled tenants", DISABLED_ASKED_MS, () => tenants.disabled.refresh());
		const reads = closer.add(new ReadLog({ log, logger }), (r) => r.close());
		repeat("read summaries", TELL_EVERY_MS, () => reads.tellDue());
		const appender = new Appender({ db, tenants, partitions, ...hashing, logger, onAppended });
		const ingest = closer.add(
			new Ingest({
				append: (writes) => appender.append(writes),
				tenants,
				autoCreateTenants: config.autoCreateTenants,
				idSecret: keys.eventIds,
				contentMacKey: keys.contentMacs,
				telemetry,
				logger,
			}),
			(i) => i.close(),
		);
		const settler = new LetterSettler({ db, tenants, partitions, ...hashing, logger, onAppended: onAppendedByService });
		const redriver = new Redriver({ db, ingest, settler });
		const keyQuery = new KeyQuery({ db, pageTokenKey: keys.pageTokens });
		const tenantList = new TenantQuery({ db, pageTokenKey: keys.pageTokens });
		const keyChanges = new KeyChanges({ log, keys, tenants, logger });
		const tools = { keys, logger, telemetry, closer };
		const tls = await openTls(config, tools);
		const authenticator = openAuthenticator(config, { db, ...tools, identities: tls.identities });

		if (config.nats !== undefined) {
			natsDoor = closer.add(new NatsDoor({ ...config.nats, ingest, logger }), (door) => door.close());
			natsDoor.start();
		}
		addGauges(telemetry, { db, ingest, partitions, natsDoor });
		const readiness = () => checkReadiness(db, schema, natsDoor);
		const access = { keyChanges, keyQuery, tenants };
		const reading = { ...openReading(db, keys), reads };
		const calls = { ingest, ...reading, redriver, access, tenants, tenantList, disabled: tenants.disabled };
		const services = { ...calls, authenticator, readiness, telemetry, logger };
		const { httpUrl, grpcUrl } = closer.add(await listen({ ...config, tls: tls.files, ...services }), (doors) =>
			doors.close(),
		);
		logger.info({ http_url: httpUrl, grpc_url: grpcUrl }, "listening");
		return { httpUrl, grpcUrl, natsDoor, reload: () => tls.reload(), close: () => closer.close() };
	} catch (error) {
		await closer.close();
		throw error;
	}
}

async function checkSchema(db: Database, logger: Logger): Promise<SchemaVersion> {
	const schema = new SchemaVersion(db);
	await schema.require().catch((error: unknown) => {
		// A database that is away comes back, and is asked then; one that needs a person is told to that person now.
		if (!(error instanceof AuditError) || error.code !== "unavailable") throw error;
		logger.warn({ err: error.cause }, "the database is away; waiting for it");
	});
	return schema;
}

/** What answers questions about events and dead letters. */
function openReading(db: Database, { pageTokens }: DerivedKeys) {
	return {
		query: new Query({ db, pageTokenKey: pageTokens }),
		counts: new Counts({ db }),
		exporter: new Exporter({
			open: (request, tenantId, masked) => openWalk(db, request, tenantId, masked),
			tokenKey: pageTokens,
			turns: new Turns(READING_EXPORTS),
		}),
		letters: new LetterQuery({ db, pageTokenKey: pageTokens }),
	};
}

/** Who may be known, and how: by key always, by token and certificate if there are settings for it. */
function openAuthenticator(
	{ jwt }: Config,
	{ db, identities, ...tools }: BelieveTokensOptions & { db: Database; identities: OpenTls["identities"] },
): Authenticator {
	const { keys, logger, closer } = tools;
	const lastUses = closer.add(new LastUses({ write: writeUsesTo(db.writer), logger }), (uses) => uses.close());
	return new Authenticator({
		apiKeys: new ApiKeyVerifier(findApiKeyIn(db.keys), keys, (keyId) => lastUses.note(keyId)),
		tokens: believeTokens(jwt, tools),
		certificates: identities && new CertificateVerifier(identities, keys),
	});
}

/** Ready while writes can commit; what else is amiss is named, but does not turn callers away. */
async function checkReadiness(
	db: Database,
	schema: SchemaVersion,
	natsDoor: NatsDoor | undefined,
): Promise<{ ready: boolean; degraded: string[] }> {
	const degraded: string[] = [];
	const ready = await Promise.all([schema.require(), db.writer.query("SELECT")]).then(
		() => true,
		(error: unknown) => {
			const needsPerson = error instanceof AuditError && error.code === "failed_precondition";
			degraded.push(needsPerson ? `database: ${error.message}` : "database: away");
			return false;
		},
	);
	if (!natsDoor) degraded.push("nats: not configured");
	else degraded.push(...natsDoor.degraded());
	return { ready, degraded };
}
