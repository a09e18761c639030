import { once } from "node:events";
import { statSync, writeFileSync } from "node:fs";
import { type IncomingMessage, request } from "node:http";
import { type AddressInfo, createServer } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { connect } from "nats";
import { afterEach, expect, test } from "vitest";
import { isRunning } from "../../src/dev/process-info.ts";
import { DevProcess, endRuns } from "../support/dev-process.ts";
import { ownDirectory, startOwnNats, startOwnPostgres, waitFor } from "../support/services.ts";

const TIMEOUT_MS = 180_000;

afterEach(endRuns);

test("a run serves two demo tenants, says how to use them, and leaves nothing behind when told to stop", {
	timeout: TIMEOUT_MS,
}, async () => {
	const run = new DevProcess();
	const dev = await run.ready();
	expect(statSync(run.devFile).mode & 0o777).toBe(0o600);
	expect(statSync(join(run.dataDir, "secret")).mode & 0o777).toBe(0o600);
	expect(dev.tenants.map(({ name }) => name)).toEqual(["Acme", "Globex"]);
	const keys = [dev.admin_key, ...dev.tenants.flatMap((tenant) => [tenant.writer_key, tenant.reader_key])];
	expect(new Set(keys).size).toBe(5);
	for (const said of [dev.http_url, dev.grpc_url, dev.nats_url, ...keys]) expect(run.output).toContain(said);

	await write(dev, 0, "over.http");
	await publish(dev, 1, "over.nats");
	await waitFor(async () => (await actions(dev, 0)).includes("over.http"));
	await waitFor(async () => (await actions(dev, 1)).includes("over.nats"));
	expect(await actions(dev, 1)).not.toContain("over.http");

	run.child.kill("SIGTERM");
	expect(await run.exited()).toBe(0);
	expect(run.processes()).toEqual([]);
	expect(() => statSync(run.devFile)).toThrow("ENOENT");
});

test("after a kill the next run ends what was left and finds keys and events as they were", {
	timeout: TIMEOUT_MS,
}, async () => {
	const first = new DevProcess();
	const before = await first.ready();
	await write(before, 0, "before.kill");
	first.child.kill("SIGKILL");
	await first.exited();
	const left = first.processes();
	expect(left.length).toBeGreaterThan(1);

	const second = new DevProcess({ dataDir: first.dataDir });
	const after = await second.ready();
	expect(second.processes().filter((pid) => left.includes(pid))).toEqual([]);
	expect([after.admin_key, after.tenants]).toEqual([before.admin_key, before.tenants]);
	expect(await actions(after, 0)).toContain("before.kill");

	const third = new DevProcess({ dataDir: first.dataDir });
	expect(await third.exited()).toBe(1);
	expect(third.output).toContain(`process ${second.child.pid} already runs in ${first.dataDir}`);
	second.child.kill("SIGINT");
	expect(await second.exited()).toBe(0);
	expect(second.processes()).toEqual([]);
});

test.each(["SIGINT", "SIGTERM", "SIGKILL"] as const)(
	"%s to make alone stops everything",
	{ timeout: TIMEOUT_MS },
	async (signal) => {
		const run = new DevProcess({ command: makeRun() });
		await run.ready();
		expect(run.processes().length).toBeGreaterThan(3);
		run.child.kill(signal);
		await waitFor(() => run.processes().length === 0, { what: "everything having ended" });
		expect(() => statSync(run.devFile)).toThrow("ENOENT");
	},
);

test("Ctrl-C, which reaches make and the service at once, lets a call in flight finish", {
	timeout: TIMEOUT_MS,
}, async () => {
	const run = new DevProcess({ command: makeRun() });
	const dev = await run.ready();
	const call = request(`${dev.http_url}/v1/audit/events`, {
		method: "POST",
		headers: { authorization: `Bearer ${dev.tenants[0]?.writer_key}`, "content-type": "application/json" },
	});
	const answer = once(call, "response");
	call.write('{"action":"in.flight",');
	await waitFor(() => call.socket?.bytesWritten);
	process.kill(-(run.child.pid as number), "SIGINT");
	await waitFor(() => isRefused(dev.http_url), { what: "the service draining" });
	// Longer than make is watched for signs of a signal: it must not count as a second one.
	await sleep(1_000);
	call.end('"actor":{"id":"ada"}}');
	const [response] = (await answer) as [IncomingMessage];
	expect(response.statusCode).toBe(200);
	await waitFor(() => run.processes().length === 0, { what: "everything having ended" });
	expect(() => statSync(run.devFile)).toThrow("ENOENT");
});

test("a default port that is taken gives way, one that was asked for does not", { timeout: TIMEOUT_MS }, async () => {
	const squatter = createServer().listen(0, "127.0.0.1");
	await once(squatter, "listening");
	// Another test may have it at the moment; the developer may have it for good, which serves as well.
	const patience = { deadlineMs: 30_000, what: "port 8080 to be free" };
	const onDefault = await waitFor(() => listenOn(8080), patience).catch(() => undefined);
	const taken = String((squatter.address() as AddressInfo).port);
	try {
		const refused = new DevProcess({ env: { HTTP_PORT: taken } });
		expect(await refused.exited()).toBe(1);
		expect(refused.output).toContain(taken);
		expect(refused.processes()).toEqual([]);

		const run = new DevProcess({ dataDir: refused.dataDir, env: { HTTP_PORT: "" } });
		const dev = await run.ready();
		expect(new URL(dev.http_url).port).not.toBe("8080");
		expect(run.output).toContain("port 8080 is taken");
		run.child.kill("SIGTERM");
		expect(await run.exited()).toBe(0);
	} finally {
		squatter.close();
		onDefault?.close();
	}
});

/** As in the Makefile, without its installing. */
function makeRun(): string[] {
	const makefile = `${ownDirectory("run")}.mk`;
	writeFileSync(makefile, `run:\n\t@${process.execPath} src/main.ts dev\n`);
	return ["make", "-f", makefile, "run"];
}

function isRefused(url: string): Promise<boolean> {
	return fetch(`${url}/livez`).then(
		() => false,
		() => true,
	);
}

type Dev = Awaited<ReturnType<DevProcess["ready"]>>;

async function write(dev: Dev, tenant: 0 | 1, action: string): Promise<void> {
	const response = await fetch(`${dev.http_url}/v1/audit/events`, {
		method: "POST",
		headers: { authorization: `Bearer ${dev.tenants[tenant]?.writer_key}`, "content-type": "application/json" },
		body: JSON.stringify({ action, actor: { id: "ada" } }),
	});
	expect(response.ok, await response.text()).toBe(true);
}

async function publish(dev: Dev, tenant: 0 | 1, action: string): Promise<void> {
	const nc = await connect({ servers: dev.nats_url ?? [] });
	const subject = `audit.events.${dev.tenants[tenant]?.id}`;
	await nc.jetstream().publish(subject, JSON.stringify({ action, actor: { id: "ada" } }));
	await nc.close();
}

async function actions(dev: Dev, tenant: 0 | 1): Promise<string[]> {
	const response = await fetch(`${dev.http_url}/v1/audit/events`, {
		headers: { authorization: `Bearer ${dev.tenants[tenant]?.reader_key}` },
	});
	const body = (await response.json()) as { events: { action: string }[] };
	return body.events.map((event) => event.action);
}

test("a database and a NATS of somebody else's are used, and left running", { timeout: TIMEOUT_MS }, async () => {
	const postgres = await startOwnPostgres();
	const nats = await startOwnNats();
	const run = new DevProcess({ env: { DATABASE_URL: postgres.url, NATS_URL: nats.url } });
	const dev = await run.ready();
	expect(dev).toMatchObject({ database_url: postgres.url, nats_url: nats.url });
	expect(run.processes()).toEqual([run.child.pid]);
	run.child.kill("SIGTERM");
	expect(await run.exited()).toBe(0);
	for (const server of [postgres, nats]) expect(isRunning(server.pid)).toBe(true);

	// Another folder has another secret: it must not take the trail over.
	const other = new DevProcess({ env: { DATABASE_URL: postgres.url, NATS_URL: nats.url } });
	expect(await other.exited()).toBe(1);
	expect(other.output).toContain("another AUDIT_SECRET");

	const again = new DevProcess({ dataDir: run.dataDir, env: { DATABASE_URL: postgres.url, NATS_URL: nats.url } });
	expect((await again.ready()).admin_key).toBe(dev.admin_key);
	again.child.kill("SIGTERM");
	expect(await again.exited()).toBe(0);
	await nats.stop();
	await postgres.stop();
});

test("whoever cannot wait and sends a second signal leaves nothing running either", {
	timeout: TIMEOUT_MS,
}, async () => {
	const run = new DevProcess();
	await run.ready();
	run.child.kill("SIGINT");
	run.child.kill("SIGTERM");
	await run.exited();
	await waitFor(() => run.processes().length === 0, { what: "everything having ended" });
});

/** A server on this port, or undefined if it is taken. */
async function listenOn(port: number) {
	const server = createServer();
	const failed = once(server, "error").then(() => undefined);
	return Promise.race([failed, once(server.listen(port, "127.0.0.1"), "listening").then(() => server)]);
}
