import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { type ClientHttp2Session, connect as connectHttp2 } from "node:http2";
import { connect as connectTcp } from "node:net";
import { dirname, join } from "node:path";
import type { Duplex } from "node:stream";
import { text } from "node:stream/consumers";
import { afterAll, beforeAll, expect, test } from "vitest";
import { formatApiKey, newApiKey } from "../../src/auth/api-keys.ts";
import type { Nats } from "../../src/dev/nats.ts";
import { type Ca, makeCa } from "../support/certificates.ts";
import { natsExample } from "../support/nats-examples.ts";
import { createKey } from "../support/rpc-service.ts";
import { type ProgramResult, runProgram } from "../support/run-program.ts";
import { type ServiceProcess, startService } from "../support/service-process.ts";
import {
	createTestDatabase,
	ownDirectory,
	startOwnNats,
	type TestDatabase,
	testSecret,
	waitFor,
} from "../support/services.ts";
import { openTls, writeTlsFolder } from "../support/tls-files.ts";
import { AUDIENCE, ISSUER, makeSigningKey, now, signToken } from "../support/token-issuer.ts";

/** What somebody is let in with stands nowhere but where it was put: not where it was sent to by mistake, either. */

const ROOT = join(import.meta.dirname, "../..");
const NATS_PASSWORD = "canary-nats-5d1e";
const PASSWORD = "canary-basic-77ab";
const basicOf = (password: string) => Buffer.from(`jane:${password}`).toString("base64");

let database: TestDatabase;
let nats: Nats;
let ca: Ca;
let caFile: string;
let privateKey: string;
let env: Record<string, string>;
let service: ServiceProcess;
/** What callers send, by what it is. */
let sent: Record<string, string>;
let operatorKey: string;

beforeAll(async () => {
	const config = natsExample("users").replaceAll("change-me", NATS_PASSWORD);
	[database, nats, ca] = await Promise.all([createTestDatabase(), startOwnNats({ config }), makeCa()]);
	const own = await ca.issue({ dnsNames: ["localhost"], ips: ["127.0.0.1"] });
	privateKey = own.key;
	const folder = ownDirectory("secrets");
	mkdirSync(folder, { recursive: true });
	caFile = join(folder, "ca.pem");
	writeFileSync(caFile, ca.pem);
	const signing = makeSigningKey("one");
	env = {
		...writeTlsFolder(own).env,
		DATABASE_URL: database.url,
		NATS_URL: nats.url.replace("//", `//auditlog:${NATS_PASSWORD}@`),
		AUDIT_SECRET: testSecret(),
		AUDIT_JWT_ISSUER: ISSUER,
		AUDIT_JWT_AUDIENCE: AUDIENCE,
		AUDIT_JWT_PUBLIC_KEY: signing.publicKey.export({ type: "spki", format: "pem" }) as string,
		AUDIT_AUTO_CREATE_TENANTS: "true",
		LOG_LEVEL: "trace",
	};
	const spans = { NODE_OPTIONS: `--import ${join(import.meta.dirname, "../support/print-spans.ts")}` };
	service = await startService({ ...env, ...spans });
	await waitFor(() => service.stdout.includes('"msg":"the NATS door is up"'), { what: "the NATS door" });
	operatorKey = await createKey(database.url, "operator", "all");
	const event = { tenantId: "acme", action: "user.login", actor: { id: "jane" } };
	await callAsOperator("/audit.v1.AuditService/WriteEvent", { event });
	const [good, revoked] = [await createKey(database.url, "operator", ["acme"]), await revokedKey()];
	sent = {
		goodKey: good,
		revokedKey: revoked,
		wrongSecret: formatApiKey({ ...newApiKey(), id: good.split("_")[1] ?? "" }),
		unknownKey: formatApiKey(newApiKey()),
		malformedKey: `al_${newApiKey().id}_${newApiKey().secret}`,
		token: await signToken(signing, { roles: ["operator"] }),
		expiredToken: await signToken(signing, { exp: now() - 3600 }),
		forgedToken: await signToken(makeSigningKey("one")),
		password: PASSWORD,
	};
});
afterAll(() => Promise.all([nats.stop(), database.drop()]));

async function callAsOperator(path: string, message: object): Promise<void> {
	const session = connectHttp2(service.httpUrl, { ca: ca.pem });
	const headers = { "content-type": "application/json", authorization: `Bearer ${operatorKey}` };
	expect(await askHttp2(session, { path, headers, body: JSON.stringify(message) })).toContain('":status":200');
	session.destroy();
}

async function revokedKey(): Promise<string> {
	const key = await createKey(database.url, "reader", ["acme"]);
	await callAsOperator("/audit.v1.AccessService/RevokeApiKey", { id: key.split("_")[1], reason: "leaked" });
	return key;
}

/** The parts of everything secret that must not be found: as it was sent, and what is secret of it alone. */
function needles(): string[] {
	const ofKeys = [operatorKey, ...Object.values(sent)].filter((key) => key.startsWith("al_"));
	const ofTokens = Object.values(sent).filter((token) => token.startsWith("ey"));
	const ofPrivateKey = privateKey.split("\n").filter((line) => line.length > 20 && !line.startsWith("-"));
	return [
		...ofKeys.map((key) => key.split("_")[2]?.slice(0, 32) ?? ""),
		...ofTokens.flatMap((token) => token.split(".").slice(1)),
		...Object.values(sent).map(basicOf),
		...ofPrivateKey,
		PASSWORD,
		NATS_PASSWORD,
		...ofTheDatabase(),
	];
}
const ofTheDatabase = () => [new URL(database.url).password, testSecret()];

interface Request {
	readonly path: string;
	readonly headers?: Readonly<Record<string, string>>;
	readonly body?: string;
}

const QUERY = "/audit.v1.AuditService/Query";
const EVENTS = "/v1/audit/events";

/** A secret in each place where somebody might put it. */
function placesOf(secret: string, path: string): Request[] {
	return [
		{ path, headers: { authorization: `Bearer ${secret}` } },
		{ path, headers: { authorization: secret } },
		{ path, headers: { authorization: `Basic ${basicOf(secret)}` } },
		{ path, headers: { "x-api-key": secret } },
		{ path, headers: { cookie: `session=${secret}`, "proxy-authorization": `Basic ${basicOf(secret)}` } },
		{ path: `${path}?tenant_id=acme&key=${secret}` },
		{ path: `${path}?access_token=${secret}`, headers: { authorization: `Bearer ${secret}` } },
		{ path: `${path}/${secret}`, headers: { authorization: `Bearer ${sent["goodKey"]}` } },
	];
}

function http1Of({ path, headers = {}, body = "" }: Request, method = body ? "POST" : "GET"): string {
	const all = { host: "localhost", connection: "close", ...headers, ...(body && { "content-length": body.length }) };
	const lines = Object.entries(all).map(([name, value]) => `${name}: ${value}`);
	return `${[`${method} ${path} HTTP/1.1`, ...lines].join("\r\n")}\r\n\r\n${body}`;
}

/** Everything that is answered until the connection ends; that it breaks is an answer, too. */
async function answerOn(socket: Duplex, bytes: string): Promise<string> {
	socket.write(bytes);
	return text(socket).catch((error: Error) => error.message);
}

async function askHttp1(bytes: string): Promise<string> {
	return answerOn(await openTls(service.httpUrl, { ca: ca.pem, ALPNProtocols: ["http/1.1"] }), bytes);
}

async function askInPlainText(url: string, bytes: string): Promise<string> {
	return answerOn(connectTcp(Number(new URL(url).port), "127.0.0.1"), bytes);
}

async function askHttp2(session: ClientHttp2Session, { path, headers = {}, body }: Request): Promise<string> {
	const stream = session.request({ ":path": path, ":method": body === undefined ? "GET" : "POST", ...headers });
	const seen: unknown[] = [];
	stream.on("response", (answered) => seen.push(answered)).on("trailers", (trailers) => seen.push(trailers));
	stream.end(body);
	const answer = await text(stream).catch((error: Error) => error.message);
	return JSON.stringify(seen) + answer;
}

async function askAll(): Promise<string[]> {
	const answers: string[] = [];
	const sessions = [service.httpUrl, service.grpcUrl].map((url) => connectHttp2(url, { ca: ca.pem }));
	for (const secret of Object.values(sent)) {
		for (const path of [EVENTS, QUERY, "/metrics", "/readyz", "/nowhere"]) {
			for (const request of placesOf(secret, path)) {
				answers.push(await askHttp1(http1Of(request)));
				for (const session of sessions) answers.push(await askHttp2(session, request));
			}
		}
		for (const request of placesOf(secret, QUERY)) {
			const json = { ...request, body: '{"tenantId":"acme"}' };
			const typed = (type: string) => ({ ...json, headers: { ...request.headers, "content-type": type } });
			answers.push(await askHttp1(http1Of(typed("application/json"))));
			for (const type of ["application/json", "application/grpc", "application/grpc-web", `text/${secret}`]) {
				for (const session of sessions) answers.push(await askHttp2(session, typed(type)));
			}
		}
		// Wrong doors: no HTTP, a method that is none, and no TLS.
		answers.push(await askHttp1(`${secret} / ${secret}\r\n${secret}: ${secret}\r\n\r\n`));
		for (const request of placesOf(secret, EVENTS)) {
			for (const method of ["TRACE", "CONNECT", "OPTIONS"]) answers.push(await askHttp1(http1Of(request, method)));
			for (const url of [service.httpUrl, service.grpcUrl]) answers.push(await askInPlainText(url, http1Of(request)));
		}
	}
	for (const session of sessions) session.destroy();
	return answers;
}

/** What everybody on the machine may read of a process, and of those it started. */
function commandLines(): { pid: number; parent: number; args: string }[] {
	const pids = readdirSync("/proc").filter((name) => /^\d+$/.test(name));
	return pids.flatMap((pid) => {
		try {
			const parent = Number(/^PPid:\t(\d+)$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]);
			return [{ pid: Number(pid), parent, args: readFileSync(`/proc/${pid}/cmdline`, "utf8") }];
		} catch {
			// It ended meanwhile.
			return [];
		}
	});
}

const auditlog = (args: string[], more: Record<string, string> = {}): Promise<ProgramResult> =>
	runProgram(process.execPath, ["src/main.ts", ...args], { cwd: ROOT, env: { ...env, ...more } });
const found = (told: string, secrets = needles()) => secrets.filter((secret) => told.includes(secret));

test("no secret is in an answer, the log, metrics, spans, settings or the process list, wherever it was sent", async () => {
	const answers = await askAll();
	const statuses = new Set(
		answers.map((answer) => /^HTTP\/1\.1 (\d+)|":status":(\d+)/.exec(answer)?.slice(1).join("")),
	);
	for (const status of ["200", "400", "401", "404", "405"]) expect(statuses).toContain(status);
	expect(answers.filter((answer) => found(answer).length > 0)).toEqual([]);

	const session = connectHttp2(service.httpUrl, { ca: ca.pem });
	const metrics = await askHttp2(session, { path: "/metrics" });
	session.destroy();
	expect(metrics).toContain("# HELP audit_");
	expect(found(metrics)).toEqual([]);

	const processes = commandLines();
	const own = processes.filter(({ pid, parent }) => pid === service.pid || parent === service.pid);
	expect(own[0]?.args).toContain("serve");
	expect(found(own.map(({ args }) => args).join())).toEqual([]);
	// Other tests have the same database server and root secret, and may do with them what they like.
	const ours = needles().filter((secret) => !ofTheDatabase().includes(secret));
	expect(found(processes.map(({ args }) => args).join(), ours)).toEqual([]);

	for (const format of ["table", "json", "csv"]) {
		const { stdout, stderr } = await auditlog(["config", "-o", format]);
		expect(stdout).toContain(`127.0.0.1:${nats.port}`);
		expect(found(stdout + stderr)).toEqual([]);
	}

	for (const secret of Object.values(sent)) {
		const address = { AUDIT_URL: service.httpUrl, AUDIT_KEY: secret, NODE_EXTRA_CA_CERTS: caFile };
		const { exitCode, stdout, stderr } = await auditlog(["query", "--tenant", "acme"], address);
		expect([exitCode, found(stdout + stderr)]).toEqual([
			[sent["goodKey"], sent["token"]].includes(secret) ? 0 : expect.any(Number),
			[],
		]);
	}

	expect(await service.stop()).toBe(0);
	expect(service.stdout).toContain('"msg":"call answered"');
	expect(service.stdout).toContain('"msg":"call failed"');
	expect(service.stderr).toContain('{"span":');
	const lines = (service.stdout + service.stderr).split("\n");
	expect(lines.filter((line) => found(line).length > 0)).toEqual([]);
}, 120_000);

test("a secret that is wrong is not repeated by what says so", async () => {
	const keyFile = join(dirname(caFile), "broken.key");
	writeFileSync(keyFile, privateKey.replaceAll("\n", "\n\n").replace("BEGIN PRIVATE", "BEGIN canary-key-18aa PRIVATE"));
	const url = new URL(database.url);
	url.password = "canary-database-90c2";
	const wrong = { DATABASE_URL: url.href };
	const refused = [
		await auditlog(["serve"], { TLS_KEY_FILE: keyFile }),
		await auditlog(["serve"], { AUDIT_SECRET: "canary-short" }),
		await auditlog(["serve"], { NATS_URL: "canary-nats-url" }),
		await auditlog(["migrate"], wrong),
	];
	for (const { exitCode, stdout, stderr } of refused) {
		expect(exitCode).not.toBe(0);
		expect(stdout + stderr).not.toBe("");
		expect(stdout + stderr).not.toMatch(/canary-/);
		expect(found(stdout + stderr)).toEqual([]);
	}
}, 120_000);
