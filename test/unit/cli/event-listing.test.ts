import { Writable } from "node:stream";
import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { describe, expect, test } from "vitest";
import type { Terminal } from "../../../src/cli/command-line.ts";
import { EVENTS } from "../../../src/cli/event-listing.ts";
import { displayWidth } from "../../../src/cli/output/cell.ts";
import { Table } from "../../../src/cli/output/table.ts";
import {
	type Event,
	EventSchema,
	IntegritySchema,
	Outcome,
	Severity,
	Unit,
} from "../../../src/gen/audit/v1/event_pb.ts";

function anEvent(actorName = "Jane Doe", action = "user.login"): Event {
	return create(EventSchema, {
		id: "875240ac-e821-4fc6-a311-8c352a1d20f5",
		action,
		occurredAt: timestampFromMs(Date.UTC(2026, 0, 31, 12, 0, 0, 500)),
		actor: { id: "user-123", displayName: actorName },
		primaryResource: { type: "invoice", id: "4711" },
		severity: Severity.INFO,
		outcome: Outcome.DENIED,
	});
}

const plain = (_: unknown, text: string) => text;

function eventTable(events: Event[], on: Terminal): string {
	return new Table(EVENTS.table, on, plain).lines(events);
}

const pipe: Terminal = new Writable();
const terminal = (columns: number): Terminal => Object.assign(new Writable(), { isTTY: true, columns });

describe("events as a table", () => {
	test("each event is a line under the titles, with nothing cut off where there is no terminal", () => {
		expect(eventTable([anEvent()], pipe)).toBe(
			[
				"TIME                    SEVERITY  ACTION      ACTOR     RESOURCE      OUTCOME  ID\n",
				"2026-01-31T12:00:00.5Z  info      user.login  Jane Doe  invoice 4711  denied   875240ac-e821-4fc6-a311-8c352a1d20f5\n",
			].join(""),
		);
	});

	test("on a terminal no line is wider than it; a narrow one goes without severity, then without ids", () => {
		const wide = anEvent("A person with a very long name indeed, of many parts", `a.${"very_long_".repeat(10)}action`);
		const linesAt = (columns: number) => eventTable([wide, anEvent()], terminal(columns)).trimEnd().split("\n");
		for (const columns of [30, 40, 60, 80, 100, 120, 130, 200]) {
			for (const line of linesAt(columns)) expect(line.length).toBeLessThanOrEqual(columns);
		}
		expect(linesAt(130)[0]).toMatch(/SEVERITY.*ID *$/);
		expect(linesAt(30)).toEqual(["TIME", "2026-01-31T12:00:00.5Z", "2026-01-31T12:00:00.5Z"]);
		expect(linesAt(120)[0]).toMatch(/^(?!.*SEVERITY).*ID *$/);
		expect(linesAt(100)[0]).toMatch(/SEVERITY.*OUTCOME *$/);
		expect(linesAt(80)[0]).toMatch(/^(?!.*SEVERITY).*OUTCOME *$/);
	});

	test("what follows a wide, combined or joined character stays in line", () => {
		const names = [
			"山田太郎",
			"Zoe\u0308 e\u0301",
			"👩‍👩‍👧‍👦 family",
			"🇯🇵 flag",
			"ｆｕｌｌ",
			"한국어",
			"क्षि",
			"abcdefgh",
		];
		const lines = eventTable(
			names.map((name) => anEvent(name)),
			pipe,
		)
			.trimEnd()
			.split("\n");
		const starts = lines.slice(1).map((line) => displayWidth(line.slice(0, line.indexOf("invoice"))));
		expect(new Set(starts).size).toBe(1);
		expect(["山田", "e\u0301", "👩‍👩‍👧‍👦", "🇯🇵", "ｆ", "한"].map(displayWidth)).toEqual([4, 1, 2, 2, 2, 2]);
	});

	test("a later page keeps to the columns of the first, and repeats no titles", () => {
		const table = new Table(EVENTS.table, terminal(120), plain);
		const first = table.lines([anEvent("A name of twenty car")]);
		const later = table.lines([anEvent("A name that is a good deal longer than those before")]);
		expect(later.split("\n")).toHaveLength(2);
		expect(later.indexOf("invoice")).toBe(first.split("\n")[1]?.indexOf("invoice"));
		expect(later).toContain("…");
	});

	test("what is masked says so, and does not look like what is not there", () => {
		const masked = anEvent();
		delete masked.actor;
		delete masked.primaryResource;
		const cells = () => eventTable([masked], pipe).split("\n")[1]?.split(/ {2,}/).slice(2, -2);
		expect(cells()).toEqual(["user.login"]);
		masked.integrity = create(IntegritySchema, { maskedUnits: [{ unit: Unit.ACTOR }, { unit: Unit.RESOURCES }] });
		expect(cells()).toEqual(["user.login", "(masked)", "(masked)"]);
		const { text } = EVENTS.csv.find(({ name }) => name === "masked_units") ?? {};
		expect(text?.(masked)).toBe("actor resources");
		expect(text?.(anEvent())).toBe("");
	});

	test("what callers sent cannot steer the terminal or reverse its text", () => {
		const table = eventTable([anEvent("\u001b[2J\u202eevil\r\n\u009b1m\u2066\u200f\u2028")], pipe);
		expect(table.split("\n")).toHaveLength(3);
		for (const character of "\u001b\u202e\u009b\r\u2066\u200f\u2028") expect(table).not.toContain(character);
	});
});
