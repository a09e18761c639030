import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { KEY_KEPT_MS, REVOKED_WITHIN_MS } from "../src/auth/api-key-verifier.ts";
import { formatApiKey, newApiKey, parseApiKey } from "../src/auth/api-keys.ts";
import { PERMISSIONS } from "../src/auth/permissions.ts";
import { ROLES, type Role } from "../src/auth/principal.ts";
import { RECHECK_MS, UNCONFIRMED_MS } from "../src/rpc/while-authenticated.ts";

/** docs/access.md says what the program does. */

const doc = readFileSync(join(import.meta.dirname, "../docs/access.md"), "utf8");

describe("docs/access.md", () => {
	test("says which role may call what", () => {
		const [, section = ""] = doc.split("## Roles\n");
		const rows = (section.split("\n## ")[0]?.match(/^\|.*\|$/gm) ?? []).map((row) =>
			row
				.split("|")
				.slice(1, -1)
				.map((cell) => cell.trim()),
		);
		const expected = Object.entries(PERMISSIONS).map(([rpc, roles]: [string, readonly Role[]]) => [
			`\`${rpc.charAt(0).toUpperCase()}${rpc.slice(1)}\``,
			...ROLES.map((role) => (roles.includes(role) ? "yes" : "")),
		]);
		expect(rows[0]).toEqual(["RPC", ...ROLES]);
		expect(rows.slice(2)).toEqual(expected);
	});

	test("publishes an expression by which secret scanners find keys, wherever they are", () => {
		const published = /^al_\[.*$/m.exec(doc)?.[0] ?? "";
		// As GitHub wants custom patterns: the secret, between characters that are none of its own.
		const scanner = new RegExp(`(?:^|[^0-9A-Za-z])(${published})(?:$|[^0-9A-Za-z])`, "gm");
		const keys = Array.from({ length: 50 }, () => formatApiKey(newApiKey()));
		const [a, b, c] = keys as [string, string, string];
		const text = `AUDIT_KEY=${a}\n{"authorization": "Bearer ${b}"}\nhttps://x/?k=${c}&y\n${keys.slice(3).join("\n")}`;
		const found = [...text.matchAll(scanner)].map(([, key]) => key);
		expect(found).toEqual(keys);
		// What looks like one and is none is told by its checksum.
		const near = a.replace(/.$/, (last) => (last === "0" ? "1" : "0"));
		expect(near.match(scanner)).not.toBeNull();
		expect(parseApiKey(near)).toBeUndefined();
	});

	test("names the times that make up the 30 seconds, which they do", () => {
		expect(REVOKED_WITHIN_MS).toBe(30_000);
		expect(KEY_KEPT_MS + RECHECK_MS).toBeLessThan(REVOKED_WITHIN_MS);
		expect(KEY_KEPT_MS + UNCONFIRMED_MS).toBeLessThan(REVOKED_WITHIN_MS);
		expect(doc).toContain(`remembered for ${KEY_KEPT_MS / 1000} seconds`);
		expect(doc).toContain(`looked at again every ${RECHECK_MS / 1000}`);
		expect(doc).toContain(`after ${UNCONFIRMED_MS / 1000}.`);
	});
});
