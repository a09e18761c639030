import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { pino } from "pino";
import { deriveKeys } from "../../src/auth/secret.ts";
import type { TenantId } from "../../src/event/event.ts";
import { type Event, EventSchema } from "../../src/gen/audit/v1/event_pb.ts";
import { Ingest, type Writer } from "../../src/ingest/ingest.ts";
import { Appender } from "../../src/storage/append.ts";
import type { ChainHead } from "../../src/storage/batch.ts";
import { type Database, openDatabase } from "../../src/storage/db.ts";
import { Partitions } from "../../src/storage/partitions.ts";
import { ServiceLog } from "../../src/storage/service-log.ts";
import { Tenants } from "../../src/storage/tenants.ts";
import { Telemetry } from "../../src/telemetry.ts";

/** The write path as server.ts joins it, without the doors. */
export interface WritePath {
	readonly db: Database;
	readonly ingest: Ingest;
	readonly appender: Appender;
	readonly tenants: Tenants;
	readonly partitions: Partitions;
	/** Every batch committed so far. */
	readonly heads: ChainHead[];
	close(): Promise<void>;
}

export function openWritePath(database: {
	databaseUrl: string;
	secret: string;
	autoCreateTenants?: boolean;
}): WritePath {
	const keys = deriveKeys(database.secret);
	const logger = pino({ level: "silent" });
	const db = openDatabase({ databaseUrl: database.databaseUrl, keys, logger });
	const heads: ChainHead[] = [];
	const onAppended = (head: ChainHead) => void heads.push(head);
	const hashing = { manifestKey: keys.manifests, contentMacKey: keys.contentMacs };
	const partitions = new Partitions(db);
	const tenants = new Tenants({ db, log: new ServiceLog({ db, partitions, ...hashing, onAppended }) });
	const appender = new Appender({ db, tenants, partitions, ...hashing, logger, onAppended });
	const ingest = new Ingest({
		append: (writes) => appender.append(writes),
		tenants,
		autoCreateTenants: database.autoCreateTenants ?? true,
		idSecret: keys.eventIds,
		contentMacKey: keys.contentMacs,
		telemetry: new Telemetry(),
		logger,
	});
	const close = async () => {
		await ingest.close();
		await db.close();
	};
	return { db, ingest, appender, tenants, partitions, heads, close };
}

/** A writer that may write for these tenants, or for all. */
export function aWriter(...tenants: string[]): Writer {
	return {
		door: "rpc",
		keyId: "test-key",
		boundTenant: tenants.length === 1 ? (tenants[0] as TenantId) : undefined,
		mayWrite: (tenantId) => tenants.length === 0 || tenants.includes(tenantId),
	};
}

/** An event that is admitted as it is. */
export function anEvent(init: MessageInitShape<typeof EventSchema> = {}): Event {
	const given: MessageInitShape<typeof EventSchema> = {
		tenantId: "acme",
		action: "user.login",
		actor: { id: "user-1" },
	};
	return create(EventSchema, Object.assign(given, init));
}
