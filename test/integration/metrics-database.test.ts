import { once } from "node:events";
import { type AddressInfo, createServer, type Socket } from "node:net";
import { expect, test } from "vitest";
import { addGauges } from "../../src/gauges.ts";
import { Telemetry } from "../../src/telemetry.ts";
import { testSecret } from "../support/services.ts";
import { openWritePath } from "../support/write-path.ts";

test("however often metrics are asked for, which needs no key, a database that says nothing is asked once", async () => {
	const sockets = new Set<Socket>();
	const silent = createServer((socket) => void sockets.add(socket.on("error", () => {}))).listen(0, "127.0.0.1");
	await once(silent, "listening");
	const databaseUrl = `postgres://u:p@127.0.0.1:${(silent.address() as AddressInfo).port}/audit`;
	const path = openWritePath({ databaseUrl, secret: testSecret() });
	const telemetry = new Telemetry();
	addGauges(telemetry, { ...path, natsDoor: undefined });
	const scrapes = await Promise.all(Array.from({ length: 20 }, () => telemetry.render("prometheus")));
	for (const { text } of scrapes) expect(text).toMatch(/^audit_build_info\{.*postgres="".*\} 1$/m);
	const { totalCount, waitingCount } = path.db.writer;
	expect(totalCount + waitingCount).toBe(1);
	for (const socket of sockets) socket.destroy();
	silent.close();
	await path.close();
});
