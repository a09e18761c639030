import { create, toBinary, toJsonString } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { toAuditError } from "../../src/client/index.ts";
import { BatchWriteRequestSchema } from "../../src/gen/audit/v1/audit_service_pb.ts";
import { DeadLetterState, RedriveOutcome, type RedriveResult } from "../../src/gen/audit/v1/dead_letter_service_pb.ts";
import { type Event, EventSchema } from "../../src/gen/audit/v1/event_pb.ts";
import { type LetterService, startLetterService } from "../support/letter-service.ts";
import { eventMessage, type Outgoing, untilDrained } from "../support/nats-client.ts";
import { createKey } from "../support/rpc-service.ts";
import { waitFor } from "../support/services.ts";
import { anEvent } from "../support/write-path.ts";

let service: LetterService;

beforeEach(async () => {
	service = await startLetterService();
});
afterEach(() => service.end());

const json = (event: Event, subject = "audit.events"): Outgoing => ({
	subject,
	data: toJsonString(EventSchema, event),
});
const batch = (subject: string, ...events: Event[]): Outgoing => ({
	subject,
	data: toBinary(BatchWriteRequestSchema, create(BatchWriteRequestSchema, { events })),
	headers: { "Audit-Type": "batch" },
});

interface StoredEvent {
	id: string;
	at: string;
	action: string;
	tenant: string;
	actor: string;
	resource: string;
	related: string | null;
	door: string;
	why: string | null;
}

/** What is in the logs, but for their beginnings, and that the letters were read. */
async function stored(): Promise<StoredEvent[]> {
	const { rows } = await service.admin.query<StoredEvent>(
		`SELECT id, to_char(occurred_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US') AS at, action, tenant_id AS tenant,
		        actor_id AS actor, resource_id AS resource, u_resources::jsonb #>> '{related_resources,0,id}' AS related,
		        u_facts::jsonb #>> '{recorded_by,door}' AS door, u_reason::jsonb ->> 'reason' AS why
		 FROM audit.events WHERE action <> ALL ('{audit.log.created,audit.read}') ORDER BY batch_id, ord`,
	);
	return rows;
}

/** Everything that a dry run must leave as it is. */
async function everything(): Promise<unknown> {
	const { rows } = await service.admin.query(
		`SELECT (SELECT count(*) FROM audit.events) AS events, (SELECT count(*) FROM audit.manifests) AS batches,
		        (SELECT count(*) FROM audit.tenants) AS tenants, (SELECT count(*) FROM audit.dead_letter_actions) AS actions,
		        (SELECT count(*) FROM pg_inherits WHERE inhparent = 'audit.events'::regclass) AS partitions`,
	);
	return rows[0];
}

async function redrive(ids: string[], dryRun = false): Promise<RedriveResult[]> {
	return (await service.operator.redriveDeadLetters({ ids, dryRun })).results;
}

const codeOf = (call: Promise<unknown>) =>
	call.then(
		() => "ok",
		(error: unknown) => toAuditError(error).code,
	);

describe("a dead letter", () => {
	test("is listed and shown with all there is to know of it", async () => {
		await service.makeTenants("acme");
		const sentAt = Date.now();
		const [letter] = await service.publish({
			subject: "audit.events.acme",
			data: '{"action":"Not An Action"}',
			headers: { "X-Mine": "1" },
		});
		const info = await service.nats.jsm.streams.info("AUDIT");
		expect(letter).toMatchObject({
			id: `${Date.parse(info.created).toString(36)}-1-0`,
			tenantId: "acme",
			state: DeadLetterState.OPEN,
			reason: "INVALID_EVENT",
			subject: "audit.events.acme",
			bodySize: 26,
			streamSeq: 1n,
			position: 0,
		});
		expect(Number(letter?.receivedAt?.seconds) * 1000).toBeGreaterThan(sentAt - 2_000);
		const shown = await service.operator.getDeadLetter({ id: letter?.id ?? "" });
		expect(Buffer.from(shown.body).toString()).toBe('{"action":"Not An Action"}');
		expect(shown.headers).toMatchObject([{ name: "X-Mine", values: ["1"] }]);
		expect(shown.violations.map(({ field }) => field)).toEqual(["action", "actor"]);
		expect(shown.deadLetter).toMatchObject({
			id: letter?.id,
			message: "action: must be 1 to 127 of a-z 0-9 . _ - (and 1 more)",
		});
		expect(shown.history).toEqual([]);
	});

	test("is found by tenant, state, reason and time, and page by page, each once", async () => {
		const bad = (tenant: string, n: number): Outgoing[] =>
			Array.from({ length: n }, () => ({ subject: `audit.events.${tenant}`, data: "{}" }));
		const letters = await service.publish(...bad("acme", 7), ...bad("globex", 3), {
			subject: "audit.events.acme",
			data: "{",
		});
		expect(letters).toHaveLength(11);
		const ids = async (filter: object) =>
			(await service.operator.listDeadLetters({ filter, pageSize: 200 })).deadLetters.map(({ id }) => id);
		expect(await ids({ tenantId: "globex" })).toHaveLength(3);
		expect(await ids({ reasons: ["UNDECODABLE_JSON"] })).toEqual([letters[10]?.id]);
		expect(await ids({ tenantId: "acme", reasons: ["UNDECODABLE_JSON", "INVALID_EVENT"] })).toHaveLength(8);
		expect(await ids({ state: DeadLetterState.DISCARDED })).toEqual([]);
		expect(await ids({ receivedBefore: timestampFromMs(Date.now() - 3_600_000) })).toEqual([]);
		expect(await ids({ receivedAfter: timestampFromMs(Date.now() - 3_600_000) })).toHaveLength(11);

		const paged: string[] = [];
		let pageToken = "";
		do {
			const page = await service.operator.listDeadLetters({ pageSize: 4, pageToken });
			paged.push(...page.deadLetters.map(({ id }) => id));
			pageToken = page.nextPageToken;
		} while (pageToken !== "");
		expect(paged).toEqual(letters.map(({ id }) => id).reverse());
	});

	test("page tokens are bound to the filter and to what the key may see", async () => {
		const bad = { subject: "audit.events.acme", data: "{}" };
		await service.publish(bad, bad, bad);
		const { nextPageToken: pageToken } = await service.operator.listDeadLetters({ pageSize: 1 });
		expect(pageToken).not.toBe("");
		const other = await service.operatorOf("acme");
		const filter = { tenantId: "acme" };
		expect(await codeOf(service.operator.listDeadLetters({ pageSize: 2, pageToken }))).toBe("ok");
		expect(await codeOf(service.operator.listDeadLetters({ filter, pageToken }))).toBe("invalid_argument");
		expect(await codeOf(other.listDeadLetters({ pageToken }))).toBe("invalid_argument");
		expect(await codeOf(service.operator.listDeadLetters({ pageToken: `${pageToken}A` }))).toBe("invalid_argument");
	});

	test("a list that PostgreSQL ends for taking too long says what to change", async () => {
		const { admin } = service;
		await admin.query("BEGIN");
		await admin.query("LOCK TABLE audit.dead_letters IN ACCESS EXCLUSIVE MODE");
		const refused = expect(service.operator.listDeadLetters({}).catch(toAuditError)).resolves.toMatchObject({
			code: "deadline_exceeded",
			reason: "SEARCH_TOO_SLOW",
		});
		// The server's own limit ends a statement just as this does.
		await waitFor(async () => {
			// Or a transaction sees for ever who was active when it first looked.
			await admin.query("SELECT pg_stat_clear_snapshot()");
			const { rows } = await admin.query(
				"SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE usename = 'audit_reader' AND datname = current_database() AND wait_event_type = 'Lock'",
			);
			return rows.length;
		});
		await admin.query("ROLLBACK");
		await refused;
	});

	test("requests that make no sense are refused with every violation", async () => {
		const filter = {
			reasons: ["no word"],
			state: 9 as DeadLetterState,
			receivedAfter: timestampFromMs(2_000),
			receivedBefore: timestampFromMs(1_000),
		};
		const listed = service.operator.listDeadLetters({ filter, pageSize: -1 });
		const { violations } = toAuditError(await listed.catch((error: unknown) => error));
		expect(violations.map(({ field }) => field)).toEqual([
			"filter.received_before",
			"filter.state",
			"filter.reasons[0]",
			"page_size",
		]);
		for (const call of [
			service.operator.getDeadLetter({ id: "x" }),
			service.operator.listDeadLetters({ filter: { tenantId: "a b" } }),
			service.operator.redriveDeadLetters({}),
			service.operator.redriveDeadLetters({ ids: ["1-01-0"] }),
			service.operator.redriveDeadLetters({ ids: ["1-1-0"], filter: {} }),
			service.operator.redriveDeadLetters({ filter: { state: DeadLetterState.DISCARDED } }),
			service.operator.discardDeadLetters({ ids: ["1-1-0"] }),
			service.operator.discardDeadLetters({ ids: [], reason: "r" }),
			service.operator.discardDeadLetters({ ids: ["1-1-0"], reason: "x".repeat(4_097) }),
		]) {
			expect(await codeOf(call)).toBe("invalid_argument");
		}
	});
});

describe("redriving", () => {
	test("stores what was refused for its tenant alone, with the identity the door would have given it", async () => {
		const [letter] = await service.publish(json(anEvent({ tenantId: "newco" })));
		expect(letter).toMatchObject({ reason: "TENANT_NOT_FOUND", tenantId: "newco" });
		const id = letter?.id ?? "";
		expect(await redrive([id])).toMatchObject([{ outcome: RedriveOutcome.REFUSED, reason: "TENANT_NOT_FOUND" }]);

		await service.makeTenants("newco");
		const [result] = await redrive([id]);
		expect(result).toMatchObject({
			id,
			outcome: RedriveOutcome.STORED,
			events: [{ tenantId: "newco", duplicate: false }],
		});
		const [event, notice, ...rest] = await stored();
		expect(rest).toEqual([]);
		const message = await service.nats.jsm.streams.getMessage("AUDIT", { seq: 1 });
		expect(event).toMatchObject({
			id: result?.events[0]?.eventId,
			at: message.timestamp.replace(/Z$/, "").padEnd(26, "0").slice(0, 26),
			action: "user.login",
			tenant: "newco",
			door: "nats",
		});
		const [, keyId] = service.key.split("_");
		expect(notice).toMatchObject({
			action: "audit.dead_letters.redriven",
			tenant: "newco",
			actor: keyId,
			resource: id,
			related: event?.id,
			door: "service",
		});
		// The message itself, delivered once more, is recognised: it has that identity.
		await service.nats.jsm.consumers.delete("AUDIT", "audit-writer");
		await untilDrained(service.nats, 30_000);
		expect(await stored()).toHaveLength(2);

		const shown = await service.operator.getDeadLetter({ id });
		expect(shown.deadLetter?.state).toBe(DeadLetterState.REDRIVEN);
		expect(shown.history).toMatchObject([
			{ state: DeadLetterState.REDRIVEN, keyId, reason: "", events: [{ tenantId: "newco", eventId: event?.id }] },
		]);
	});

	test("finds an event that came by redelivery first: a duplicate, and the letter is done with all the same", async () => {
		const [letter] = await service.publish(json(anEvent({ tenantId: "newco" })));
		await service.makeTenants("newco");
		await service.nats.jsm.consumers.delete("AUDIT", "audit-writer");
		await untilDrained(service.nats, 30_000);
		expect(await stored()).toHaveLength(1);
		const ids = [letter?.id ?? ""];
		for (const dryRun of [true, false]) {
			const results = await redrive(ids, dryRun);
			expect(results).toMatchObject([{ outcome: RedriveOutcome.DUPLICATE, events: [{ duplicate: true }] }]);
		}
		expect((await stored()).map(({ action }) => action)).toEqual(["user.login", "audit.dead_letters.redriven"]);
	});

	test("a dry run says what would happen and changes nothing", async () => {
		await service.makeTenants("acme");
		const old = { seconds: BigInt(Math.floor(Date.now() / 1000) - 5 * 31_536_000), nanos: 0 };
		const events = [anEvent({ tenantId: "newco", occurredAt: old }), anEvent({ action: "NO" })];
		const letters = await service.publish(...events.map((event) => json(event)));
		await service.makeTenants("newco");
		const before = await everything();
		const expected = [
			{ outcome: RedriveOutcome.WOULD_BE_STORED, events: [{ tenantId: "newco", occurredAt: old, duplicate: false }] },
			{ outcome: RedriveOutcome.REFUSED, reason: "INVALID_EVENT", violations: [{ field: "action" }] },
		];
		expect(
			await redrive(
				letters.map(({ id }) => id),
				true,
			),
		).toMatchObject(expected);
		const byFilter = await service.operator.redriveDeadLetters({ filter: {}, dryRun: true });
		expect(byFilter.results).toMatchObject(expected.toReversed());
		expect(await everything()).toEqual(before);
		const { deadLetters } = await service.operator.listDeadLetters({ filter: { state: DeadLetterState.OPEN } });
		expect(deadLetters).toHaveLength(2);
	});

	test("what is refused again stays open, with all that is wrong with it", async () => {
		await service.makeTenants("acme");
		const id = "0198c0de-0000-7000-8000-000000000001";
		const taken = anEvent({ id });
		const letters = await service.publish(
			eventMessage(taken),
			{ subject: "audit.events.acme", data: Uint8Array.of(0xff, 0xff) },
			eventMessage(anEvent({ id, description: "other content" })),
			json(anEvent({ tenantId: "globex" }), "audit.events.acme"),
			{ subject: "audit.events.a/b", data: toBinary(EventSchema, anEvent()) },
			{ subject: "audit.events.acme", data: '{"action":"","actor":{}}' },
		);
		for (const dryRun of [true, false]) {
			const results = await redrive(
				letters.map((letter) => letter.id),
				dryRun,
			);
			expect(results.map(({ outcome }) => outcome)).toEqual(Array(5).fill(RedriveOutcome.REFUSED));
			expect(results.map(({ reason }) => reason)).toEqual(letters.map(({ reason }) => reason));
			expect(results[4]?.violations.map(({ field }) => field)).toEqual(["action", "actor.id"]);
		}
		expect(await stored()).toHaveLength(1);
		const { deadLetters } = await service.operator.listDeadLetters({ filter: { state: DeadLetterState.OPEN } });
		expect(deadLetters).toHaveLength(5);
	});

	test("an event of a batch is redriven alone, in its place; redriven again it is found stored", async () => {
		await service.makeTenants("acme");
		const letters = await service.publish(
			batch(
				"audit.events",
				anEvent({ action: "b.0" }),
				anEvent({ tenantId: "newco", action: "b.1" }),
				anEvent({ tenantId: "newco", action: "b.2" }),
			),
		);
		expect(letters.map(({ position }) => position)).toEqual([1, 2]);
		await service.makeTenants("newco");
		const [first, second] = await redrive(letters.map(({ id }) => id));
		expect([first?.outcome, second?.outcome]).toEqual([RedriveOutcome.STORED, RedriveOutcome.STORED]);
		expect(first?.events[0]?.eventId).not.toBe(second?.events[0]?.eventId);
		const actions = (await stored()).filter(({ door }) => door === "nats").map(({ action }) => action);
		expect(actions).toEqual(["b.0", "b.1", "b.2"]);
		expect(await redrive(letters.map(({ id }) => id))).toMatchObject([
			{ outcome: RedriveOutcome.DUPLICATE, events: first?.events.map(({ eventId }) => ({ eventId, duplicate: true })) },
			{ outcome: RedriveOutcome.DUPLICATE },
		]);
		expect(await stored()).toHaveLength(5);
	});

	test("an event of a batch is read as what the batch was, protobuf or JSON, whatever it looks like", async () => {
		await service.makeTenants("acme");
		const text = toJsonString(EventSchema, anEvent());
		// Field 1, as long as the text; and an event's bytes in the place of a JSON event, where they are a string.
		const protobuf = Buffer.concat([Buffer.of(0x0a, text.length), Buffer.from(text)]);
		const bytes = Buffer.from(toBinary(EventSchema, anEvent())).toString("latin1");
		const letters = await service.publish(
			{ subject: "audit.events", data: protobuf, headers: { "Audit-Type": "batch" } },
			{ subject: "audit.events", data: JSON.stringify({ events: [bytes] }), headers: { "Audit-Type": "batch" } },
		);
		expect(letters.map(({ reason }) => reason)).toEqual(["UNDECODABLE_PROTOBUF", "UNDECODABLE_JSON"]);
		const results = await redrive(letters.map(({ id }) => id));
		expect(results.map(({ reason }) => reason)).toEqual(["UNDECODABLE_PROTOBUF", "UNDECODABLE_JSON"]);
		expect(await stored()).toEqual([]);
	});

	describe("of letters that older versions have stored", () => {
		/** A version with other limits, and without the column that says what a body is. */
		async function insertLetter(seq: number, reason: string, body: Uint8Array): Promise<string> {
			const created = new Date("2026-01-31T12:00:00.123Z");
			await service.admin.query(
				`INSERT INTO audit.dead_letters (stream_created, stream_seq, position, subject, reason, message, headers, body, published_at)
				 VALUES ($1, $2, 0, 'audit.events', $3, 'as it was', '{"Audit-Type":["batch"]}', $4, '2026-01-31T12:00:01.000007Z')`,
				[created, seq, reason, body],
			);
			return `${created.getTime().toString(36)}-${seq}-0`;
		}

		test("a batch becomes its events, all or none, each with its place's identity", async () => {
			await service.makeTenants("acme", "globex");
			const batchOf = (...events: Event[]) => batch("", ...events).data as Uint8Array;
			const [a, b, c] = [
				anEvent({ action: "w.0" }),
				anEvent({ tenantId: "globex", action: "w.1" }),
				anEvent({ action: "w.2" }),
			];
			const good = await insertLetter(7, "BATCH_TOO_LARGE", batchOf(a, b, c));
			const bad = await insertLetter(8, "BATCH_TOO_LARGE", batchOf(a, anEvent({ action: "", actor: {} as never })));
			const [first, second] = await redrive([good, bad]);
			expect(first?.events.map(({ tenantId }) => tenantId)).toEqual(["acme", "globex", "acme"]);
			expect(new Set(first?.events.map(({ eventId }) => eventId)).size).toBe(3);
			expect(second).toMatchObject({ outcome: RedriveOutcome.REFUSED, reason: "INVALID_EVENT" });
			expect(second?.message).toMatch(/^events\[1\]: action: is required/);
			expect(second?.violations.map(({ field }) => field)).toEqual(["events[1].action", "events[1].actor.id"]);
			const rows = await stored();
			const made = rows.filter(({ door }) => door === "nats").map(({ tenant, action }) => `${tenant} ${action}`);
			expect(new Set(made)).toEqual(new Set(["acme w.0", "acme w.2", "globex w.1"]));
			expect(made).toHaveLength(3);
			const notices = rows.filter(({ action }) => action === "audit.dead_letters.redriven");
			expect(notices.map(({ tenant, resource }) => [tenant, resource])).toEqual([
				["acme", good],
				["globex", good],
			]);
		});

		test("an event of a batch is not taken for a batch", async () => {
			await service.makeTenants("acme");
			const id = await insertLetter(9, "TENANT_NOT_FOUND", toBinary(EventSchema, anEvent()));
			expect(await redrive([id])).toMatchObject([{ outcome: RedriveOutcome.STORED, events: [{ tenantId: "acme" }] }]);
		});
	});

	test("twenty at once store the event once, and tell of it once", async () => {
		const [letter] = await service.publish(json(anEvent({ tenantId: "newco" })));
		await service.makeTenants("newco");
		const ids = [letter?.id ?? ""];
		const outcomes = (await Promise.all(Array.from({ length: 20 }, () => redrive(ids)))).map(([r]) => r?.outcome);
		expect(outcomes.filter((outcome) => outcome === RedriveOutcome.STORED)).toHaveLength(1);
		expect(outcomes.filter((outcome) => outcome === RedriveOutcome.DUPLICATE)).toHaveLength(19);
		expect((await stored()).map(({ action }) => action)).toEqual(["user.login", "audit.dead_letters.redriven"]);
	});

	test("by filter, page by page, takes every open letter that matches and no other", async () => {
		await service.makeTenants("acme");
		const events = Array.from({ length: 7 }, (_, i) => anEvent({ tenantId: "newco", action: `n.${i}` }));
		await service.publish(...events.map((event) => json(event)), json(anEvent({ action: "NO" })));
		await service.makeTenants("newco");
		const filter = { reasons: ["TENANT_NOT_FOUND"] };
		let pageToken = "";
		const results: RedriveResult[] = [];
		do {
			const page = await service.operator.redriveDeadLetters({ filter, pageSize: 3, pageToken });
			results.push(...page.results);
			pageToken = page.nextPageToken;
		} while (pageToken !== "");
		expect(results.map(({ outcome }) => outcome)).toEqual(Array(7).fill(RedriveOutcome.STORED));
		const { deadLetters } = await service.operator.listDeadLetters({ filter: { state: DeadLetterState.OPEN } });
		expect(deadLetters.map(({ reason }) => reason)).toEqual(["INVALID_EVENT"]);
	});
});

describe("discarding", () => {
	test("is recorded with who, when and why, told in the tenant's log, and final", async () => {
		await service.makeTenants("acme");
		const [letter] = await service.publish({ subject: "audit.events.acme", data: "{}" });
		const request = { ids: [letter?.id ?? ""], reason: "a test of ours, OPS-112" };
		const [, keyId] = service.key.split("_");
		expect((await service.operator.discardDeadLetters(request)).results).toMatchObject([
			{ state: DeadLetterState.DISCARDED, changed: true },
		]);
		expect((await service.operator.discardDeadLetters({ ...request, reason: "again" })).results).toMatchObject([
			{ state: DeadLetterState.DISCARDED, changed: false },
		]);
		expect(await stored()).toMatchObject([
			{
				action: "audit.dead_letters.discarded",
				tenant: "acme",
				actor: keyId,
				resource: letter?.id,
				why: request.reason,
				door: "service",
			},
		]);
		const shown = await service.operator.getDeadLetter({ id: letter?.id ?? "" });
		expect(shown.history).toMatchObject([
			{ state: DeadLetterState.DISCARDED, keyId, reason: request.reason, events: [] },
		]);
		expect(Buffer.from(shown.body).toString()).toBe("{}");
		expect(await redrive(request.ids)).toMatchObject([
			{ outcome: RedriveOutcome.REFUSED, reason: "DEAD_LETTER_DISCARDED" },
		]);
	});

	test("of a letter without an existing tenant is recorded in its history", async () => {
		const letters = await service.publish(
			{ subject: "audit.events", data: Uint8Array.of(0xff) },
			json(anEvent({ tenantId: "newco" })),
		);
		expect(letters.map(({ tenantId }) => tenantId)).toEqual(["", "newco"]);
		const ids = letters.map(({ id }) => id);
		await service.operator.discardDeadLetters({ ids, reason: "noise" });
		expect(await stored()).toEqual([]);
		for (const id of ids) {
			const { history } = await service.operator.getDeadLetter({ id });
			expect(history).toMatchObject([{ state: DeadLetterState.DISCARDED, reason: "noise" }]);
		}
	});

	test("of what became an event changes nothing", async () => {
		const [letter] = await service.publish(json(anEvent({ tenantId: "newco" })));
		await service.makeTenants("newco");
		const ids = [letter?.id ?? ""];
		await redrive(ids);
		const { results } = await service.operator.discardDeadLetters({ ids, reason: "too late" });
		expect(results).toMatchObject([{ state: DeadLetterState.REDRIVEN, changed: false }]);
		expect(await stored()).toHaveLength(2);
	});
});

describe("who may see what", () => {
	test("operators alone", async () => {
		const { createDeadLetterClient } = await import("../../src/client/index.ts");
		for (const role of ["writer", "reader"] as const) {
			const key = await createKey(service.database.url, role, "all");
			const client = createDeadLetterClient({ url: service.httpUrl, key });
			for (const call of [
				client.listDeadLetters({}),
				client.getDeadLetter({ id: "1-1-0" }),
				client.redriveDeadLetters({ filter: {} }),
				client.discardDeadLetters({ ids: ["1-1-0"], reason: "r" }),
			]) {
				expect(await codeOf(call)).toBe("permission_denied");
			}
		}
	});

	test("the letters of a key's tenants exist for it, and no others: not another tenant's, not one of no known tenant", async () => {
		const letters = await service.publish(
			{ subject: "audit.events.acme", data: toBinary(EventSchema, anEvent({ tenantId: "globex" })) },
			{ subject: "audit.events.globex", data: "{}" },
			{ subject: "audit.events", data: "{" },
			json(anEvent({ tenantId: "globex" })),
		);
		// The subject says whose letter it is; from the bare subject the event itself, if it can be read.
		expect(letters.map(({ tenantId }) => tenantId)).toEqual(["acme", "globex", "", "globex"]);
		const [ofAcme] = letters;
		const acme = await service.operatorOf("acme");
		expect((await acme.listDeadLetters({})).deadLetters.map(({ id }) => id)).toEqual([ofAcme?.id]);
		expect(await codeOf(acme.getDeadLetter({ id: ofAcme?.id ?? "" }))).toBe("ok");
		expect(await codeOf(acme.listDeadLetters({ filter: { tenantId: "globex" } }))).toBe("not_found");
		expect((await acme.redriveDeadLetters({ filter: {} })).results).toHaveLength(1);
		const before = await everything();
		for (const { id } of [...letters.slice(1), { id: "1-1-0" }]) {
			expect(await codeOf(acme.getDeadLetter({ id }))).toBe("not_found");
			for (const dryRun of [true, false]) {
				expect(await codeOf(acme.redriveDeadLetters({ ids: [ofAcme?.id ?? "", id], dryRun }))).toBe("not_found");
			}
			expect(await codeOf(acme.discardDeadLetters({ ids: [ofAcme?.id ?? "", id], reason: "r" }))).toBe("not_found");
		}
		expect(await everything()).toEqual(before);
		const both = await service.operatorOf("acme", "globex");
		expect((await both.listDeadLetters({})).deadLetters).toHaveLength(3);
	});
});
