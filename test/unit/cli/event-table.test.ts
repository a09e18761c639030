import { Writable } from "node:stream";
import { stripVTControlCharacters } from "node:util";
import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { describe, expect, test } from "vitest";
import type { Terminal } from "../../../src/cli/command-line.ts";
import { eventTable } from "../../../src/cli/event-table.ts";
import { type Event, EventSchema, Outcome, Severity } from "../../../src/gen/audit/v1/event_pb.ts";

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
		const linesAt = (columns: number) =>
			stripVTControlCharacters(eventTable([wide, anEvent()], terminal(columns)))
				.trimEnd()
				.split("\n");
		for (const columns of [80, 100, 120, 130, 200]) {
			for (const line of linesAt(columns)) expect(line.length).toBeLessThanOrEqual(columns);
		}
		expect(linesAt(130)[0]).toMatch(/SEVERITY.*ID *$/);
		expect(linesAt(120)[0]).toMatch(/^(?!.*SEVERITY).*ID *$/);
		expect(linesAt(100)[0]).toMatch(/SEVERITY.*OUTCOME *$/);
		expect(linesAt(80)[0]).toMatch(/^(?!.*SEVERITY).*OUTCOME *$/);
	});

	test("wide characters take two columns, so that what follows stays in line", () => {
		const [, first = "", second = ""] = eventTable([anEvent("山田太郎"), anEvent("abcdefgh")], pipe).split("\n");
		expect(first.indexOf("invoice")).toBe(second.indexOf("invoice") - 4);
	});

	test("what callers sent cannot steer the terminal or reverse its text", () => {
		const table = eventTable([anEvent("\u001b[2J\u202eevil\r\n\u009b1m")], pipe);
		expect(table.split("\n")).toHaveLength(3);
		for (const character of "\u001b\u202e\u009b\r") expect(table).not.toContain(character);
	});
});
