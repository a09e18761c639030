import { expect, test } from "vitest";
import { type Cell, checkCell, everyCell, inTurns } from "../integration/access/cells.ts";
import { openDoors } from "../integration/access/send.ts";
import { makeWorld } from "../integration/access/world.ts";

const AT_LEAST = 100_000;

test("every cell of the access matrix, again and again in another order, on connections all callers share", async () => {
	const world = await makeWorld();
	const doors = openDoors(world.service);
	let checked = 0;
	while (checked < AT_LEAST) {
		const isFirst = checked === 0;
		// An identity has so many keys that work and no more, and a list's first page so many that were made last.
		const cells = shuffled(everyCell(world, doors)).filter(
			({ expected, probe }) => isFirst || expected !== "right" || !/^(create|rotate)ApiKey$/.test(probe.localName),
		);
		await inTurns(cells, (cell) => checkCell(cell, world));
		checked += cells.length;
	}
	for (const door of doors) door.close();
	expect(checked).toBeGreaterThanOrEqual(AT_LEAST);
	await world.end();
}, 3_600_000);

function shuffled(cells: readonly Cell[]): Cell[] {
	const keyed = cells.map((cell) => ({ cell, at: Math.random() }));
	return keyed.sort((a, b) => a.at - b.at).map(({ cell }) => cell);
}
