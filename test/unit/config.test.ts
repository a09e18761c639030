import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { loadConfig, showSettings } from "../../src/config.ts";

const enough = { DATABASE_URL: "postgres://localhost/audit", AUDIT_SECRET: "s".repeat(32) };

describe("the configuration", () => {
	test("needs a database and a secret, and has a default for everything else", () => {
		expect(loadConfig(enough)).toMatchObject({
			host: "127.0.0.1",
			httpPort: { number: 8080, explicit: false },
			grpcPort: { number: 50051, explicit: false },
			natsUrl: undefined,
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
});
