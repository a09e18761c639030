import { fromJson, type JsonObject, type JsonValue, toJson } from "@bufbuild/protobuf";
import { type Event, EventSchema } from "../../src/gen/audit/v1/event_pb.ts";

/** An answer of the service with one thing in it altered, and where. */
export interface Altered {
	readonly at: string;
	readonly event: Event;
}

/**
 * The event altered in every place there is: each value changed, each member and item taken away, and whatever it does not
 * have added. Not what no leaf hash holds. Alterations that are no event any more, or the same one, are left out.
 */
export function alterations(event: Event): Altered[] {
	const json = toJson(EventSchema, event) as JsonObject;
	const same = JSON.stringify(json);
	const all = [...altered(json, ""), ...ADDED.map(([at, more]) => [at, { ...more, ...json }] as const)];
	return all.flatMap(([at, value]) => {
		if (NOT_HASHED.some((path) => at.startsWith(path))) return [];
		let read: Event;
		try {
			read = fromJson(EventSchema, value as JsonObject);
		} catch {
			return [];
		}
		return JSON.stringify(toJson(EventSchema, read)) === same ? [] : [{ at, event: read }];
	});
}

const NOT_HASHED = [".tenantId", ".integrity.state", ".integrity.logIndex"];

const ADDED: readonly (readonly [string, JsonObject])[] = [
	["a category", { category: "CATEGORY_OTHER" }],
	["a source", { source: "added" }],
	["a schema version", { schemaVersion: 9 }],
	["an actor", { actor: { id: "added" } }],
	["somebody it was done for", { onBehalfOf: [{ id: "added" }] }],
	["a resource", { primaryResource: { id: "added" } }],
	["a related resource", { relatedResources: [{ id: "added" }] }],
	["a context", { context: {} }],
	["changes", { changes: {} }],
	["metadata", { metadata: {} }],
	["a description", { description: "added" }],
	["a reason", { reason: "added" }],
	["an outcome's reason", { outcomeReason: "added" }],
	["an idempotency key", { idempotencyKey: "added" }],
];

function* altered(value: JsonValue, at: string): Generator<readonly [string, JsonValue]> {
	for (const other of others(value)) yield [at, other];
	if (Array.isArray(value)) {
		for (const [i, item] of value.entries()) {
			yield [`${at}[${i}] taken away`, value.filter((_, n) => n !== i)];
			yield [`${at}[${i}] twice`, [...value, item]];
			for (const [place, other] of altered(item, `${at}[${i}]`)) yield [place, value.with(i, other)];
		}
	} else if (typeof value === "object" && value !== null) {
		for (const [name, member] of Object.entries(value)) {
			const { [name]: _, ...without } = value;
			yield [`${at}.${name} taken away`, without];
			for (const [place, other] of altered(member, `${at}.${name}`)) yield [place, { ...value, [name]: other }];
		}
	}
}

/** Something else in the same place; what cannot stand there is not read as an event. */
function others(value: JsonValue): JsonValue[] {
	if (typeof value === "boolean") return [!value];
	if (typeof value === "number") return [value + 1];
	if (typeof value !== "string") return [];
	const otherBytes = Buffer.from(value, "base64").map((byte, i) => (i === 0 ? byte ^ 1 : byte));
	const time = /^(.*:\d\d)(?:\.(\d+))?Z$/.exec(value);
	return [
		`${value}x`,
		value.slice(1),
		value.toUpperCase(),
		Buffer.from(otherBytes).toString("base64"),
		...(time ? [`${time[1]}.${(time[2] ?? "").padEnd(9, "0").replace(/\d$/, "1")}Z`] : []),
		...(time ? [`${time[1]}.${(time[2] ?? "").padEnd(6, "0").slice(0, 5)}${time[2]?.[5] === "7" ? "8" : "7"}Z`] : []),
		...ENUM_NAMES,
	];
}

const ENUM_NAMES = [
	"CATEGORY_OTHER",
	"SEVERITY_DEBUG",
	"OUTCOME_PENDING",
	"ACTOR_TYPE_ANONYMOUS",
	"UNIT_CHANGES",
	"UNIT_REASON",
];
