import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { create } from "@bufbuild/protobuf";
import { pino } from "pino";
import { deriveKeys } from "../src/auth/secret.ts";
import { Closer } from "../src/closer.ts";
import { startPostgres } from "../src/dev/postgres.ts";
import { admit } from "../src/event/admit.ts";
import type { TenantId } from "../src/event/event.ts";
import { microsOfDate } from "../src/event/time.ts";
import { ActorType, Category, EventSchema, Severity } from "../src/gen/audit/v1/event_pb.ts";
import { formBatch } from "../src/storage/batch.ts";
import { copyRows } from "../src/storage/copy.ts";
import { openDatabase } from "../src/storage/db.ts";
import { insertRows } from "../src/storage/insert.ts";
import { migrate } from "../src/storage/migrate.ts";
import { Partitions } from "../src/storage/partitions.ts";
import { type EventRow, prepareRow } from "../src/storage/row.ts";
import { writeTransaction } from "../src/storage/transaction.ts";

/**
 * How much slower is a flush stored by INSERT, as where the writer may not bypass row-level security, than by COPY?
 *
 *     node bench/insert.ts [ROUNDS]        (default 15)
 *
 * Batches of 5,000 new events in transactions of their own, without manifests, alternating, into one table. The figure is
 * the ratio of the medians, so that a noisy moment counts for little.
 */

const ROUNDS = Number(process.argv[2] ?? 15);
const ROWS = 5_000;
const SECRET = "bench-bench-bench-bench-bench-bench";

const closer = new Closer();
try {
	const folder = closer.add(mkdtempSync(join(tmpdir(), "auditlog-bench-")), (path) =>
		rmSync(path, { recursive: true, force: true }),
	);
	const postgres = closer.add(await startPostgres({ dataDir: join(folder, "postgres") }), (p) => p.stop());
	await migrate({ databaseUrl: postgres.url, secret: SECRET });
	await bench(postgres.url);
} finally {
	await closer.close();
}

async function bench(databaseUrl: string): Promise<void> {
	const keys = deriveKeys(SECRET);
	const db = closer.add(openDatabase({ databaseUrl, keys, logger: pino({ level: "warn" }) }), (d) => d.close());
	await new Partitions(db).ensureAhead(new Date());
	const ways = {
		copy: copyRows,
		insert: (...[client, rows]: Parameters<typeof copyRows>) => insertRows(client, rows, { ifNew: false }),
	};
	const millis = { copy: [] as number[], insert: [] as number[] };
	// The first round is for warming up.
	for (let round = 0; round <= ROUNDS; round += 1) {
		for (const way of round % 2 ? (["copy", "insert"] as const) : (["insert", "copy"] as const)) {
			const { placed } = formBatch(newRows(keys.contentMacs), () => 0n);
			const start = performance.now();
			await writeTransaction(db, async (client) => void (await ways[way](client, placed)));
			if (round > 0) millis[way].push(performance.now() - start);
		}
	}
	const [copy, insert] = [median(millis.copy), median(millis.insert)];
	const rate = (ms: number) => Math.round((ROWS / ms) * 1000);
	process.stdout.write(
		`COPY ${rate(copy)}/s, INSERT ${rate(insert)}/s, INSERT / COPY = ${(copy / insert).toFixed(2)} (medians of ${ROUNDS})\n`,
	);
}

function newRows(macKey: Parameters<typeof prepareRow>[1]): EventRow[] {
	return Array.from({ length: ROWS }, (_, i) => {
		const event = create(EventSchema, {
			action: "user.login",
			category: Category.AUTH,
			severity: Severity.INFO,
			actor: { type: ActorType.USER, id: `user-${(i * 7919) % 10_000}`, displayName: "Jane Doe" },
			primaryResource: { type: "user", id: `user-${(i * 104_729) % 10_000}` },
			description: "Successful portal login",
			metadata: { ip: "192.0.2.10" },
		});
		const recordedBy = { door: "nats", keyId: undefined } as const;
		const boundTenant = "tenant" as TenantId;
		const admitted = admit(event, { now: microsOfDate(new Date()), recordedBy, boundTenant, idSecret: macKey });
		if (!admitted.ok) throw new Error("the event was refused");
		return prepareRow(admitted.event, macKey);
	});
}

function median(numbers: readonly number[]): number {
	return [...numbers].sort((a, b) => a - b)[numbers.length >> 1] ?? Number.NaN;
}
