import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { checkTrail } from "../../support/check-trail.ts";
import { testSecret } from "../../support/services.ts";
import { checkCell, everyCell, inTurns } from "./cells.ts";
import { methodsBy } from "./methods.ts";
import { PROBES } from "./probes.ts";
import { type Door, openDoors, STREAMS } from "./send.ts";
import { makeWorld, type World } from "./world.ts";

let world: World;
let doors: Door[];

beforeAll(async () => {
	world = await makeWorld();
	doors = openDoors(world.service);
});
afterAll(async () => {
	for (const door of doors) door.close();
	await world.end();
});

/** What answers anybody: it tells nothing of any tenant. */
const OPEN = [
	"grpc.health.v1.Health",
	"grpc.reflection.v1.ServerReflection",
	"grpc.reflection.v1alpha.ServerReflection",
];

test("every method that reflection lists is in the matrix", async () => {
	const listed = await methodsBy(world.service.grpcUrl);
	const closed = listed.filter((method) => !OPEN.includes(method.slice(0, method.indexOf("/"))));
	expect([...new Set(PROBES.map(({ rpc }) => rpc))].sort()).toEqual(closed.sort());
});

const WHAT = {
	stranger: "lets nobody in who is not known: %s",
	narrow: "lets nobody do what its role may not: %s",
	foreign: "another tenant does not exist: %s",
	right: "gives the right caller what it asks for: %s",
} as const;

describe.each(["stranger", "narrow", "foreign", "right"] as const)("to a caller that is %s", (kind) => {
	test.each([...new Set(PROBES.map(({ rpc }) => rpc))])(WHAT[kind], async (rpc) => {
		const cells = everyCell(world, doors).filter((cell) => cell.expected === kind && cell.probe.rpc === rpc);
		expect(cells.length).toBeGreaterThan(0);
		await inTurns(cells, (cell) => checkCell(cell, world));
	});
});

test("strangers cannot be told apart: each gets the very same answer, whatever it brings and asks for", async () => {
	const cells = everyCell(world, doors).filter(({ expected }) => expected === "stranger");
	// Connect has one form for calls and another for streams.
	const byDoor = Map.groupBy(cells, ({ name, probe }) => {
		const door = name.replace(/^.* over (\S+) by .*$/, "$1");
		return door === "Connect" && STREAMS.includes(probe.rpc) ? "Connect, streaming" : door;
	});
	for (const [door, ofDoor] of byDoor) {
		const answers = new Set<string>();
		await inTurns(ofDoor, async (cell) => void answers.add((await cell.ask(world.holdings.acme)).text));
		expect([...answers], door).toHaveLength(1);
	}
});

test("nothing that others wrote is in a tenant's log", async () => {
	const { rows } = await world.service.admin.query<{ actor: string }>(
		"SELECT DISTINCT actor_id AS actor FROM audit.events WHERE tenant_id = 'acme' AND action = 'matrix.tried'",
	);
	const actors = rows.map(({ actor }) => actor).sort();
	expect(actors).toEqual([
		"operator of acme",
		"operator of acme by token",
		"writer of acme",
		"writer of acme by token",
	]);
	await checkTrail({ databaseUrl: world.service.database.url, secret: testSecret() });
});
