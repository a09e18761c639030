import { generateKeyPairSync, KeyObject } from "node:crypto";
import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { loadConfig, showSettings } from "../../src/config.ts";
import { readNatsUrl } from "../../src/nats-access.ts";
import { makeCa } from "../support/certificates.ts";

const enough = { DATABASE_URL: "postgres://localhost/audit", AUDIT_SECRET: "s".repeat(32) };

describe("the configuration", () => {
	test("needs a database and a secret, and has a default for everything else", () => {
		expect(loadConfig(enough)).toMatchObject({
			host: "127.0.0.1",
			httpPort: { number: 8080, explicit: false },
			grpcPort: { number: 50051, explicit: false },
			nats: undefined,
			autoCreateTenants: false,
		});
	});

	test("names every problem at once", () => {
		const env = { DATABASE_URL: "http://x", HTTP_PORT: "99999", LOG_LEVEL: "loud", AUDIT_AUTO_CREATE_TENANTS: "yes" };
		expect(() => loadConfig(env)).toThrow(
			/5 problem.*DATABASE_URL.*HTTP_PORT.*LOG_LEVEL.*AUDIT_SECRET.*AUDIT_AUTO_CREATE_TENANTS/s,
		);
	});

	test("never repeats a secret in its problems", () => {
		expect(() => loadConfig({ ...enough, AUDIT_SECRET: "hunter2" })).toThrow(/^(?!.*hunter2)/s);
	});

	test("shows no part of a secret, however it is written", () => {
		const passwords = [
			"postgres://u:pa/ss@h/d",
			"postgres://u:12/pass@h/d",
			"postgres://u:p?pass@h/d",
			"postgres://h/d?password=pass@1",
		];
		for (const url of [...passwords, "postgres://u:pass@h,u:pass@i", "pass"]) {
			expect(JSON.stringify(showSettings({ DATABASE_URL: url, AUDIT_SECRET: url }))).not.toMatch(/pa\/ss|pass/);
		}
		const [database] = showSettings({ DATABASE_URL: "postgres://u:pass@h:5/d?sslmode=require" });
		expect(database).toEqual({
			name: "DATABASE_URL",
			value: "postgres://h:5/d",
			from: "environment",
			problem: undefined,
		});
	});

	test("reads secrets from files", () => {
		const file = join(mkdtempSync(join(tmpdir(), "config-")), "secret");
		writeFileSync(file, `${"f".repeat(40)}\n`);
		expect(loadConfig({ DATABASE_URL: enough.DATABASE_URL, AUDIT_SECRET_FILE: file }).secret).toBe("f".repeat(40));
		expect(() => loadConfig({ ...enough, AUDIT_SECRET_FILE: file })).toThrow(/not both/);
		expect(() => loadConfig({ DATABASE_URL: enough.DATABASE_URL, AUDIT_SECRET_FILE: "/nowhere" })).toThrow(
			/cannot be read/,
		);
	});

	test("a port given by the operator is explicit: it is never replaced", () => {
		expect(loadConfig({ ...enough, HTTP_PORT: "8080" }).httpPort).toEqual({ number: 8080, explicit: true });
	});

	test("counts and times are whole numbers within their bounds", () => {
		expect(loadConfig({ ...enough, AUDIT_MAX_CONNECTIONS: "50", AUDIT_DRAIN_MS: "0" })).toMatchObject({
			limits: { connections: 50, drainMs: 0 },
		});
		for (const text of ["-1", "1.5", "1e3", "9999999999", "x"]) {
			expect(() => loadConfig({ ...enough, AUDIT_DRAIN_NOTICE_MS: text })).toThrow(/AUDIT_DRAIN_NOTICE_MS: must be/);
		}
		expect(() => loadConfig({ ...enough, AUDIT_MAX_CONNECTIONS_PER_ADDRESS: "0" })).toThrow(/from 1 to/);
	});

	test("rates are without a limit unless they are given", () => {
		const { rates } = loadConfig({ ...enough, AUDIT_TENANT_EVENTS_PER_SECOND: "500" }).limits;
		const none = Number.POSITIVE_INFINITY;
		expect(rates).toEqual({ keyEvents: none, keyBytes: none, tenantEvents: 500, tenantBytes: none, keyReads: none });
		expect(() => loadConfig({ ...enough, AUDIT_KEY_BYTES_PER_SECOND: "0" })).toThrow(/from 1 to/);
	});

	test("lists names that mean nothing", () => {
		expect(loadConfig({ ...enough, AUDIT_SECERT: "typo", AUDIT_URL: "x" }).unknownNames).toEqual(["AUDIT_SECERT"]);
	});

	describe("of NATS", () => {
		const url = "nats://h:4222";
		const folder = mkdtempSync(join(tmpdir(), "config-nats-"));
		const written = (name: string, text: string) => {
			writeFileSync(join(folder, name), text);
			return join(folder, name);
		};
		const CANARY = "canary-4f1";
		const problem = (settings: Record<string, string>) => {
			try {
				loadConfig({ ...enough, ...settings });
			} catch (error) {
				return (error as Error).message;
			}
			return "none";
		};

		test("a URL is refused at the start, without being repeated, if it could only fail later", () => {
			for (const bad of ["http://h", "nats:h", "nats://h,http://h", `nats://u:${CANARY}%zz@h`, `nats://u:${CANARY}@`]) {
				expect(problem({ NATS_URL: bad })).toMatch(/1 problem.*\n {2}NATS_URL: must|NATS_URL: user and password must/);
				expect(problem({ NATS_URL: bad })).not.toContain(CANARY);
				expect(JSON.stringify(showSettings({ ...enough, NATS_URL: bad }))).not.toContain(CANARY);
			}
		});

		test("files that are no good are named by their setting, without what is in them", async () => {
			const garbage = written("garbage", CANARY);
			const files = ["NATS_CA_FILE", "NATS_CERT_FILE", "NATS_KEY_FILE", "NATS_CREDS_FILE"];
			for (const name of files) {
				expect(problem({ NATS_URL: url, [name]: "/nowhere" })).toMatch(
					new RegExp(`${name}: /nowhere cannot be read \\(ENOENT\\)`),
				);
				expect(problem({ NATS_URL: url, [name]: garbage })).toMatch(
					new RegExp(`${name}: must name a file|must name a .creds`),
				);
				expect(problem({ NATS_URL: url, [name]: garbage })).not.toContain(CANARY);
			}
			const ca = await makeCa();
			const half = written("half.pem", `${ca.pem}\n${ca.pem.replace(/M/g, "N")}`);
			expect(problem({ NATS_URL: url, NATS_CA_FILE: half })).toMatch(/NATS_CA_FILE: must name a file of certificates/);
		});

		test("what does not go together is named", async () => {
			const ca = await makeCa();
			const [one, other] = await Promise.all([ca.issue({ client: true }), ca.issue({ client: true })]);
			const cert = written("cert.pem", one.cert);
			const key = written("key.pem", one.key);
			const creds = written("user.nk", `SU${"A".repeat(56)}\n`);
			const NATS_URL = url;
			expect(problem({ NATS_URL, NATS_CERT_FILE: cert })).toMatch(/NATS_CERT_FILE: needs NATS_KEY_FILE/);
			expect(problem({ NATS_URL, NATS_KEY_FILE: key })).toMatch(/NATS_KEY_FILE: needs NATS_CERT_FILE/);
			const mixed = { NATS_URL, NATS_CERT_FILE: cert, NATS_KEY_FILE: written("other.pem", other.key) };
			expect(problem(mixed)).toMatch(/NATS_KEY_FILE: is not the key of the certificate/);
			expect(problem({ NATS_URL: "nats://u:p@h", NATS_CREDS_FILE: creds })).toMatch(
				/NATS_CREDS_FILE: NATS_URL names a user/,
			);
			const right = { NATS_URL, NATS_CERT_FILE: cert, NATS_KEY_FILE: key, NATS_CREDS_FILE: creds };
			expect(loadConfig({ ...enough, ...right }).nats).toMatchObject({
				url,
				certFile: cert,
				keyFile: key,
				credsFile: creds,
			});
		});

		test("several servers are one place: in TLS if one of them is, with the first one's user", () => {
			expect(readNatsUrl("nats://u%40x:p%2Fw@a:1, tls://b,nats://[::1]:3")).toEqual({
				servers: ["a:1", "b", "[::1]:3"],
				hosts: ["a", "b", "::1"],
				tls: true,
				login: { user: "u@x", pass: "p/w" },
			});
			expect(readNatsUrl("nats://t@a")).toMatchObject({ login: { token: "t" }, tls: false });
		});
	});
});

describe("the settings of tokens", () => {
	const { publicKey, privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
	const pem = publicKey.export({ type: "spki", format: "pem" }) as string;
	const jwt = { AUDIT_JWT_ISSUER: "https://issuer.example", AUDIT_JWT_AUDIENCE: "audit" };
	const url = "https://issuer.example/jwks.json";

	test("are none, or an issuer, an audience and its keys", () => {
		expect(loadConfig(enough).jwt).toBeUndefined();
		expect(loadConfig({ ...enough, ...jwt, AUDIT_JWT_JWKS_URL: url }).jwt).toEqual({
			issuer: "https://issuer.example",
			audience: "audit",
			keys: new URL(url),
			algorithms: ["EdDSA", "ES256", "RS256"],
			claims: { tenants: "tenant_id", roles: "roles", maskedUnits: undefined },
		});
		const jwk = JSON.stringify(publicKey.export({ format: "jwk" }));
		for (const key of [pem, `${pem}\n`, jwk]) {
			expect(loadConfig({ ...enough, ...jwt, AUDIT_JWT_PUBLIC_KEY: key }).jwt?.keys).toBeInstanceOf(KeyObject);
		}
	});

	test.each([
		[{ AUDIT_JWT_ISSUER: "x" }, /2 problem.*AUDIT_JWT_AUDIENCE: is required.*AUDIT_JWT_JWKS_URL: is required/s],
		[{ AUDIT_JWT_AUDIENCE: "x" }, /AUDIT_JWT_ISSUER: is required.*AUDIT_JWT_JWKS_URL: is required/s],
		[{ AUDIT_JWT_JWKS_URL: url }, /AUDIT_JWT_ISSUER: is required.*AUDIT_JWT_AUDIENCE: is required/s],
		[{ ...jwt, AUDIT_JWT_JWKS_URL: url, AUDIT_JWT_PUBLIC_KEY: pem }, /not both/],
		[{ ...jwt, AUDIT_JWT_PUBLIC_KEY: pem, AUDIT_JWT_ALGORITHMS: "RS256,EdDSA" }, /is good for none of/],
	])("go together: %j", (env, problem) => {
		expect(() => loadConfig({ ...enough, ...env })).toThrow(problem);
		// `auditlog config` says the same.
		expect(showSettings({ ...enough, ...env }).filter((shown) => shown.problem)).not.toEqual([]);
	});

	test.each(["HS256", "none", "RS256,HS512", "", "rs256", "RS256;ES256", "toString"])(
		"never %j",
		(AUDIT_JWT_ALGORITHMS) => {
			const env = { ...enough, ...jwt, AUDIT_JWT_JWKS_URL: url, AUDIT_JWT_ALGORITHMS };
			if (AUDIT_JWT_ALGORITHMS === "") expect(loadConfig(env).jwt?.algorithms).toEqual(["EdDSA", "ES256", "RS256"]);
			else expect(() => loadConfig(env)).toThrow(/AUDIT_JWT_ALGORITHMS: must be some of EdDSA/);
		},
	);

	test.each([
		"http://issuer.example/jwks.json",
		"http://127.0.0.1.evil.example/",
		"http://127.evil.example/",
		"file:///etc/passwd",
		"ftp://issuer.example/",
		"https://user:pass@issuer.example/",
		"x",
	])("no keys from %s", (AUDIT_JWT_JWKS_URL) => {
		expect(() => loadConfig({ ...enough, ...jwt, AUDIT_JWT_JWKS_URL })).toThrow(/AUDIT_JWT_JWKS_URL: must be/);
	});

	test.each(["http://127.0.0.1:1/", "http://[::1]:1/", "http://localhost:1/"])("keys from this machine: %s", (here) => {
		expect(loadConfig({ ...enough, ...jwt, AUDIT_JWT_JWKS_URL: here }).jwt?.keys).toEqual(new URL(here));
	});

	test.each([
		["a private key", privateKey.export({ type: "pkcs8", format: "pem" }) as string, /must be a public key/],
		["a private JWK", JSON.stringify(privateKey.export({ format: "jwk" })), /must be a public key/],
		["a shared secret", '{"kty":"oct","k":"c2VjcmV0"}', /must be a public key/],
		[
			"a key for something else",
			generateKeyPairSync("x25519").publicKey.export({ type: "spki", format: "pem" }) as string,
			/must be an Ed25519/,
		],
		[
			"a short key",
			generateKeyPairSync("rsa", { modulusLength: 1024 }).publicKey.export({ type: "spki", format: "pem" }) as string,
			/2048 bits/,
		],
		["no key", "hunter2", /must be a public key/],
	])("not %s for a key, and nothing of it is repeated", (_, AUDIT_JWT_PUBLIC_KEY, problem) => {
		const env = { ...enough, ...jwt, AUDIT_JWT_PUBLIC_KEY };
		expect(() => loadConfig(env)).toThrow(problem);
		expect(() => loadConfig(env)).not.toThrow(/hunter2|BEGIN|c2VjcmV0/);
		expect(JSON.stringify(showSettings(env))).not.toMatch(/hunter2|BEGIN|c2VjcmV0/);
	});
});

describe("the settings of TLS", () => {
	const file = join(mkdtempSync(join(tmpdir(), "config-")), "file");
	writeFileSync(file, "x");

	test("are none, or certificate and key, and for clients authorities and identities", () => {
		expect(loadConfig(enough).tls).toBeUndefined();
		const own = { TLS_CERT_FILE: file, TLS_KEY_FILE: file };
		expect(loadConfig({ ...enough, ...own }).tls).toEqual({ certFile: file, keyFile: file, clients: undefined });
		const clients = { TLS_CLIENT_CA_FILE: file, AUDIT_MTLS_IDENTITIES_FILE: file };
		expect(loadConfig({ ...enough, ...own, ...clients }).tls?.clients).toEqual({ caFile: file, identitiesFile: file });
	});

	test.each([
		[{ TLS_CERT_FILE: file }, /TLS_CERT_FILE: needs TLS_KEY_FILE/],
		[{ TLS_KEY_FILE: file }, /TLS_KEY_FILE: needs TLS_CERT_FILE/],
		[{ TLS_CLIENT_CA_FILE: file }, /needs AUDIT_MTLS_IDENTITIES_FILE.*needs TLS_CERT_FILE/s],
		[{ AUDIT_MTLS_IDENTITIES_FILE: file }, /needs TLS_CLIENT_CA_FILE/],
		[{ TLS_CERT_FILE: "/nowhere", TLS_KEY_FILE: "/nowhere" }, /2 problem.*cannot be read \(ENOENT\)/s],
	])("go together: %j", (env, problem) => {
		expect(() => loadConfig({ ...enough, ...env })).toThrow(problem);
		expect(showSettings({ ...enough, ...env }).filter((shown) => shown.problem)).not.toEqual([]);
	});
});
