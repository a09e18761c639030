import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import pg from "pg";
import { type ApiKey, formatApiKey, hashSecret, newApiKey } from "../src/auth/api-keys.ts";
import { insertKey } from "../src/auth/key-changes.ts";
import type { Role } from "../src/auth/principal.ts";
import { deriveKeys } from "../src/auth/secret.ts";
import type { Closer } from "../src/closer.ts";
import { startPostgres } from "../src/dev/postgres.ts";
import type { TenantId } from "../src/event/event.ts";
import { migrate } from "../src/storage/migrate.ts";
import { verifyTrail } from "../src/storage/verify.ts";

/** Of what the service is measured with that runs as it is deployed: `auditlog serve` in a process of its own. */

export const SECRET = "bench-bench-bench-bench-bench-bench";

export interface BenchDatabase {
	readonly url: string;
	readonly version: string;
	/** Its id and its text. */
	makeKey(role: Role, tenant: string): Promise<{ id: string; text: string }>;
	verify(): Promise<void>;
}

/** A PostgreSQL of its own, migrated. */
export async function startDatabase(closer: Closer): Promise<BenchDatabase> {
	const folder = closer.add(mkdtempSync(join(tmpdir(), "auditlog-bench-")), (path) =>
		rmSync(path, { recursive: true, force: true }),
	);
	const { url } = closer.add(await startPostgres({ dataDir: join(folder, "postgres") }), (p) => p.stop());
	await migrate({ databaseUrl: url, secret: SECRET });
	return openDatabaseAt(closer, url);
}

/** One that is there, migrated with SECRET. @param url the superuser's */
export async function openDatabaseAt(closer: Closer, url: string): Promise<BenchDatabase> {
	const admin = new pg.Client({ connectionString: url });
	await admin.connect();
	closer.add(admin, (client) => client.end());
	const { rows } = await admin.query<{ server_version: string }>("SHOW server_version");
	return {
		url,
		version: rows[0]?.server_version ?? "",
		async makeKey(role, tenant) {
			const made: ApiKey = newApiKey();
			const tenants = new Set([tenant as TenantId]);
			const rest = { id: made.id, maskedUnits: [], expiresAt: undefined };
			await insertKey(admin, hashSecret(deriveKeys(SECRET), made), {
				name: `${role} of ${tenant}`,
				role,
				tenants,
				by: "bench",
				...rest,
			});
			return { id: made.id, text: formatApiKey(made) };
		},
		async verify() {
			const { ok } = await verifyTrail({ databaseUrl: url, secret: SECRET });
			if (!ok) throw new Error("the trail does not verify");
		},
	};
}

const ROOT = join(import.meta.dirname, "..");

/** The program as the image runs it: built, and with the same options of Node. TypeScript from a clone takes more memory. */
export function programOfImage(): string[] {
	execFileSync("npm", ["run", "--silent", "prepack"], { cwd: ROOT, stdio: "inherit" });
	const entrypoint = /^ENTRYPOINT (\[.*\])$/m.exec(readFileSync(join(ROOT, "Dockerfile"), "utf8"))?.[1];
	if (entrypoint === undefined) throw new Error("the Dockerfile has no ENTRYPOINT");
	const [, ...words] = JSON.parse(entrypoint) as string[];
	return words.map((word) => word.replace(/^\/app\//, ""));
}

/** @param program what Node is started with @returns where it takes HTTP, and what ends it */
export async function startService(
	closer: Closer,
	env: Readonly<Record<string, string>>,
	program: readonly string[] = ["src/main.ts"],
): Promise<{ url: string; pid: number; stop(): Promise<void> }> {
	const child = spawn(process.execPath, [...program, "serve"], {
		cwd: ROOT,
		env: {
			AUDIT_SECRET: SECRET,
			AUDIT_AUTO_CREATE_TENANTS: "true",
			HTTP_PORT: "0",
			GRPC_PORT: "0",
			AUDIT_DRAIN_NOTICE_MS: "0",
			AUDIT_DRAIN_MS: "500",
			...env,
		},
		stdio: ["ignore", "pipe", "inherit"],
	});
	closer.add(child, () => child.kill("SIGKILL"));
	const exited = once(child, "exit");
	const url = await new Promise<string>((resolve, reject) => {
		void exited.then(() => reject(new Error("the service ended before it listened")));
		// Read to the end: a full pipe would stop the service.
		createInterface(child.stdout).on("line", (line) => {
			const { http_url } = JSON.parse(line) as { http_url?: string };
			if (http_url !== undefined) resolve(http_url);
		});
	});
	const stop = async () => {
		child.kill();
		await exited;
	};
	return { url, pid: child.pid as number, stop };
}

/** Of the superuser, on a connection of its own. */
export async function query<T extends pg.QueryResultRow>(url: string, sql: string): Promise<T[]> {
	const client = new pg.Client({ connectionString: url });
	await client.connect();
	try {
		return (await client.query<T>(sql)).rows;
	} finally {
		await client.end();
	}
}
