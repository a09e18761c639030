import { chmodSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Client } from "pg";
import type { TestProject } from "vitest/node";
import { Closer } from "../src/closer.ts";
import { endLeftovers } from "../src/dev/leftovers.ts";
import { startNats } from "../src/dev/nats.ts";
import { startPostgres } from "../src/dev/postgres.ts";
import { isRunning } from "../src/dev/process-info.ts";
import { migrate } from "../src/storage/migrate.ts";
import { createManagedDatabase } from "./support/managed-postgres.ts";

declare module "vitest" {
	interface ProvidedContext {
		/** The suite's PostgreSQL, as superuser, without a database in the path. */
		postgresUrl: string;
		/** The migrated database that test databases are copies of. */
		templateDatabase: string;
		natsUrl: string;
		/** A folder of this run, removed at its end. */
		scratchDir: string;
		/** The AUDIT_SECRET the template was migrated with: the passwords of the service's roles come from it. */
		secret: string;
	}
}

const PREFIX = "auditlog-test-";
const TEMPLATE = "template_migrated";
const SECRET = "0123456789abcdef0123456789abcdef-of-the-test-suite";

/** One real PostgreSQL and one real nats-server for the whole run, on free ports and in a folder of its own. */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
	await sweepKilledRuns();
	const closer = new Closer();
	try {
		const scratchDir = mkdtempSync(join(tmpdir(), `${PREFIX}${process.pid}-`));
		// PostgreSQL may run as another user, who must be able to pass.
		chmodSync(scratchDir, 0o711);
		closer.add(scratchDir, removeScratchDir);
		const postgres = closer.add(
			await startPostgres({ dataDir: join(scratchDir, "postgres"), settings: { max_connections: "300" } }),
			(server) => server.stop(),
		);
		const nats = await startNats({ dataDir: join(scratchDir, "nats") });
		if ("unavailable" in nats) throw new Error(`the tests need a nats-server. ${nats.unavailable}`);
		closer.add(nats, (server) => server.stop());
		const templateUrl = await createTemplate(postgres.url);
		await migrate({ databaseUrl: templateUrl, secret: SECRET });

		project.provide("postgresUrl", postgres.url.replace(/\/postgres$/, ""));
		project.provide("templateDatabase", new URL(templateUrl).pathname.slice(1));
		project.provide("natsUrl", nats.url);
		project.provide("scratchDir", scratchDir);
		project.provide("secret", SECRET);
		return () => closer.close();
	} catch (error) {
		await closer.close();
		throw error;
	}
}

/** @returns how the one who is to migrate it reaches it: the superuser, or on request an owner without such powers */
async function createTemplate(adminUrl: string): Promise<string> {
	if (process.env.TEST_MANAGED_POSTGRES) return (await createManagedDatabase(adminUrl)).url;
	const client = new Client({ connectionString: adminUrl });
	await client.connect();
	try {
		await client.query(`CREATE DATABASE ${TEMPLATE}`);
	} finally {
		await client.end();
	}
	return adminUrl.replace(/\/postgres$/, `/${TEMPLATE}`);
}

/** Runs that were killed left their folders: each name holds the number of the process it belonged to. */
async function sweepKilledRuns(): Promise<void> {
	for (const name of readdirSync(tmpdir())) {
		const owner = new RegExp(`^${PREFIX}(\\d+)-`).exec(name)?.[1];
		if (owner !== undefined && !isRunning(Number(owner))) await removeScratchDir(join(tmpdir(), name));
	}
}

/** Removes a run's folder, after ending the servers in it that their tests did not get to stop. */
async function removeScratchDir(scratchDir: string): Promise<void> {
	for (const name of readdirSync(scratchDir)) {
		const directory = join(scratchDir, name);
		await endLeftovers({ postgres: directory, nats: directory });
		// A development run's folder holds both.
		await endLeftovers({ postgres: join(directory, "postgres"), nats: join(directory, "nats") });
	}
	rmSync(scratchDir, { recursive: true, force: true });
}
