import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { createServer as createHttpsServer } from "node:https";
import type { AddressInfo } from "node:net";
import { pino } from "pino";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { JwtVerifier } from "../../src/auth/jwt.ts";
import { deriveKeys } from "../../src/auth/secret.ts";
import { RemoteTokenKeys, type RemoteTokenKeysOptions } from "../../src/auth/token-keys.ts";
import { makeCa } from "../support/certificates.ts";
import { startService } from "../support/service-process.ts";
import { createTestDatabase, ownDirectory, waitFor } from "../support/services.ts";
import {
	AUDIENCE,
	ISSUER,
	type JwksServer,
	jwksOf,
	makeSigningKey,
	signToken,
	startJwksServer,
} from "../support/token-issuer.ts";

/** The keys of an issuer, from a real server that changes them, goes away and answers nonsense. */

const first = makeSigningKey("first");
const second = makeSigningKey("second");
const keys = deriveKeys("a root secret of the tests, long enough");
const UNKNOWN = { code: "unauthenticated" };
const AWAY = { code: "unavailable", reason: "TOKEN_KEYS_AWAY" };

let server: JwksServer;
const closing: (() => Promise<unknown>)[] = [];
beforeEach(async () => {
	server = await startJwksServer(first);
	closing.push(() => server.stop());
});
afterEach(async () => {
	for (const close of closing.splice(0)) await close().catch(() => {});
});

/** As the service has them, but for the times: `cooldown: 0` asks at once, `Infinity` never again. */
function setUp(times: RemoteTokenKeysOptions["times"] = {}) {
	const { url } = server;
	const logged: { level: number; msg: string }[] = [];
	const logger = pino({ level: "info" }, { write: (line: string) => void logged.push(JSON.parse(line)) });
	const tokenKeys = new RemoteTokenKeys({ url: new URL(url), logger, ...(times && { times }) });
	const settings = {
		issuer: ISSUER,
		audience: AUDIENCE,
		keys: new URL(url),
		algorithms: ["ES256"],
		claims: { tenants: "tenant_id", roles: "roles", maskedUnits: undefined },
	};
	const verifier = new JwtVerifier({ settings, tokenKeys, keys });
	return { logged, tokenKeys, verify: (token: string) => verifier.verify(token) };
}

/** Never the same twice, so that none is remembered. */
let made = 0;
const fresh = (key = first, header = {}) => signToken(key, { jti: String((made += 1)) }, header);

describe("the issuer's keys", () => {
	test("are fetched by the first token, however many come at once, and not again", async () => {
		const { verify } = setUp();
		await Promise.all(Array.from({ length: 20 }, async () => verify(await fresh())));
		expect(server.asked).toBe(1);
	});

	test("are asked for a key nobody has heard of no more often than they may be", async () => {
		const { verify } = setUp();
		await verify(await fresh());
		const strange = [
			"../../etc/passwd",
			"' OR 1=1 --",
			"__proto__",
			"constructor",
			"toString",
			"",
			"\u0000",
			"x".repeat(4_000),
		];
		for (const kid of strange) await expect(verify(await fresh(first, { kid }))).rejects.toMatchObject(UNKNOWN);
		const flood = Array.from({ length: 500 }, async (_, i) => verify(await fresh(second, { kid: `made-up-${i}` })));
		for (const { status } of await Promise.allSettled(flood)) expect(status).toBe("rejected");
		expect(server.asked).toBe(1);
	});

	test("are fetched again for a new key: an issuer may change it at any time", async () => {
		const { verify } = setUp({ cooldown: 0 });
		await verify(await fresh());
		await server.publish(first, second);
		expect(await verify(await fresh(second))).toMatchObject({ name: "jane" });
		expect(await verify(await fresh(first))).toMatchObject({ name: "jane" });
		expect(server.asked).toBe(2);
	});

	test("that were withdrawn let nobody in, remembered or not", async () => {
		const { verify, tokenKeys } = setUp();
		const token = await fresh();
		// It is remembered once there are keys.
		await tokenKeys.refresh();
		await verify(token);
		await server.publish(second);
		await tokenKeys.refresh();
		await expect(verify(token)).rejects.toMatchObject(UNKNOWN);
		await expect(verify(await fresh())).rejects.toMatchObject(UNKNOWN);
		expect(await verify(await fresh(second))).toMatchObject({ name: "jane" });
	});

	test("need no name while there is one alone, and need one among several", async () => {
		const { verify, tokenKeys } = setUp();
		expect(await verify(await fresh(first, { kid: undefined }))).toMatchObject({ name: "jane" });
		await server.publish(first, second);
		await tokenKeys.refresh();
		await expect(verify(await fresh(first, { kid: undefined }))).rejects.toMatchObject(UNKNOWN);
	});

	test("are not others because the token says where to find them", async () => {
		const evil = await startJwksServer(second);
		closing.push(() => evil.stop());
		const { verify } = setUp({ cooldown: 0 });
		for (const header of [{ jku: evil.url }, { x5u: evil.url }, { jku: evil.url, kid: undefined }]) {
			await expect(verify(await fresh(second, header))).rejects.toMatchObject(UNKNOWN);
		}
		expect(evil.asked).toBe(0);
	});
});

describe("an issuer", () => {
	const answers: [string, (server: JwksServer) => void | Promise<void>][] = [
		["is away", (server) => server.stop()],
		["answers 500", (server) => void (server.answer = (_, response) => void response.writeHead(500).end("{}"))],
		["answers 204", (server) => void (server.answer = (_, response) => void response.writeHead(204).end())],
		["answers what is no JSON", (server) => void (server.answer = (_, response) => void response.end("<html>"))],
		["answers other JSON", (server) => void (server.answer = (_, response) => void response.end('{"keys":{}}'))],
		["answers null", (server) => void (server.answer = (_, response) => void response.end("null"))],
		["has no keys", (server) => void (server.answer = (_, response) => void response.end('{"keys":[]}'))],
		["answers nothing", (server) => void (server.answer = () => {})],
		[
			"breaks off",
			(server) => void (server.answer = (_, response) => void response.write('{"keys', () => response.destroy())),
		],
		[
			"answers 10 MB",
			async (server) => {
				const body = (await jwksOf(second)).replace("}", `,"pad":"${"x".repeat(10_000_000)}"}`);
				server.answer = (_, response) => void response.end(body);
			},
		],
		[
			"sends a byte now and then",
			(server) => {
				server.answer = (_, response) => {
					const timer = setInterval(() => response.write(" "), 50);
					response.once("close", () => clearInterval(timer));
				};
			},
		],
		[
			"sends elsewhere",
			async (server) => {
				const evil = await startJwksServer(second);
				closing.push(() => evil.stop());
				server.answer = (_, response) => void response.writeHead(302, { location: evil.url }).end();
			},
		],
	];

	test.each(answers)("that %s takes no keys away, and brings no others", async (_, change) => {
		const { verify, tokenKeys, logged } = setUp({ cooldown: 0, answer: 1_000 });
		await verify(await fresh());
		await change(server);
		await tokenKeys.refresh();
		expect(await verify(await fresh())).toMatchObject({ name: "jane" });
		await expect(verify(await fresh(second))).rejects.toMatchObject(UNKNOWN);
		// Once, not for each attempt.
		const told = logged.filter(({ msg }) => msg.startsWith("the keys of tokens cannot be fetched"));
		expect(told).toHaveLength(1);
	});

	test("that comes back is believed again, with its new keys, and that is said", async () => {
		const { verify, tokenKeys, logged } = setUp({ cooldown: 0 });
		await verify(await fresh());
		await server.stop();
		await tokenKeys.refresh();
		await server.publish(second);
		await server.start();
		expect(await verify(await fresh(second))).toMatchObject({ name: "jane" });
		expect(logged.map(({ msg }) => msg)).toContain("the keys of tokens can be fetched again");
	});

	test("that is away from the start makes tokens UNAVAILABLE, not UNAUTHENTICATED, and is not asked for each", async () => {
		server.answer = (_, response) => void response.writeHead(503).end();
		const { verify } = setUp();
		for (let i = 0; i < 20; i += 1) await expect(verify(await fresh())).rejects.toMatchObject(AWAY);
		expect(server.asked).toBe(1);
		// What is no good whatever the keys is told so.
		await expect(verify(await fresh(first, { typ: "logout+jwt" }))).rejects.toMatchObject(UNKNOWN);
	});

	test("that has been away for too long is not believed any more, not even tokens that are remembered", async () => {
		const { verify, tokenKeys } = setUp({ kept: 1_000, cooldown: 0 });
		const token = await fresh();
		await tokenKeys.refresh();
		await verify(token);
		await server.stop();
		await waitFor(
			async () =>
				((await verify(token).catch((error: unknown) => error)) as { reason?: string }).reason === AWAY.reason,
			{ what: "the end of the last keys" },
		);
	});
});

test("the service fetches them over https, from a private authority too, and goes on when the issuer is gone", async () => {
	const ca = await makeCa();
	const own = await ca.issue({ ips: ["127.0.0.1"] });
	const caFile = ownDirectory("ca");
	writeFileSync(caFile, ca.pem);
	const jwks = await jwksOf(first);
	const issuer = createHttpsServer({ cert: own.cert, key: own.key }, (_, response) => response.end(jwks));
	await once(issuer.listen(0, "127.0.0.1"), "listening");
	closing.push(async () => issuer.close());
	const database = await createTestDatabase();
	closing.push(() => database.drop());
	const env = {
		DATABASE_URL: database.url,
		AUDIT_AUTO_CREATE_TENANTS: "true",
		AUDIT_JWT_ISSUER: ISSUER,
		AUDIT_JWT_AUDIENCE: AUDIENCE,
		AUDIT_JWT_JWKS_URL: `https://127.0.0.1:${(issuer.address() as AddressInfo).port}/keys`,
	};
	const write = async (url: string) => {
		const headers = { authorization: `Bearer ${await fresh()}`, "content-type": "application/json" };
		const body = JSON.stringify({ action: "user.login", actor: { id: "jane" } });
		const response = await fetch(`${url}/v1/audit/events`, { method: "POST", headers, body });
		return { status: response.status, text: await response.text() };
	};

	const trusting = await startService({ ...env, NODE_EXTRA_CA_CERTS: caFile });
	closing.unshift(() => trusting.stop());
	expect((await write(trusting.httpUrl)).status).toBe(200);
	const metrics = await (await fetch(`${trusting.httpUrl}/metrics`)).text();
	expect(Number(/^audit_token_keys_age_seconds (\S+)$/m.exec(metrics)?.[1])).toBeLessThan(300);

	// To whom it does not believe, it does not listen.
	const wary = await startService(env);
	closing.unshift(() => wary.stop());
	expect(await write(wary.httpUrl)).toMatchObject({
		status: 503,
		text: expect.stringContaining("TOKEN_KEYS_AWAY") as string,
	});
	expect(wary.stdout.match(/the keys of tokens cannot be fetched/g)).toHaveLength(1);

	issuer.close();
	issuer.closeAllConnections();
	expect((await write(trusting.httpUrl)).status).toBe(200);
});
