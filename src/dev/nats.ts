import { mkdirSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { type BackgroundProcess, StartFailed, startInBackground } from "./background-process.ts";
import { freePort } from "./free-port.ts";
import { atLeast, findNatsServer, type NatsServer } from "./nats-binary.ts";

/** A nats-server with JetStream of our own, on the loopback address. */
export interface Nats extends BackgroundProcess {
	readonly url: string;
	readonly port: number;
	readonly version: string;
	/** Whether it acknowledges a message only once that is on disk, so that a power cut loses none. */
	readonly syncAlways: boolean;
}

export interface NatsOptions {
	/** Ours alone: holds the streams, the configuration and the log. */
	dataDir: string;
	/** The port to take if it is free; another is found when it is not. Absent: any. */
	port?: number;
	/** Configuration lines instead of `OPEN_ACCOUNT`: other accounts, users and permissions. */
	config?: string;
}

/**
 * Everybody who can connect is in one account. It sees the server's own variables, by which the service finds out whether
 * the server syncs before it acknowledges.
 */
const OPEN_ACCOUNT = `system_account: SYS
no_auth_user: anybody
accounts {
  SYS: { exports: [ { service: "$SYS.REQ.SERVER.*.VARZ" } ] }
  EVERYBODY: {
    jetstream: enabled
    users: [ { user: anybody, password: anything } ]
    imports: [ { service: { account: SYS, subject: "$SYS.REQ.SERVER.*.VARZ" } } ]
  }
}`;

/** Starts it, or says why none can be had and how to get one. */
export async function startNats(options: NatsOptions): Promise<Nats | { unavailable: string }> {
	const dataDir = resolve(options.dataDir);
	const server = await findNatsServer();
	if ("unavailable" in server) return server;
	mkdirSync(dataDir, { recursive: true, mode: 0o700 });
	// An older server does not start with a setting it does not know.
	const syncAlways = atLeast(server.version, "2.10");

	for (let attempt = 1; ; attempt++) {
		const port = await freePort(options.port);
		try {
			writeFileSync(natsConfigPath(dataDir), configuration(dataDir, port, syncAlways, options.config));
			const running = await launch(server, dataDir);
			return { ...running, port, url: `nats://127.0.0.1:${port}`, version: server.version, syncAlways };
		} catch (error) {
			const taken = error instanceof StartFailed && /address already in use/.test(error.log);
			if (!taken || attempt === 20) throw error;
		}
	}
}

/** Where the server of a data directory finds its configuration: named on its command line, which identifies it. */
export function natsConfigPath(dataDir: string): string {
	return join(resolve(dataDir), "server.conf");
}

function configuration(dataDir: string, port: number, syncAlways: boolean, accounts = OPEN_ACCOUNT): string {
	// Strings of the configuration language escape as JSON's do.
	return `listen: "127.0.0.1:${port}"
server_name: auditlog
pid_file: ${JSON.stringify(join(dataDir, "nats.pid"))}
jetstream {
  store_dir: ${JSON.stringify(join(dataDir, "jetstream"))}
  max_memory_store: 256MB
  max_file_store: 64GB
${syncAlways ? "  sync_interval: always\n" : ""}}
${accounts}
`;
}

function launch({ binary }: NatsServer, dataDir: string): Promise<BackgroundProcess> {
	return startInBackground({
		command: binary,
		args: ["-c", natsConfigPath(dataDir)],
		env: {},
		logFile: join(dataDir, "nats.log"),
		ready: /Server is ready/,
		stopSignal: "SIGTERM",
		lastSignal: "SIGKILL",
		stopDeadlineMs: 15_000,
		startDeadlineMs: 30_000,
	});
}
