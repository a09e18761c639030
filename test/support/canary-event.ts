import { type DescField, type DescMessage, fromJson, type JsonObject, type JsonValue } from "@bufbuild/protobuf";
import type { UnitPath } from "../../src/event/event.ts";
import { type Event, EventSchema } from "../../src/gen/audit/v1/event_pb.ts";

/** Which fields of an event are in which unit, in the contract's names: the words of the contract once more. */
export const FIELDS_OF: Record<UnitPath, readonly string[]> = {
	actor: ["actor", "on_behalf_of"],
	changes: ["changes"],
	context: ["context"],
	description: ["description"],
	facts: ["category", "severity", "outcome", "source", "schema_version", "retention_class"],
	metadata: ["metadata"],
	reason: ["reason", "outcome_reason"],
	resources: ["primary_resource", "related_resources"],
};

const HEADER = ["id", "tenant_id", "action", "occurred_at", "recorded_at", "integrity"];
const INPUT_ONLY = ["idempotency_key"];

/** An event with every field there is, and in every field of a unit something that is nowhere else. */
export interface CanaryEvent {
	readonly event: Event;
	/** What is in each unit; `facts` has none. */
	readonly canaries: Record<UnitPath, string[]>;
}

/** @param init the fields of the header */
export function canaryEvent(init: JsonObject): CanaryEvent {
	const canaries = {} as Record<UnitPath, string[]>;
	const json: JsonObject = { ...init };
	for (const [unit, fields] of Object.entries(FIELDS_OF) as [UnitPath, readonly string[]][]) {
		const own: string[] = [];
		for (const name of unit === "facts" ? [] : fields) json[name] = valueOf(fieldOf(EventSchema, name), unit, own);
		canaries[unit] = own;
	}
	return { event: fromJson(EventSchema, json), canaries };
}

/** The fields of an event that are in none of the lists above. */
export function fieldsForgotten(): string[] {
	const known = new Set([...Object.values(FIELDS_OF).flat(), ...HEADER, ...INPUT_ONLY]);
	return EventSchema.fields.map(({ name }) => name).filter((name) => !known.has(name));
}

function fieldOf(desc: DescMessage, name: string): DescField {
	const field = desc.fields.find((candidate) => candidate.name === name);
	if (!field) throw new Error(`there is no field ${name}`);
	return field;
}

function valueOf(field: DescField, unit: string, canaries: string[]): JsonValue {
	// Lists have two items: the second one is shown or masked like the first.
	if (field.fieldKind === "list") return [item(field, unit, canaries), item(field, unit, canaries)];
	return item(field, unit, canaries);
}

function item(field: DescField, unit: string, canaries: string[]): JsonValue {
	const plant = (text: string) => {
		canaries.push(text);
		return text;
	};
	if (field.enum) return field.enum.values.at(-1)?.name ?? 0;
	if (field.message?.typeName === "google.protobuf.Struct") {
		return { [plant(`canary ${unit} key ${canaries.length}`)]: [plant(`canary ${unit} value ${canaries.length}`)] };
	}
	if (field.message) {
		const { fields } = field.message;
		return Object.fromEntries(fields.map((inner) => [inner.name, valueOf(inner, unit, canaries)]));
	}
	if (field.name === "ip_address") return plant("203.0.113.77");
	return plant(`canary ${unit} ${field.name} ${canaries.length}`);
}
