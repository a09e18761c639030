import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Client } from "pg";
import { inject } from "vitest";
import { type Nats, startNats } from "../../src/dev/nats.ts";
import { type Postgres, type PostgresOptions, startPostgres } from "../../src/dev/postgres.ts";

/** A migrated, empty database of the calling test's own. */
export interface TestDatabase {
	/** Reaches it as superuser: what `DATABASE_URL` is to the service, which connects as its own roles. */
	readonly url: string;
	readonly name: string;
	/** Drops it, whoever is connected. What is not dropped goes with the suite's PostgreSQL. */
	drop(): Promise<void>;
}

export async function createTestDatabase(): Promise<TestDatabase> {
	const name = `test_${randomBytes(6).toString("hex")}`;
	await asAdmin((admin) => admin.query(`CREATE DATABASE ${name} TEMPLATE ${inject("templateDatabase")}`));
	return {
		name,
		url: `${inject("postgresUrl")}/${name}`,
		drop: async () => {
			await asAdmin((admin) => admin.query(`DROP DATABASE IF EXISTS ${name} WITH (FORCE)`));
		},
	};
}

/** The suite's nats-server. Test files share its streams: one that runs a NATS door starts its own (`startOwnNats`). */
export function natsUrl(): string {
	return inject("natsUrl");
}

/** The AUDIT_SECRET that goes with the test databases. */
export function testSecret(): string {
	return inject("secret");
}

/** A PostgreSQL that the test may break. It is empty: `migrate` it, and `stop` it. */
export async function startOwnPostgres(options: Partial<PostgresOptions> = {}): Promise<Postgres> {
	return startPostgres({ dataDir: ownDirectory("postgres"), ...options });
}

/** A nats-server that the test may break, or has to itself. `stop` it. Starts in well under 100 ms. */
export async function startOwnNats(options: { dataDir?: string; port?: number; config?: string } = {}): Promise<Nats> {
	const nats = await startNats({ dataDir: ownDirectory("nats"), ...options });
	if ("unavailable" in nats) throw new Error(nats.unavailable);
	return nats;
}

/** A path of its own under the run's folder; nothing is there yet. */
export function ownDirectory(name: string): string {
	return join(inject("scratchDir"), `${name}-${randomBytes(6).toString("hex")}`);
}

/**
 * Asks again until `condition` gives something truthy, and returns that. At the deadline it throws what the condition threw
 * last, or that it never held. The deadline is for what will never come, and far from what a slow machine needs.
 */
export async function waitFor<T>(
	condition: () => T | Promise<T>,
	{ deadlineMs = 45_000, intervalMs = 20, what = "the condition" } = {},
): Promise<NonNullable<T>> {
	const deadline = Date.now() + deadlineMs;
	for (;;) {
		let cause: unknown;
		try {
			const value = await condition();
			if (value) return value;
		} catch (error) {
			cause = error;
		}
		if (Date.now() > deadline) throw new Error(`${what} did not hold within ${deadlineMs} ms`, { cause });
		await sleep(intervalMs);
	}
}

async function asAdmin(use: (admin: Client) => Promise<unknown>): Promise<void> {
	const admin = new Client({ connectionString: `${inject("postgresUrl")}/postgres` });
	await admin.connect();
	try {
		await use(admin);
	} finally {
		await admin.end();
	}
}
