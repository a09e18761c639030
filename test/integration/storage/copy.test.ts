import fc from "fast-check";
import { Client } from "pg";
import { afterAll, beforeAll, expect, test } from "vitest";
import { checkTrail } from "../../support/check-trail.ts";
import { createTestDatabase, type TestDatabase, testSecret } from "../../support/services.ts";
import { anEvent, aWriter, openWritePath, type WritePath } from "../../support/write-path.ts";

let database: TestDatabase;
let path: WritePath;
let admin: Client;

beforeAll(async () => {
	database = await createTestDatabase();
	path = openWritePath({ databaseUrl: database.url, secret: testSecret() });
	admin = new Client({ connectionString: database.url });
	await admin.connect();
});

afterAll(async () => {
	await path.close();
	await admin.end();
	await checkTrail({ databaseUrl: database.url, secret: testSecret() });
	await database.drop();
});

const HOSTILE = [
	"\\N",
	"\\.",
	"\t",
	"\n",
	"\r",
	"\\",
	"\\\\",
	"\\t",
	"a\tglobex\tb",
	"\n\\.\n",
	"'",
	'"',
	"$1",
	"\u2028",
	"😀",
	"\\x00",
	"\b\v\f",
];

test("no text can end its column or its row: what COPY was given comes back, in its own tenant", async () => {
	// No U+0000: admission refuses it. Control characters are refused in ids, allowed in texts.
	const text = fc
		.oneof(fc.constantFrom(...HOSTILE), fc.string({ unit: "grapheme" }))
		.map((s) => s.replaceAll("\0", ""));
	const texts = fc.array(text, { minLength: 1, maxLength: 4 }).map((parts) => parts.join(""));
	await fc.assert(
		fc.asyncProperty(
			fc.array(fc.record({ description: texts, displayName: texts, key: texts, value: texts }), {
				minLength: 1,
				maxLength: 5,
			}),
			async (samples) => {
				const events = samples.map(({ description, displayName, key, value }) =>
					anEvent({ description, actor: { id: "u", displayName }, metadata: { [key]: value } }),
				);
				const results = await path.ingest.accept(events, aWriter(), { atomic: true });
				const ids = results.map((result) => (result.ok ? result.event.id : ""));
				const { rows } = await admin.query(
					"SELECT id, tenant_id, u_description, u_actor, u_metadata FROM audit.events WHERE id = ANY($1)",
					[ids],
				);
				expect(rows).toHaveLength(samples.length);
				samples.forEach((sample, i) => {
					const row = rows.find((candidate) => candidate.id === ids[i]);
					expect(row.tenant_id).toBe("acme");
					expect(JSON.parse(row.u_description ?? '""')).toBe(sample.description);
					expect(JSON.parse(row.u_actor).actor.display_name ?? "").toBe(sample.displayName);
					expect(JSON.parse(row.u_metadata)).toEqual({ [sample.key]: sample.value });
				});
			},
		),
		{ numRuns: 150 },
	);
});
