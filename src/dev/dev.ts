import { setTimeout as sleep } from "node:timers/promises";
import { Closer } from "../closer.ts";
import { type Config, type Environment, loadConfig, type Port } from "../config.ts";
import { createLogger, type Logger } from "../logger.ts";
import { type RunningServer, startServer } from "../server.ts";
import { type Migrated, migrate } from "../storage/migrate.ts";
import { CannotStart } from "./cannot-start.ts";
import { claimDataDir, type DataDir, type DevFile } from "./data-dir.ts";
import { type Demo, seedDemoTenants } from "./demo-tenants.ts";
import { freePort } from "./free-port.ts";
import { type Nats, startNats } from "./nats.ts";
import { startPostgres } from "./postgres.ts";
import { NATS_PORT, summary } from "./summary.ts";
import { supervise } from "./supervise.ts";
import { watchMake } from "./watch-make.ts";

const POSTGRES_PORT = 5432;
const NATS_WAIT_MS = 2_000;

/**
 * `make run`: the service with everything it needs. Starts a PostgreSQL and a NATS of its own unless the environment names
 * others, migrates, makes the demo tenants, serves, and tells a person on standard output how to use it.
 *
 * @throws CannotStart, or an error with a `code`, for what a person can mend
 */
export async function startDev(env: Environment): Promise<{ stop(): Promise<void> }> {
	const startedAt = Date.now();
	const closer = new Closer();
	try {
		// First, so that whoever interrupts the start is heard once it is done.
		closer.add(watchMake(), (watch) => watch.close());
		const settings = readSettings(env, {});
		const dataDir = closer.add(await claimDataDir(settings.dataDir), (claimed) => claimed.release());
		const logger = createLogger(settings.logLevel);
		const postgres = await databaseFor(env, dataDir, closer, logger);
		const nats = await natsFor(env, dataDir, closer, logger);
		const config = readSettings(env, {
			AUDIT_SECRET: dataDir.secret,
			...(postgres && { DATABASE_URL: postgres.url }),
			...(nats && "url" in nats && { NATS_URL: nats.url }),
		});
		await prepareDatabase(config);
		const demo = await seedDemoTenants(config.databaseUrl, config.secret, logger);
		const server = closer.add(await startOnFreePorts(config, logger), (running) => running.close());
		await natsReached(server);

		dataDir.writeDevFile(devFile(config, server, demo));
		const tookMs = Date.now() - startedAt;
		process.stdout.write(summary({ config, server, demo, nats, dataDir: dataDir.path, tookMs }));
	} catch (error) {
		await closer.close();
		throw error;
	}
	return { stop: () => closer.close() };
}

/** `make dev-setup`: migrates the database that `make run` would use, and leaves nothing running. */
export async function setUpDev(env: Environment): Promise<Migrated> {
	const closer = new Closer();
	try {
		const settings = readSettings(env, {});
		const dataDir = closer.add(await claimDataDir(settings.dataDir), (claimed) => claimed.release());
		const postgres = await databaseFor(env, dataDir, closer, createLogger(settings.logLevel));
		const own = { AUDIT_SECRET: dataDir.secret, ...(postgres && { DATABASE_URL: postgres.url }) };
		return await prepareDatabase(readSettings(env, own));
	} finally {
		await closer.close();
	}
}

/** Stands in while nothing is started yet, so that every other mistake in the settings is reported before anything is. */
const NOT_YET = { DATABASE_URL: "postgres://not-yet", AUDIT_SECRET: "not yet".padEnd(32) };

/** The settings: what the environment says, then what this run provides, then the defaults of development. */
function readSettings(env: Environment, provided: Environment): Config {
	// Nobody balances load between development runs.
	const ours = {
		LOG_LEVEL: "warn",
		AUDIT_AUTO_CREATE_TENANTS: "true",
		AUDIT_DRAIN_NOTICE_MS: "0",
		...NOT_YET,
		...provided,
	};
	const missing = Object.entries(ours).filter(([name]) => !isGiven(env, name));
	try {
		return loadConfig({ ...env, ...Object.fromEntries(missing) });
	} catch (error) {
		throw new CannotStart((error as Error).message, { cause: error });
	}
}

function isGiven(env: Environment, name: string): boolean {
	return Boolean(env[name] || env[`${name}_FILE`]);
}

/** A PostgreSQL of our own, or undefined when the environment names one. */
async function databaseFor(env: Environment, dataDir: DataDir, closer: Closer, logger: Logger) {
	if (isGiven(env, "DATABASE_URL")) return undefined;
	const start = (port: number) => startPostgres({ dataDir: dataDir.postgres, port });
	const postgres = await start(POSTGRES_PORT);
	closer.add(supervise("postgres", postgres, start, logger), (supervised) => supervised.stop());
	return postgres;
}

async function prepareDatabase({ databaseUrl, secret }: Config): Promise<Migrated> {
	try {
		return await migrate({ databaseUrl, secret });
	} catch (error) {
		// What PostgreSQL and sockets report has a code.
		if (typeof (error as { code?: unknown }).code !== "string") throw error;
		const { host, pathname } = new URL(databaseUrl);
		const why = `the database ${host}${pathname} cannot be used: ${(error as Error).message}`;
		throw new CannotStart(why, { cause: error });
	}
}

/** A nats-server of our own, or why there is none; undefined when the environment names one. */
async function natsFor(env: Environment, dataDir: DataDir, closer: Closer, logger: Logger) {
	if (isGiven(env, "NATS_URL")) return undefined;
	const nats = await startNats({ dataDir: dataDir.nats, port: NATS_PORT });
	if ("unavailable" in nats) return nats;
	const startAgain = async (port: number): Promise<Nats> => {
		const again = await startNats({ dataDir: dataDir.nats, port });
		if ("unavailable" in again) throw new CannotStart(again.unavailable);
		return again;
	};
	closer.add(supervise("nats", nats, startAgain, logger), (supervised) => supervised.stop());
	return nats;
}

/** Starts the service. A port that was asked for is free or it is an error; a default one gives way. */
async function startOnFreePorts(config: Config, logger: Logger): Promise<RunningServer> {
	const free = async (port: Port) =>
		port.explicit ? port : { ...port, number: await freePort(port.number, config.host) };
	for (let attempt = 1; ; attempt++) {
		const [httpPort, grpcPort] = [await free(config.httpPort), await free(config.grpcPort)];
		try {
			return await startServer({ ...config, httpPort, grpcPort }, logger);
		} catch (error) {
			// Somebody else, perhaps a run that began with this one, took it after we looked.
			const { code, port } = error as { code?: string; port?: number };
			const mayGiveWay = [httpPort, grpcPort].some(({ number, explicit }) => number === port && !explicit);
			if (code !== "EADDRINUSE" || !mayGiveWay || attempt === 10) throw error;
		}
	}
}

/** Waits until messages can be published, so that what the summary proposes works; but not for long. */
async function natsReached({ natsDoor }: RunningServer): Promise<void> {
	const deadline = Date.now() + NATS_WAIT_MS;
	while (natsDoor?.status().state === "connecting" && Date.now() < deadline) await sleep(10);
}

/** What `dev.json` says: the command line, tools and tests find everything there. */
function devFile(config: Config, server: RunningServer, demo: Demo): DevFile {
	return {
		http_url: server.httpUrl,
		grpc_url: server.grpcUrl,
		nats_url: config.nats?.url ?? null,
		database_url: config.databaseUrl,
		admin_key: demo.adminKey,
		tenants: demo.tenants.map(({ id, name, writerKey, readerKey }) => ({
			id,
			name,
			writer_key: writerKey,
			reader_key: readerKey,
		})),
	};
}
