import { randomUUID } from "node:crypto";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { create } from "@bufbuild/protobuf";
import { nkeys } from "nats";
import { beforeAll, describe, expect, test } from "vitest";
import { type AuditPublisherOptions, openAuditPublisher } from "../../src/client/nats.ts";
import type { Nats } from "../../src/dev/nats.ts";
import { EventSchema } from "../../src/gen/audit/v1/event_pb.ts";
import { saidOf, startDoor, untilUp } from "../support/nats-client.ts";
import { natsExample, permissionsOf, urlOf } from "../support/nats-examples.ts";
import { makeNatsOperator, type NatsOperator } from "../support/nats-jwt.ts";
import { runProgram } from "../support/run-program.ts";
import { startService } from "../support/service-process.ts";
import { createTestDatabase, ownDirectory, startOwnNats, waitFor } from "../support/services.ts";

/** Who the service and its producers are for NATS, and that nobody else learns it. */

const ROOT = join(import.meta.dirname, "../..");
let folder: string;
const file = (name: string) => join(folder, name);

beforeAll(() => {
	folder = ownDirectory("nats-credentials");
	mkdirSync(folder, { recursive: true });
});

const ingest = { acceptMessages: () => Promise.resolve({ deadLetters: [] }) };
const anEvent = () => create(EventSchema, { id: randomUUID(), tenantId: "acme", action: "a.b", actor: { id: "u" } });

async function publishOne(options: AuditPublisherOptions): Promise<void> {
	const publisher = await openAuditPublisher(options);
	try {
		expect(await publisher.publish([anEvent()])).toEqual({ repeated: false });
	} finally {
		await publisher.close();
	}
}

describe("an NKey", () => {
	test("is taken from a file with its seed alone, by the service and by a producer", async () => {
		let config = natsExample("users");
		for (const user of ["auditlog", "acme"]) {
			const key = nkeys.createUser();
			writeFileSync(file(`${user}.nk`), `${new TextDecoder().decode(key.getSeed())}\n`);
			config = config.replace(`user: ${user}, password: "change-me"`, `nkey: ${key.getPublicKey()}`);
		}
		const nats = await startOwnNats({ config });
		const door = startDoor({ url: nats.url, credsFile: file("auditlog.nk"), ingest });
		await untilUp(door);
		expect(door.degraded()).toEqual(saidOf(nats));
		await publishOne({ url: nats.url, credsFile: file("acme.nk"), inboxPrefix: "_INBOX_acme" });
		await expect(openAuditPublisher({ url: nats.url })).rejects.toMatchObject({ reason: "NATS_PERMISSION" });
		await door.close();
		await nats.stop();
	});
});

describe("a .creds file", () => {
	let operator: NatsOperator;
	let nats: Nats;

	beforeAll(async () => {
		operator = makeNatsOperator();
		nats = await startOwnNats({ config: operator.config });
		writeFileSync(file("auditlog.creds"), operator.credsOf("auditlog", permissionsOf("auditlog")));
		writeFileSync(file("acme.creds"), operator.credsOf("acme", permissionsOf("acme")));
		return () => nats.stop();
	});

	test("lets in the service and a producer, each with the permissions it says", async () => {
		const door = startDoor({ url: nats.url, credsFile: file("auditlog.creds"), ingest });
		await untilUp(door);
		expect(door.status().reason).toBeUndefined();
		const acme = { url: nats.url, credsFile: file("acme.creds"), inboxPrefix: "_INBOX_acme" };
		await publishOne(acme);
		const publisher = await openAuditPublisher(acme);
		const foreign = publisher.publish([{ ...anEvent(), tenantId: "globex" }]);
		await expect(foreign).rejects.toMatchObject({ code: "permission_denied", reason: "NATS_PERMISSION" });
		await publisher.close();
		await door.close();
	});

	test("of another operator is refused", async () => {
		writeFileSync(file("stranger.creds"), makeNatsOperator().credsOf("auditlog", permissionsOf("auditlog")));
		const door = startDoor({ url: nats.url, credsFile: file("stranger.creds"), ingest });
		await waitFor(() => /Authorization Violation/.test(door.status().reason ?? ""));
		await door.close();
	});

	test("that is replaced before it has expired counts from the next connection on, without a restart", async () => {
		const inFiveSeconds = () => new Date(Date.now() + 5_000);
		const creds = (user: string, until?: Date) => operator.credsOf(user, permissionsOf(user), until);
		writeFileSync(file("service.creds"), creds("auditlog", inFiveSeconds()));
		writeFileSync(file("producer.creds"), creds("acme", inFiveSeconds()));
		const door = startDoor({ url: nats.url, credsFile: file("service.creds"), ingest });
		await untilUp(door);
		const options = { url: nats.url, credsFile: file("producer.creds"), inboxPrefix: "_INBOX_acme" };
		const publisher = await openAuditPublisher(options);
		await publisher.publish([anEvent()]);

		// Both are thrown out, and their old credentials do not let them in again.
		await waitFor(() => /Authorization Violation/.test(door.status().reason ?? ""), { what: "the end of the old one" });
		// Half written: what could be read last goes on being used.
		writeFileSync(file("producer.creds"), "-----BEGIN NATS USER JWT-----\n");
		writeFileSync(file("service.creds"), "");
		await waitFor(() => /creds|credentials/i.test(door.status().reason ?? ""), { what: "a word about the file" });
		writeFileSync(file("service.creds"), creds("auditlog"));
		writeFileSync(file("producer.creds"), creds("acme"));
		await untilUp(door);
		await waitFor(() => publisher.publish([anEvent()]), { what: "the publisher" });
		await publisher.close();
		await door.close();
	});
});

describe("a producer's inbox prefix", () => {
	let nats: Nats;

	beforeAll(async () => {
		nats = await startOwnNats({ config: natsExample("users") });
		const door = startDoor({ url: urlOf("auditlog", nats), ingest });
		await untilUp(door);
		return async () => {
			await door.close();
			await nats.stop();
		};
	});

	test("is where it is answered; with another one it is told what is wrong", async () => {
		await publishOne({ url: urlOf("acme", nats), inboxPrefix: "_INBOX_acme" });
		await expect(publishOne({ url: urlOf("acme", nats) })).rejects.toMatchObject({
			reason: "NATS_PERMISSION",
			message: expect.stringContaining("inbox prefix"),
		});
	});

	test("is told `auditlog import` on the command line, and the password is not", async () => {
		const command = ["src/main.ts", "import", "--format", "cloudtrail", "--tenant", "acme", "--via", "nats"];
		const env = { NATS_URL: urlOf("acme", nats), DATA_DIR: folder };
		const importWith = (...args: string[]) =>
			runProgram(process.execPath, [...command, ...args, "test/fixtures/cloudtrail.ndjson.gz"], { cwd: ROOT, env });
		const refused = await importWith();
		expect(refused).toMatchObject({ exitCode: 1, stderr: expect.stringContaining("--nats-inbox-prefix") });
		expect(refused.stderr).not.toContain("change-me");
		expect(await importWith("--nats-inbox-prefix", "_INBOX_acme")).toMatchObject({ exitCode: 0 });
	}, 120_000);
});

test("what NATS does not let the service do is said, and named", async () => {
	const acks = '"$JS.ACK.AUDIT.audit-writer.>"';
	const config = natsExample("users");
	expect(config).toContain(acks);
	const nats = await startOwnNats({ config: config.replace(acks, "") });
	const door = startDoor({ url: urlOf("auditlog", nats), ingest });
	await untilUp(door);
	await publishOne({ url: urlOf("acme", nats), inboxPrefix: "_INBOX_acme" });
	await waitFor(() => door.status().reason !== undefined, { what: "a word about the acknowledgement" });
	expect(door.degraded()).toContain("nats: its user may not publish to $JS.ACK.AUDIT.audit-writer.>");
	await door.close();
	await nats.stop();
});

describe("credentials are told nobody", () => {
	/** In a password, a token, a seed and a JWT. */
	const CANARY = "SUACANARY";
	const wrongCreds = () => {
		const creds = makeNatsOperator().credsOf("canary", permissionsOf("auditlog"));
		writeFileSync(file("canary.creds"), creds);
		const [, jwt = "", seed = ""] = /JWT-----\n(.*)\n[^]*SEED-----\n(.*)\n/.exec(creds) ?? [];
		return { NATS_CREDS_FILE: file("canary.creds"), secrets: [jwt, seed] };
	};

	test.each([
		["a password", () => ({ url: `auditlog:${CANARY}@`, secrets: [CANARY] })],
		["a token", () => ({ url: `${CANARY}@`, secrets: [CANARY] })],
		["a .creds file", () => ({ url: "", ...wrongCreds() })],
		["the right password", () => ({ url: "auditlog:change-me@", secrets: ["change-me"] })],
	])("not by log, health, metrics, settings or process list: %s", async (what, given) => {
		const { url, secrets, ...files }: { url: string; secrets: string[]; NATS_CREDS_FILE?: string } = given();
		const [database, nats] = await Promise.all([createTestDatabase(), startOwnNats({ config: natsExample("users") })]);
		const env = { DATABASE_URL: database.url, NATS_URL: nats.url.replace("//", `//${url}`), ...files };
		const service = await startService({ ...env, LOG_LEVEL: "trace", AUDIT_DRAIN_MS: "500" });
		const right = what === "the right password";
		const word = right ? "the NATS door is up" : "Authorization Violation";
		await waitFor(() => service.stdout.includes(word), { what: word });
		const ready = await (await fetch(`${service.httpUrl}/readyz`)).text();
		if (!right) expect(ready).toContain("Authorization Violation");
		const metrics = await (await fetch(`${service.httpUrl}/metrics`)).text();
		const commandLine = readFileSync(`/proc/${service.pid}/cmdline`, "utf8");
		expect(commandLine).toContain("serve");
		const shown = await Promise.all(
			["table", "json"].map((format) =>
				runProgram(process.execPath, ["src/main.ts", "config", "-o", format], { cwd: ROOT, env }),
			),
		);
		for (const { stdout } of shown) expect(stdout).toContain(`127.0.0.1:${nats.port}`);
		expect(await service.stop()).toBe(0);
		const told = [
			service.stdout,
			service.stderr,
			ready,
			metrics,
			commandLine,
			...shown.map((s) => s.stdout + s.stderr),
		];
		for (const secret of secrets) for (const text of told) expect(text).not.toContain(secret);
		await Promise.all([nats.stop(), database.drop()]);
	});
});
