import { toJsonString } from "@bufbuild/protobuf";
import { afterEach, beforeEach, expect, test } from "vitest";
import { LETTERS } from "../../src/cli/dead-letters/list.ts";
import { FORMATS } from "../../src/cli/output/listing.ts";
import { EventSchema } from "../../src/gen/audit/v1/event_pb.ts";
import { type LetterService, startLetterService } from "../support/letter-service.ts";
import { createKey } from "../support/rpc-service.ts";
import { runCli } from "../support/run-cli.ts";
import { anEvent } from "../support/write-path.ts";

let service: LetterService;

beforeEach(async () => {
	service = await startLetterService();
});
afterEach(() => service.end());

const run = (...args: string[]) =>
	runCli(["dead-letters", ...args], { AUDIT_URL: service.httpUrl, AUDIT_KEY: service.key });

const ofNewco = (action = "user.login") => ({
	subject: "audit.events",
	data: toJsonString(EventSchema, anEvent({ tenantId: "newco", action })),
});

test("list: a table, JSON or NDJSON of what is open, or in any state", async () => {
	expect((await run("list")).stdout).toBe("no dead letters\n");
	const letters = await service.publish(ofNewco(), { subject: "audit.events.acme", data: "{" });
	const table = await run("list");
	expect(table.exitCode).toBe(0);
	const [titles, ...rows] = table.stdout.trimEnd().split("\n");
	expect(titles).toMatch(/^ID +STATE +TENANT +RECEIVED +REASON +MESSAGE$/);
	expect(rows.map((row) => row.split(/ {2,}/).slice(0, 3))).toEqual(
		letters.toReversed().map(({ id, tenantId }) => [id, "open", tenantId]),
	);
	const filtered = await run("list", "--reason", "TENANT_NOT_FOUND", "-t", "newco", "--since", "1h", "-o", "ndjson");
	expect(JSON.parse(filtered.stdout)).toMatchObject({
		id: letters[0]?.id,
		state: "DEAD_LETTER_STATE_OPEN",
		published_at: expect.stringMatching(/\.\d{6}Z$/),
	});
	expect(JSON.parse((await run("list", "--state", "discarded", "-o", "json")).stdout)).toEqual([]);
	const first = await run("list", "--state", "any", "--limit", "1", "-o", "ndjson");
	const [, token = ""] = /--page-token (\S+)/.exec(first.stderr) ?? [];
	const second = await run("list", "--state", "any", "--page-token", token, "-o", "ndjson");
	const ids = [first, second].map(({ stdout }) => (JSON.parse(stdout) as { id: string }).id);
	expect(ids).toEqual(letters.map(({ id }) => id).reverse());
});

test("list and redrive go through all pages; CSV has the columns docs/cli.md names", async () => {
	const count = 203;
	const bad = Array.from({ length: count }, () => ({ subject: "audit.events.acme", data: "{" }));
	await service.publish(...bad);
	const list = await run("list", "--limit", "1000", "-o", "csv");
	expect(list).toMatchObject({ exitCode: 0, stderr: "" });
	const [titles, ...rows] = list.stdout.trimEnd().split("\r\n");
	const columns = titles?.split(",") ?? [];
	expect(columns).toEqual(LETTERS.csv.map(({ name }) => name));
	const ids = rows.map((row) => row.split(",")[0]);
	expect(new Set(ids).size).toBe(count);
	expect(rows[0]).toMatch(
		new RegExp(`^${ids[0]},open,acme,UNDECODABLE_JSON,.*,audit.events.acme,.*,1,\\S+Z,${count},0$`),
	);

	const [listed, dry] = await Promise.all([
		run("list", "--limit", "201", "-o", "json"),
		run("redrive", "--all", "--dry-run", "-o", "json"),
	]);
	expect(listed?.stderr).toMatch(/^there are more: --page-token \S+\n$/);
	const idsOf = (text = "") => (JSON.parse(text) as { id: string }[]).map(({ id }) => id);
	expect(idsOf(listed?.stdout)).toEqual(ids.slice(0, 201));
	expect(idsOf(dry?.stdout)).toEqual(ids);
});

test("what a letter holds cannot steer a terminal, in any format, and JSON has all of it", async () => {
	const subject = "audit.events.\u202eevil\u009b31m";
	await service.publish({ subject, data: "{" });
	for (const format of FORMATS) {
		const { exitCode, stdout } = await run("list", "-o", format);
		expect(exitCode).toBe(0);
		expect(stdout, format).not.toMatch(/[^\P{Cc}\r\n]|[\u202a-\u202e]/u);
		if (format === "json") expect(JSON.parse(stdout)).toMatchObject([{ subject, tenant_id: "" }]);
		if (format === "ndjson") expect(JSON.parse(stdout)).toMatchObject({ subject });
		if (format === "csv") expect(stdout).toContain(",audit.events.\ufffdevil\ufffd31m,");
	}
	const id = JSON.parse((await run("list", "-o", "ndjson")).stdout).id as string;
	const shown = await run("show", id, "-o", "json");
	expect(shown.stdout).not.toMatch(/[^\P{Cc}\n]|[\u202a-\u202e]/u);
	expect(JSON.parse(shown.stdout).dead_letter.subject).toBe(subject);
});

test("show: JSON as text and the rest as hex, and nothing in it can steer a terminal", async () => {
	const evil = '{"action":"\u001b]0;owned\u0007\u202e","x":1,\n"actor":\u009b31m}';
	const letters = await service.publish(
		{ subject: "audit.events.acme", data: evil, headers: { "X-Evil": "\u001b[2J" } },
		{ subject: "audit.events.acme", data: Buffer.from("\u001b[2Jnot JSON, 20 bytes") },
	);
	const [text, hex] = await Promise.all(letters.map(({ id }) => run("show", id)));
	expect(text?.exitCode).toBe(0);
	expect(text?.stdout).toContain('{"action":"\\u001b]0;owned\\u0007\\u202e","x":1,\n"actor":\\u009b31m}\n');
	expect(text?.stdout).toMatch(/^reason: +UNDECODABLE_JSON$/m);
	expect(text?.stdout).toContain("  X-Evil: \ufffd[2J\n");
	expect(hex?.stdout).toContain("00000000  1b 5b 32 4a 6e 6f 74 20 4a 53 4f 4e 2c 20 32 30  .[2Jnot JSON, 20\n");
	for (const result of [text, hex]) expect(result?.stdout).not.toMatch(/[^\P{Cc}\n]|[\u202a-\u202e]/u);
	const json = JSON.parse((await run("show", letters[0]?.id ?? "", "-o", "json")).stdout);
	expect(Buffer.from(json.body, "base64").toString()).toBe(evil);
	const missing = await run("show", "1-1-0");
	expect(missing).toMatchObject({ exitCode: 1, stdout: "" });
	expect(missing.stderr).toContain("no such dead letter for this key (not_found)");
});

test("redrive: shows what would be done; does it with --yes, and those alone that can be", async () => {
	const letters = await service.publish(ofNewco(), ofNewco("No"), { subject: "audit.events.acme", data: "{" });
	await service.makeTenants("newco");
	const [good, bad] = letters.map(({ id }) => id);

	const dry = await run("redrive", "--tenant", "newco", "--dry-run");
	expect(dry.exitCode).toBe(0);
	expect(dry.stdout).toMatch(new RegExp(`^${good} +would be stored +newco +[0-9a-f-]{36}$`, "m"));
	expect(dry.stdout).toMatch(new RegExp(`^${bad} +refused +- +- +INVALID_EVENT: action: must be`, "m"));
	const unsaid = await run("redrive", "--tenant", "newco");
	expect(unsaid).toMatchObject({ exitCode: 1, stdout: dry.stdout });
	expect(unsaid.stderr).toBe("nothing was done: --yes redrives 1 of 2\n");
	expect((await run("list", "-o", "ndjson")).stdout.trimEnd().split("\n")).toHaveLength(3);

	const done = await run("redrive", "--tenant", "newco", "--yes", "-o", "ndjson");
	expect(done).toMatchObject({ exitCode: 1, stderr: "redriven 1, refused 1\n" });
	const results = done.stdout
		.trimEnd()
		.split("\n")
		.map((line) => JSON.parse(line));
	expect(results.map(({ id, outcome }) => [id, outcome])).toEqual([
		[bad, "REDRIVE_OUTCOME_REFUSED"],
		[good, "REDRIVE_OUTCOME_STORED"],
	]);
	const again = await run("redrive", good ?? "", "--yes");
	expect(again).toMatchObject({ exitCode: 0, stderr: "redriven 1, refused 0\n" });
	expect(again.stdout).toMatch(new RegExp(`^${good} +duplicate +newco +${results[1].events[0].event_id}$`, "m"));
	const csv = await run("redrive", good ?? "", bad ?? "", "--dry-run", "-o", "csv");
	expect(csv.stdout.split("\r\n")).toEqual([
		"id,outcome,tenant_id,event_ids,reason,message",
		`${good},duplicate,newco,${results[1].events[0].event_id},,`,
		expect.stringMatching(new RegExp(`^${bad},refused,,,INVALID_EVENT,"?action: must be`)),
		"",
	]);
	const shown = await run("show", good ?? "");
	expect(shown.stdout).toMatch(/^history:\n {2}\S+Z redriven by key [0-9a-f]{12}: event [0-9a-f-]{36} of newco$/m);
	const { rows } = await service.admin.query(
		"SELECT action FROM audit.events WHERE tenant_id = 'newco' AND action <> 'audit.read' ORDER BY batch_id",
	);
	expect(rows.map(({ action }) => action)).toEqual(["audit.log.created", "user.login", "audit.dead_letters.redriven"]);
});

test("redrive wants to know which: ids, options or --all, and not two of them", async () => {
	for (const args of [[], ["1-1-0", "--all"], ["1-1-0", "--dry-run", "--yes"]]) {
		const { exitCode, stderr } = await run("redrive", ...args);
		expect(exitCode).toBe(2);
		expect(stderr).toMatch(/^error: give /);
	}
	expect(await run("redrive", "--all", "--yes")).toMatchObject({ exitCode: 0, stdout: "no open dead letters\n" });
});

test("discard: wants a reason, and says what is discarded now and what was before", async () => {
	const [letter] = await service.publish({ subject: "audit.events.acme", data: "{" });
	const id = letter?.id ?? "";
	expect((await run("discard", id)).exitCode).toBe(2);
	expect((await run("discard", id, "--reason", "noise")).stdout).toMatch(new RegExp(`^${id} +discarded +now$`, "m"));
	expect((await run("discard", id, "--reason", "noise")).stdout).toMatch(new RegExp(`^${id} +discarded +before$`, "m"));
	const csv = await run("discard", id, "--reason", "noise", "-o", "csv");
	expect(csv.stdout).toBe(`id,state,changed\r\n${id},discarded,false\r\n`);
	expect((await run("show", id)).stdout).toMatch(/ discarded by key [0-9a-f]{12}: noise$/m);
});

test("a key that is no operator's is told so; the help teaches by example", async () => {
	const key = await createKey(service.database.url, "reader", "all");
	const refused = await runCli(["dead-letters", "list"], { AUDIT_URL: service.httpUrl, AUDIT_KEY: key });
	expect(refused).toMatchObject({ exitCode: 1, stdout: "" });
	expect(refused.stderr).toContain("it is a reader key");
	for (const name of ["list", "show", "redrive", "discard"]) {
		expect((await run(name, "--help")).stdout).toContain(`  auditlog dead-letters ${name} `.trimEnd());
	}
});
