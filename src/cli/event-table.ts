import { styleText } from "node:util";
import { microsOf, rfc3339 } from "../event/time.ts";
import {
	type Event,
	Outcome,
	OutcomeSchema,
	type ResourceRef,
	Severity,
	SeveritySchema,
} from "../gen/audit/v1/event_pb.ts";
import type { Terminal } from "./command-line.ts";
import { wordFor } from "./enum-words.ts";

interface Column {
	title: string;
	text: (event: Event) => string;
	/** Below this it is not made narrower; columns without it keep their width. */
	least?: number;
	style?: (event: Event) => Parameters<typeof styleText>[0] | undefined;
}

const COLUMNS: readonly Column[] = [
	{ title: "TIME", text: timeText },
	{ title: "SEVERITY", text: ({ severity }) => wordFor(SeveritySchema, severity), style: severityStyle },
	{ title: "ACTION", text: ({ action }) => action, least: 16 },
	{ title: "ACTOR", text: ({ actor }) => actor?.displayName || actor?.email || actor?.id || "", least: 10 },
	{ title: "RESOURCE", text: ({ primaryResource }) => resourceText(primaryResource), least: 12 },
	{ title: "OUTCOME", text: ({ outcome }) => wordFor(OutcomeSchema, outcome), style: outcomeStyle },
	{ title: "ID", text: ({ id }) => id },
];

/** What a narrow terminal goes without, tried in this order: `-o json` has it all. */
const LEFT_OUT = [[], ["SEVERITY"], ["ID"], ["SEVERITY", "ID"]];

/** Events as a table: as wide as the terminal on one, as wide as it needs to be anywhere else. */
export function eventTable(events: readonly Event[], terminal: Terminal): string {
	const room = terminal.isTTY ? (terminal.columns ?? 80) : Number.POSITIVE_INFINITY;
	const layouts = LEFT_OUT.map((titles) =>
		layOut(
			COLUMNS.filter(({ title }) => !titles.includes(title)),
			events,
		),
	);
	const { columns, rows, widths } =
		layouts.find((layout) => leastWidth(layout) <= room) ?? layouts[3] ?? layOut([], []);
	narrow(widths, columns, room);
	const paint = (style: Parameters<typeof styleText>[0], text: string) =>
		// Looks at NO_COLOR, FORCE_COLOR and whether this is a terminal.
		styleText(style, text, { stream: terminal as NodeJS.WritableStream, validateStream: true });
	const header = columns.map(({ title }, i) => paint("bold", pad(title, widths[i] ?? 0)));
	const lines = rows.map((row, n) =>
		row.map((cell, i) => {
			const event = events[n];
			const style = event && columns[i]?.style?.(event);
			const text = pad(cell, widths[i] ?? 0);
			return style ? paint(style, text) : text;
		}),
	);
	return [header, ...lines].map((cells) => `${cells.join(GAP).trimEnd()}\n`).join("");
}

const GAP = "  ";

interface Layout {
	columns: readonly Column[];
	rows: string[][];
	/** As wide as the widest cell of each column. */
	widths: number[];
}

function layOut(columns: readonly Column[], events: readonly Event[]): Layout {
	const rows = events.map((event) => columns.map(({ text }) => printable(text(event))));
	const widths = columns.map(({ title }, i) =>
		rows.reduce((widest, row) => Math.max(widest, displayWidth(row[i] ?? "")), title.length),
	);
	return { columns, rows, widths };
}

function leastWidth({ columns, widths }: Layout): number {
	return tableWidth(widths.map((width, i) => Math.min(width, columns[i]?.least ?? width)));
}

function tableWidth(widths: readonly number[]): number {
	return widths.reduce((sum, width) => sum + width, 0) + GAP.length * (widths.length - 1);
}

/** Takes what is too much from the widest columns that can give, one character at a time. */
function narrow(widths: number[], columns: readonly Column[], room: number): void {
	for (let excess = tableWidth(widths) - room; excess > 0; excess -= 1) {
		let widest = -1;
		columns.forEach(({ least }, i) => {
			const width = widths[i] ?? 0;
			if (least !== undefined && width > least && width > (widths[widest] ?? 0)) widest = i;
		});
		if (widest < 0) return;
		widths[widest] = (widths[widest] ?? 0) - 1;
	}
}

function timeText({ occurredAt }: Event): string {
	// Most times are whole seconds or milliseconds: trailing zeros only cost width.
	return occurredAt ? rfc3339(microsOf(occurredAt)).replace(/\.?0+Z$/, "Z") : "";
}

function resourceText(resource: ResourceRef | undefined): string {
	if (!resource) return "";
	return resource.type
		? `${resource.type} ${resource.displayName || resource.id}`
		: resource.displayName || resource.id;
}

function severityStyle({ severity }: Event) {
	if (severity >= Severity.ERROR) return "red" as const;
	return severity === Severity.WARNING ? ("yellow" as const) : undefined;
}

function outcomeStyle({ outcome }: Event) {
	if (outcome === Outcome.DENIED) return "red" as const;
	return outcome === Outcome.FAILURE ? ("yellow" as const) : undefined;
}

function pad(text: string, width: number): string {
	const shown = displayWidth(text) > width ? shorten(text, width) : text;
	return shown + " ".repeat(width - displayWidth(shown));
}

/** Cuts the middle out: names tell most at their ends, ARNs above all. */
function shorten(text: string, width: number): string {
	const characters = graphemes(text);
	const half = Math.floor((width - 1) / 2);
	const tail = take(characters.toReversed(), half).toReversed();
	const head = take(characters, width - 1 - displayWidth(tail.join("")));
	return `${head.join("")}…${tail.join("")}`;
}

/** The first characters that fit. */
function take(characters: string[], width: number): string[] {
	const taken: string[] = [];
	let room = width;
	for (const character of characters) {
		room -= displayWidth(character);
		if (room < 0) break;
		taken.push(character);
	}
	return taken;
}

/** What callers sent must not move the cursor, change colours or reverse the reading order of somebody's terminal. */
export function printable(text: string): string {
	return text.replace(/[\p{Cc}\p{Zl}\p{Zp}\u202a-\u202e\u2066-\u2069]/gu, "\ufffd");
}

function displayWidth(text: string): number {
	if (/^[ -~]*$/.test(text)) return text.length;
	return graphemes(text).reduce((width, character) => width + (WIDE.test(character) ? 2 : 1), 0);
}

/** What a person sees as characters: a letter with its accents, an emoji with its modifiers. */
function graphemes(text: string): string[] {
	return Array.from(SEGMENTER.segment(text), ({ segment }) => segment);
}

const SEGMENTER = new Intl.Segmenter(undefined, { granularity: "grapheme" });

/** East Asian wide and full-width forms, and emoji. */
const WIDE =
	/[\u1100-\u115f\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6]|\p{Emoji_Presentation}/u;
