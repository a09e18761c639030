import { randomUUID } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import { create } from "@bufbuild/protobuf";
import { beforeAll, describe, expect, test } from "vitest";
import { openAuditPublisher } from "../../src/client/nats.ts";
import type { Nats } from "../../src/dev/nats.ts";
import { EventSchema } from "../../src/gen/audit/v1/event_pb.ts";
import type { NatsDoor } from "../../src/ingest/nats-door.ts";
import type { NatsAccess } from "../../src/nats-access.ts";
import { type Ca, makeCa } from "../support/certificates.ts";
import { lastingPort, startDoor, untilUp } from "../support/nats-client.ts";
import { natsExample, urlOf } from "../support/nats-examples.ts";
import { ownDirectory, startOwnNats, waitFor } from "../support/services.ts";

/** TLS between the service, producers and a real server, which has docs/examples/nats/tls.conf for it. */

let ca: Ca;
let otherCa: Ca;
/** Files of the client's side. */
let folder: string;

beforeAll(async () => {
	[ca, otherCa] = await Promise.all([makeCa(), makeCa()]);
	folder = ownDirectory("tls-client");
	await mkdir(folder, { recursive: true });
	const [client, stranger] = await Promise.all([ca.issue({ client: true }), otherCa.issue({ client: true })]);
	const files = { ca: ca.pem, otherCa: otherCa.pem };
	for (const [name, pem] of Object.entries(files)) writeFileSync(file(name), pem);
	for (const [name, { cert, key }] of Object.entries({ client, stranger })) {
		writeFileSync(file(`${name}.cert`), cert);
		writeFileSync(file(`${name}.key`), key);
	}
});

const DOC = readFileSync(new URL("../../docs/nats.md", import.meta.url), "utf8");
const file = (name: string) => join(folder, name);
const clientFiles = (name: string) => ({ certFile: file(`${name}.cert`), keyFile: file(`${name}.key`) });

interface Server extends Nats {
	readonly secure: string;
}

/** @param verify whether clients must show a certificate, as the example has it */
async function startSecured(
	options: { dnsNames?: string[]; ips?: string[]; days?: number; verify?: boolean; port?: number; by?: Ca } = {},
): Promise<Server> {
	const { verify = false, port, by = ca, ...request } = options;
	const names = request.dnsNames || request.ips ? {} : { dnsNames: ["localhost"], ips: ["127.0.0.1"] };
	const { cert, key } = await by.issue({ ...names, ...request });
	const dataDir = ownDirectory("nats-tls");
	await mkdir(join(dataDir, "tls"), { recursive: true });
	for (const [name, pem] of [
		["server.pem", cert],
		["server.key", key],
		["ca.pem", by.pem],
	] as const) {
		writeFileSync(join(dataDir, "tls", name), pem);
	}
	const tls = natsExample("tls").replaceAll("/etc/nats", dataDir);
	expect(tls).toContain("verify: true\n");
	await mkdir(join(dataDir, "nats"));
	writeFileSync(join(dataDir, "nats/users.conf"), natsExample("users"));
	writeFileSync(join(dataDir, "nats/tls.conf"), verify ? tls : tls.replace("verify: true\n", ""));
	// As docs/nats.md has it.
	const config = [...DOC.matchAll(/^include ".*"$/gm)].join("\n");
	expect(config).toBe('include "nats/users.conf"\ninclude "nats/tls.conf"');
	const nats = await startOwnNats({ dataDir, config, ...(port !== undefined && { port }) });
	return { ...nats, secure: urlOf("auditlog", nats).replace("nats:", "tls:") };
}

function doorTo(access: NatsAccess): NatsDoor {
	return startDoor({ ...access, ingest: { acceptMessages: () => Promise.reject(new Error("nothing is to come")) } });
}

/** What the door says of a server that it does not go in by, and what a producer is told. */
async function refusalsOf(access: NatsAccess): Promise<{ door: string; producer: Error }> {
	const door = doorTo(access);
	try {
		await waitFor(() => door.status().reason !== "not connected yet", { what: "a refusal" });
		expect(door.status().state).toBe("connecting");
		const opened = openAuditPublisher(access).then(async (publisher) => {
			await publisher.close();
			throw new Error("it connected");
		});
		return { door: door.status().reason ?? "", producer: await opened.catch((error: Error) => error) };
	} finally {
		await door.close();
	}
}

async function expectIn(access: NatsAccess): Promise<void> {
	const door = doorTo(access);
	await untilUp(door);
	await door.close();
	const url = access.url.replace("auditlog:", "acme:");
	const publisher = await openAuditPublisher({ ...access, url, inboxPrefix: "_INBOX_acme" });
	const event = create(EventSchema, { id: randomUUID(), tenantId: "acme", action: "over.tls", actor: { id: "u" } });
	expect(await publisher.publish([event])).toEqual({ repeated: false });
	await publisher.close();
}

describe("a server whose certificate is believed and names it", () => {
	test("is connected to by name and by address, and nats:// with authorities is TLS too", async () => {
		const nats = await startSecured();
		await expectIn({ url: nats.secure, caFile: file("ca") });
		await expectIn({ url: nats.secure.replace("127.0.0.1", "localhost"), caFile: file("ca") });
		await nats.stop();
	});

	test("by its address alone", async () => {
		const nats = await startSecured({ ips: ["127.0.0.1"] });
		await expectIn({ url: nats.secure, caFile: file("ca") });
		const { door } = await refusalsOf({ url: nats.secure.replace("127.0.0.1", "localhost"), caFile: file("ca") });
		expect(door).toMatch(/certificate is refused.*localhost/);
		await nats.stop();
	});
});

describe("a server is refused, and named as refused, whose certificate", () => {
	const REFUSED = /^the NATS server's certificate is refused: /;

	test.each([
		["is by an authority of the same name as the one that is believed", {}, "otherCa", /signature failure/],
		["is by an authority of our own, and none was given", {}, undefined, /unable to verify/],
		["has expired", { days: -1 }, "ca", /expired/],
		["names another host", { dnsNames: ["nats.example"] }, "ca", /does not match/],
		["names localhost, and is reached by an address", { dnsNames: ["localhost"] }, "ca", /127\.0\.0\.1/],
	] as const)("%s", async (_, certificate, authority, why) => {
		const nats = await startSecured(certificate as { days?: number; dnsNames?: string[] });
		const { door, producer } = await refusalsOf({ url: nats.secure, ...(authority && { caFile: file(authority) }) });
		expect(door).toMatch(REFUSED);
		expect(door).toMatch(why);
		expect(producer).toMatchObject({ code: "unavailable", reason: "NATS_TLS", message: door });
		await nats.stop();
	});
});

describe("a server without TLS", () => {
	test("is refused where TLS is asked for: by tls://, by authorities, or by a certificate of ours", async () => {
		const nats = await startOwnNats({ config: natsExample("users") });
		const url = urlOf("auditlog", nats);
		const asking = [
			{ url: url.replace("nats:", "tls:") },
			{ url: `nats://127.0.0.1:${nats.port},tls://127.0.0.1:${nats.port}` },
			{ url, caFile: file("ca") },
			{ url, ...clientFiles("client") },
		];
		for (const access of asking) {
			const { door, producer } = await refusalsOf(access);
			expect(door).toBe("the NATS server offers no TLS, which is asked for here");
			expect(producer).toMatchObject({ reason: "NATS_TLS", message: door });
		}
		await nats.stop();
	});

	test("is told nothing: no name, no password", async () => {
		let heard = "";
		const listener = createServer((socket) => {
			socket.on("data", (data) => (heard += data.toString()));
			socket.on("error", () => {});
			socket.write('INFO {"server_id":"x","version":"2.10.27","proto":1,"headers":true,"max_payload":1048576}\r\n');
		}).listen(0, "127.0.0.1");
		await waitFor(() => listener.listening);
		const { port } = listener.address() as { port: number };
		await refusalsOf({ url: `tls://auditlog:canary@127.0.0.1:${port}` });
		expect(heard).toBe("");
		listener.close();
	});
});

describe("a server that asks for certificates", () => {
	test("lets in who shows one of its authority, and nobody else", async () => {
		const nats = await startSecured({ verify: true });
		const access = { url: nats.secure, caFile: file("ca") };
		await expectIn({ ...access, ...clientFiles("client") });
		for (const wrong of [{}, clientFiles("stranger")]) {
			const { door, producer } = await refusalsOf({ ...access, ...wrong });
			// The server may have gone before its word is read.
			expect(door).toMatch(/^the NATS server refuses our certificate, or asks for one$|ECONNRESET|EPIPE/);
			expect(producer).toMatchObject({ code: "unavailable", message: expect.stringMatching(/our certificate/) });
		}
		await nats.stop();
	});
});

test("authorities that are replaced on disk are believed at the next connection, without a restart", async () => {
	const port = lastingPort();
	const replaced = file("replaced");
	writeFileSync(replaced, ca.pem);
	const before = await startSecured({ port });
	const access = { url: before.secure, caFile: replaced };
	const door = doorTo(access);
	await untilUp(door);
	await before.stop();
	await waitFor(() => door.status().state === "connecting");

	const after = await startSecured({ port: before.port, by: otherCa });
	expect(after.port).toBe(before.port);
	await waitFor(() => door.status().reason?.includes("certificate is refused"), { what: "the old authority" });
	writeFileSync(replaced, otherCa.pem);
	await untilUp(door);
	await door.close();
	await after.stop();
});
