import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Answer, amiss } from "./doors.ts";
import { answerOf, EVENT_DOORS, NATS_DOORS, natsMessage, reasonOf, renamed, titleOf } from "./event-doors.ts";
import { type EventRow, type Forms, type Refused, TENANT } from "./event-forms.ts";
import { CONTENT } from "./event-rows.ts";
import { LIMITS } from "./limit-rows.ts";
import { UNREADABLE } from "./unreadable-rows.ts";
import { openWorld, type World } from "./world.ts";

/** Every event of the catalogue, at every door that can say it: the same meaning everywhere. */

const ROWS: readonly EventRow[] = [...UNREADABLE, ...CONTENT, ...LIMITS];

let world: World;
/** What NATS made of each row, by its title and form. */
const atNats = new Map<string, Answer>();

beforeAll(async () => {
	world = await openWorld();
	const sent = ROWS.flatMap((row) =>
		NATS_DOORS.flatMap((door) => {
			const event = eventOf(row, door);
			return event === undefined ? [] : [{ name: `${titleOf(row)} ${door.form}`, message: natsMessage(event) }];
		}),
	);
	const letters = await world.publish(sent.map(({ message }) => message));
	for (const [i, { name }] of sent.entries()) atNats.set(name, answerOf(letters[i] ?? []));
});
afterAll(() => world.end());

describe.each([
	["what cannot be read", UNREADABLE],
	["what can be read", CONTENT],
	["limits", LIMITS],
])("%s", (_, rows) => {
	test.each(rows.map((row) => [titleOf(row), row] as const))("%s", async (title, row) => {
		for (const door of EVENT_DOORS) {
			const event = eventOf(row, door);
			if (event === undefined) continue;
			const answer = await door.send(world, event as string & Uint8Array);
			judge(door.name, answer, row.refused, reasonOf(row.refused ?? TAKEN, door.form, false), door.at);
			await comesBack(row, door);
		}
		for (const door of NATS_DOORS) {
			const answer = atNats.get(`${title} ${door.form}`);
			if (!answer) continue;
			judge(door.name, answer, row.refused, reasonOf(row.refused ?? TAKEN, door.form, true), (path) => path);
			await comesBack(row, door);
		}
	});
});

const TAKEN: Refused = { kind: "invalid", fields: [] };

function judge(
	door: string,
	answer: Answer,
	refused: Refused | undefined,
	reason: string,
	at: (path: string, kind: Refused["kind"]) => string,
): void {
	const { refusal } = answer;
	const got = refusal && {
		door,
		code: refusal.code,
		reason: refusal.reason,
		fields: refusal.violations.map(({ field }) => field).sort(),
	};
	if (!refused) return expect(refusal && { ...got, refusal }).toBeUndefined();
	const fields = refused.fields.map((path) => at(path, refused.kind));
	expect(got ?? { door, taken: answer.text }).toEqual({
		door,
		code: "invalid_argument",
		reason,
		fields: [...fields].sort(),
	});
	expect([door, amiss(answer)]).toEqual([door, []]);
	if (refused.says) {
		expect(refusal?.violations.find(({ field }) => field === fields[0])?.message).toMatch(refused.says);
	}
	expect([door, answer.text]).toEqual([door, expect.not.stringMatching(/s3cret/i)]);
}

async function comesBack(row: EventRow, door: { name: string; form: keyof Forms }): Promise<void> {
	if (row.refused || row.asItIs) return;
	const query = new URLSearchParams({ tenant_id: TENANT, actions: actionOf(row, door) });
	const response = await fetch(`${world.httpUrl}/v1/audit/events?${query}`, {
		headers: { authorization: `Bearer ${world.key}` },
	});
	const text = await response.text();
	expect([door.name, (JSON.parse(text) as { events: unknown[] }).events.length]).toEqual([door.name, 1]);
	for (const part of row.comesBack ?? []) expect([door.name, text]).toEqual([door.name, expect.stringContaining(part)]);
}

/** The row's event in this form; if it is to be taken, under a name by which it is found again. */
function eventOf(row: EventRow, door: { name: string; form: keyof Forms }): string | Uint8Array | undefined {
	const event = row.event[door.form];
	return event === undefined || row.refused || row.asItIs ? event : renamed(event, actionOf(row, door));
}

function actionOf(row: EventRow, { name }: { name: string }): string {
	return `row.${row.row}.${ROWS.indexOf(row)}.${name.toLowerCase().replace(/[^a-z]+/g, "-")}`;
}
