import { once } from "node:events";
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { connect as connectTcp, type Socket } from "node:net";
import { gzipSync } from "node:zlib";
import { afterAll, beforeAll, expect, test } from "vitest";
import { createAuditClient } from "../../src/client/index.ts";
import { checkTrail } from "../support/check-trail.ts";
import { CODE, FLAG, frame, requestHeaders, TYPE } from "../support/http2-frames.ts";
import { createKey } from "../support/rpc-service.ts";
import { type ServiceProcess, startService } from "../support/service-process.ts";
import { createTestDatabase, type TestDatabase, testSecret, waitFor } from "../support/services.ts";

let database: TestDatabase;
let service: ServiceProcess;
const keys = { good: "", hostileReader: "", hostileWriter: "" };

beforeAll(async () => {
	database = await createTestDatabase();
	keys.good = await createKey(database.url, "operator", "all");
	keys.hostileReader = await createKey(database.url, "reader", "all");
	keys.hostileWriter = await createKey(database.url, "writer", "all");
	service = await startService({ DATABASE_URL: database.url, AUDIT_AUTO_CREATE_TENANTS: "true" });
});
afterAll(async () => {
	await service.stop();
	await checkTrail({ databaseUrl: database.url, secret: testSecret() });
	await database.drop();
});

const MIB = 1024 * 1024;
const HOSTILE = 1_000;
/** All 127/8 is this machine, on Linux: to the service they come from elsewhere. */
const HOSTILE_ADDRESS = "127.0.0.2";

/**
 * What 1,000 hostile connections may cost: the requests (64 MiB) and answers (96 MiB) that are held at most, four times
 * over for what is made of them until the garbage is collected, and 0.1 MiB for each connection.
 */
const MOST_MIB = 4 * (64 + 96) + HOSTILE * 0.1;

test("1,000 hostile connections cost a bounded memory, turn nobody else away and leave nothing behind", async () => {
	const good = createAuditClient({ url: service.grpcUrl, key: keys.good });
	const text = "x".repeat(3_000);
	const events = Array.from({ length: 1_000 }, () => ({
		tenantId: "acme",
		action: "user.login",
		actor: { id: "jane" },
		description: text,
	}));
	await good.batchWrite({ events });
	const page = { tenantId: "acme", pageSize: 1_000 };
	for (let i = 0; i < 3; i++) expect((await good.query(page)).events.length).toBeGreaterThan(500);
	const before = statusOf("VmRSS");
	const socketsBefore = openSockets();

	const sockets = await Promise.all(Array.from({ length: HOSTILE }, (_, i) => attack(kindOf(i))));
	// Served all the while, over each protocol.
	for (let i = 0; i < 10; i++) {
		const { eventId } = await good.writeEvent({ event: events[0] as object });
		expect((await good.getEvent({ tenantId: "acme", id: eventId })).event?.id).toBe(eventId);
		expect((await fetch(`${service.httpUrl}/livez`)).status).toBe(200);
		expect(await searchOverRest()).toBe(200);
	}
	expect((await good.query(page)).events.length).toBeGreaterThan(500);
	const most = statusOf("VmHWM");
	expect(most - before).toBeLessThan(MOST_MIB);

	for (const socket of sockets) socket.destroy();
	await waitFor(() => openSockets() <= socketsBefore + 5, {
		what: "the end of their connections",
		deadlineMs: 60_000,
	});
	// Their shares are whole again: these take all that one key may have of the answers.
	const clientOf = (key: string) => createAuditClient({ url: service.httpUrl, key, attempts: 1 });
	const [writer, reader] = [clientOf(keys.hostileWriter), clientOf(keys.hostileReader)];
	await writer.batchWrite({ events });
	await Promise.all([1, 2, 3, 4, 5, 6, 7, 8].map(() => reader.query({ ...page, pageSize: 1 })));
	expect(service.stdout).not.toMatch(/"level":[56]0/);
}, 120_000);

/**
 * Each kind in turn, but of those that make the database work a few: how much of that a key may ask for is a question of
 * rates and not of memory.
 */
function kindOf(i: number): Attack {
	const kind = KINDS[i % KINDS.length] as Attack;
	return kind.costly && i >= 24 ? (KINDS[0] as Attack) : kind;
}

/** What one connection sends, and whether it reads. */
interface Attack {
	readonly bytes: Buffer;
	readonly reads: boolean;
	/** To the gRPC port. */
	readonly grpc?: true;
	readonly costly?: true;
}

const preface = (settings = Buffer.alloc(0)) =>
	Buffer.concat([Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), frame(TYPE.settings, 0, 0, settings)]);
/** SETTINGS_INITIAL_WINDOW_SIZE 0: nothing of an answer but its headers may be sent. */
const NO_WINDOW = Buffer.of(0, 4, 0, 0, 0, 0);
const many = (count: number, make: (stream: number) => Buffer[]) =>
	Array.from({ length: count }, (_, i) => Buffer.concat(make(2 * i + 1)));
const BOMB = gzipSync(Buffer.alloc(50 * MIB));
const KINDS: Attack[] = [];

beforeAll(() => {
	const head = (key: string, more: string) =>
		Buffer.from(`POST /v1/audit/events HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer ${key}\r\n${more}\r\n`);
	const writes = (more: Record<string, string>) => ({
		":method": "POST",
		authorization: `Bearer ${keys.hostileWriter}`,
		...more,
	});
	const search = `GET /v1/audit/events?tenant_id=acme&page_size=1000 HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer ${keys.hostileReader}\r\n\r\n`;
	const searches = many(10, (stream) => {
		const path = "/v1/audit/events?tenant_id=acme&page_size=1000";
		const headers = requestHeaders(path, { authorization: `Bearer ${keys.hostileReader}` });
		return [frame(TYPE.headers, FLAG.endHeaders | FLAG.endStream, stream, headers)];
	});
	const grpcBomb = many(1, (stream) => {
		const type = { "content-type": "application/grpc+proto", "grpc-encoding": "gzip", te: "trailers" };
		const envelope = Buffer.alloc(5);
		envelope[0] = 1;
		envelope.writeUInt32BE(BOMB.length, 1);
		const body = Buffer.concat([envelope, BOMB]);
		const pieces = Array.from({ length: Math.ceil(body.length / 16_000) }, (_, i) => {
			const piece = body.subarray(i * 16_000, (i + 1) * 16_000);
			return frame(TYPE.data, (i + 1) * 16_000 >= body.length ? FLAG.endStream : 0, stream, piece);
		});
		const headers = requestHeaders("/audit.v1.AuditService/WriteEvent", writes(type));
		return [frame(TYPE.headers, FLAG.endHeaders, stream, headers), ...pieces];
	});
	const resets = many(500, (stream) => [
		frame(TYPE.headers, FLAG.endHeaders | FLAG.endStream, stream, requestHeaders("/readyz")),
		frame(TYPE.rst, 0, stream, Buffer.of(0, 0, 0, CODE.cancel)),
	]);
	const nowhere = many(100, (stream) => [
		frame(TYPE.headers, FLAG.endHeaders | FLAG.endStream, stream, requestHeaders("/nowhere")),
	]);
	KINDS.push(
		// Says nothing whole.
		{ bytes: Buffer.from("PRI * HT"), reads: true },
		{ bytes: Buffer.from("GET /livez HTTP/1.1\r\nHost: a\r\nx-slow: y"), reads: true },
		{ bytes: preface(), reads: true, grpc: true },
		// A body that never ends.
		{
			bytes: Buffer.concat([
				head(keys.hostileWriter, `Content-Length: ${4 * MIB}\r\n`),
				Buffer.alloc(4 * MIB - 1, " "),
			]),
			reads: true,
		},
		// Large answers that nobody reads.
		{ bytes: Buffer.from(search.repeat(3)), reads: false, costly: true },
		{ bytes: Buffer.concat([preface(NO_WINDOW), ...searches]), reads: true, costly: true },
		// Small ones, without a key.
		{ bytes: Buffer.concat([preface(NO_WINDOW), ...nowhere]), reads: false },
		// Bombs.
		{
			bytes: Buffer.concat([
				head(keys.hostileWriter, `Content-Encoding: gzip\r\nContent-Length: ${BOMB.length}\r\n`),
				BOMB,
			]),
			reads: true,
		},
		{ bytes: Buffer.concat([preface(), ...grpcBomb]), reads: true, grpc: true },
		// Calls that are begun to be cancelled.
		{ bytes: Buffer.concat([preface(), ...resets]), reads: true },
		// No HTTP.
		{ bytes: Buffer.from(Array.from({ length: 1_000 }, (_, i) => (i * 7919) % 256)), reads: true },
		{ bytes: Buffer.from("1603010200010001fc0303", "hex"), reads: true },
	);
});

async function attack({ bytes, reads, grpc }: Attack): Promise<Socket> {
	const port = Number(new URL(grpc ? service.grpcUrl : service.httpUrl).port);
	const socket = connectTcp({ port, host: "127.0.0.1", localAddress: HOSTILE_ADDRESS, allowHalfOpen: true });
	socket.on("error", () => {});
	await once(socket, "connect");
	if (reads) socket.resume();
	else socket.pause();
	socket.write(bytes);
	return socket;
}

async function searchOverRest(): Promise<number> {
	const url = `${service.httpUrl}/v1/audit/events?tenant_id=acme&page_size=1`;
	const response = await fetch(url, { headers: { authorization: `Bearer ${keys.good}` } });
	await response.body?.cancel();
	return response.status;
}

/** In MiB, of the service's process. */
function statusOf(name: "VmRSS" | "VmHWM"): number {
	const status = readFileSync(`/proc/${service.pid}/status`, "utf8");
	return Number(new RegExp(`^${name}:\\s+(\\d+) kB$`, "m").exec(status)?.[1]) / 1024;
}

function openSockets(): number {
	const folder = `/proc/${service.pid}/fd`;
	return readdirSync(folder).filter((fd) => isSocket(`${folder}/${fd}`)).length;
}

function isSocket(path: string): boolean {
	try {
		return readlinkSync(path).startsWith("socket:");
	} catch {
		// Closed since the folder was read.
		return false;
	}
}
