import { Client } from "pg";
import { test } from "vitest";
import { Closer } from "../../src/closer.ts";
import type { Micros } from "../../src/event/event.ts";
import { timestampOf } from "../../src/event/time.ts";
import { migrate } from "../../src/storage/migrate.ts";
import { checkTrail } from "../support/check-trail.ts";
import { startOwnPostgres, testSecret, waitFor } from "../support/services.ts";
import { anEvent, aWriter, openWritePath } from "../support/write-path.ts";

test("a month's events are frozen and analysed as they come, by PostgreSQL itself, while others are written", async () => {
	const closer = new Closer();
	try {
		const postgres = closer.add(await startOwnPostgres({ settings: { autovacuum_naptime: "1s" } }), (p) => p.stop());
		const databaseUrl = postgres.url;
		await migrate({ databaseUrl, secret: testSecret() });
		const path = closer.add(openWritePath({ databaseUrl, secret: testSecret() }), (p) => p.close());
		const admin = closer.add(new Client({ connectionString: databaseUrl }), (client) => client.end());
		await admin.connect();
		const closed = async () => {
			const { rows } = await admin.query<{ closed: boolean }>(
				`SELECT c.relpages > 0 AND c.relallfrozen >= c.relpages * 0.9 AND c.reltuples > 1000 AS closed
				 FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
				 WHERE i.inhparent = 'audit.events'::regclass ORDER BY c.relpages DESC LIMIT 1`,
			);
			return rows[0]?.closed === true;
		};
		const month = BigInt(Date.parse("2026-03-01T00:00:00Z")) * 1_000n;
		const write = (from: number) => {
			const events = Array.from({ length: 500 }, (_, i) =>
				anEvent({ tenantId: "acme", occurredAt: timestampOf((month + BigInt(from + i) * 1_000_000n) as Micros) }),
			);
			return path.ingest.accept(events, aWriter(), { atomic: true });
		};
		for (let from = 0; from < 5_000; from += 500) await write(from);
		await waitFor(closed);
		await write(5_000);
		await checkTrail({ databaseUrl, secret: testSecret() });
	} finally {
		await closer.close();
	}
});
