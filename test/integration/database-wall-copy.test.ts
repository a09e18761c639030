import fc from "fast-check";
import pg from "pg";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { AuditEvent, Micros } from "../../src/event/event.ts";
import { COPY_COLUMNS, copyRows, type PlacedRow, textsOf } from "../../src/storage/copy.ts";
import { insertRows } from "../../src/storage/insert.ts";
import { project } from "../../src/storage/row.ts";
import { asRole } from "../support/as-role.ts";
import { createTestDatabase, type TestDatabase } from "../support/services.ts";

/**
 * COPY writes past row-level security, so that a text which ends its column or row could become another tenant's event. Here
 * every column that can hold any text does, whatever admission would say to it, and INSERT with parameters, which escapes
 * nothing, says what should have come of it.
 */

let database: TestDatabase;
let pool: pg.Pool;

const MONTH = Date.UTC(new Date().getUTCFullYear(), 0, 1);
const DAYS_28 = 28 * 86_400_000;

beforeAll(async () => {
	database = await createTestDatabase();
	await asRole(database.url, "audit_maintainer", (maintainer) =>
		maintainer.query("SELECT audit.ensure_partition($1)", [new Date(MONTH)]),
	);
	// The superuser: reads what the writer may not.
	pool = new pg.Pool({ connectionString: database.url, max: 1 });
});

afterAll(async () => {
	await pool.end();
	await database.drop();
});

/** What means something to COPY, to arrays, to terminals, to JSON or to readers of any of them. */
const HOSTILE = [
	"\\N",
	"\\.",
	"\n\\.\n",
	"\\",
	"\\\\",
	"\\\n",
	"\\\t",
	"\\t",
	"\\x41",
	"\\101",
	"\\u0041",
	"\\b",
	"\\NULL",
	"NULL",
	"\t",
	"\n",
	"\r",
	"\r\n",
	"\t\t\t\t",
	"a\tglobex\tb",
	"\nglobex\t",
	"1\t2\n3\t4\n",
	"{",
	"}",
	'{"a","b"}',
	",",

	"'",
	'"',
	"''",
	"$1",
	"--",
	";",
	"%",
	"\u0085",
	"\u2028",
	"\u2029",
	"\ufeff",
	"\u202e",
	"\ufffd",
	"\uffff",
	"é",
	"e\u0301",
	"😀",
];
const controls = fc
	.integer({ min: 1, max: 0x9f })
	.map((code) => String.fromCharCode(code >= 0x20 && code < 0x7f ? 0x1f : code));
const piece = fc.oneof(
	fc.constantFrom(...HOSTILE),
	controls,
	// Any code point but U+0000, which PostgreSQL has no place for and admission refuses.
	fc.string({ unit: "binary", maxLength: 8 }).map((text) => text.replaceAll("\0", "0")),
);
const short = fc.array(piece, { maxLength: 4 }).map((pieces) => pieces.join(""));
const long = fc
	.tuple(short, fc.integer({ min: 1, max: 40_000 }))
	.map(([text, times]) => text.repeat(times).slice(0, 250_000).toWellFormed());
const text = fc.oneof({ weight: 30, arbitrary: short }, { weight: 1, arbitrary: long });
const maybe = fc.option(text, { nil: undefined });
/** Entries of indexes have a limit, far above what admission lets in. */
const maybeShort = fc.option(short, { nil: undefined });
const bytes = fc.uint8Array({ maxLength: 64 });

const placed: fc.Arbitrary<Omit<PlacedRow, "ord">> = fc
	.record({
		tenantId: fc.oneof(short, fc.constantFrom("acme", "globex", "")),
		id: fc.uuid(),
		occurredMillis: fc.integer({ min: MONTH, max: MONTH + DAYS_28 }),
		micros: fc.integer({ min: 0, max: 999 }),
		kind: fc.constantFrom(1, 2),
		action: short,
		texts: fc.record({
			source: maybe,
			actor: maybeShort,
			email: maybeShort,
			type: maybe,
			resource: maybeShort,
			request: maybe,
			trace: maybe,
		}),
		units: fc.record({ changes: maybe, description: maybe, metadata: maybe, reason: maybe }),
		hashes: fc.record({ salts: bytes, leafHash: bytes, contentMac: bytes }),
		batchId: fc.bigInt(-(2n ** 63n), 2n ** 63n - 1n),
	})
	.map(({ tenantId, id, occurredMillis, micros, kind, action, texts, units, hashes, batchId }) => {
		const event = {
			tenantId,
			id,
			kind,
			action,
			occurredAt: (BigInt(occurredMillis) * 1000n + BigInt(micros)) as Micros,
			recordedAt: (BigInt(occurredMillis) * 1000n) as Micros,
			units: {
				...units,
				facts: JSON.stringify({ source: texts.source, category: 7 }),
				actor: JSON.stringify({ actor: { id: texts.actor, email: texts.email } }),
				resources: JSON.stringify({ primary_resource: { type: texts.type, id: texts.resource } }),
				context: JSON.stringify({ request_id: texts.request, trace_id: texts.trace }),
			},
		} as unknown as AuditEvent;
		const row = { event, projection: project(event.units), ...hashes, salts: Buffer.from(hashes.salts) };
		return { row, batchId };
	});

const NAMES = Object.keys(COPY_COLUMNS);

/** What is in the table after `store`, every column as text; nothing of it lasts. */
async function storedBy(store: (client: pg.PoolClient) => Promise<unknown>): Promise<(string | null)[][]> {
	const client = await pool.connect();
	try {
		await client.query("BEGIN");
		await store(client);
		const { rows } = await client.query({
			text: `SELECT ${NAMES.map((name) => `${name}::text`).join(", ")} FROM audit.events ORDER BY ord`,
			rowMode: "array",
		});
		return rows;
	} finally {
		await client.query("ROLLBACK");
		client.release();
	}
}

test("every column comes back byte by byte, in its own column and row, and as INSERT has it", async () => {
	const keyOf = ({ row: { event } }: Omit<PlacedRow, "ord">) => `${event.id} ${event.occurredAt} ${event.tenantId}`;
	const batches = fc.uniqueArray(placed, { minLength: 1, maxLength: 6, selector: keyOf });
	await fc.assert(
		fc.asyncProperty(batches, async (batch) => {
			const rows = batch.map((each, ord): PlacedRow => ({ ...each, ord }));
			const copied = await storedBy((client) => copyRows(client, rows));
			const inserted = await storedBy((client) => insertRows(client, rows, { ifNew: false }));
			expect(copied).toEqual(inserted);
			expect(copied).toHaveLength(rows.length);
			// And INSERT has what was given: times and truth values are written otherwise than they are read.
			const isSame = NAMES.map(
				(name) => !["timestamptz", "boolean"].includes(COPY_COLUMNS[name as keyof typeof COPY_COLUMNS]),
			);
			rows.forEach((row, i) => {
				const given = textsOf(row).filter((_, column) => isSame[column]);
				expect(copied[i]?.filter((_, column) => isSame[column])).toEqual(given);
				expect(Number(copied[i]?.[NAMES.indexOf("ord")])).toBe(i);
			});
		}),
		{ numRuns: 100 },
	);
});
