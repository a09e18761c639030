import type { DescEnum, JsonObject } from "@bufbuild/protobuf";
import type { Violation } from "../errors.ts";
import type { Actor, ResourceRef } from "../gen/audit/v1/event_pb.ts";
import { ActorTypeSchema, CategorySchema, OutcomeSchema, SeveritySchema } from "../gen/audit/v1/event_pb.ts";
import type { Door, EventInput, Units } from "./event.ts";
import { encodeForeignJson, encodeOwnJson, type Jcs } from "./jcs.ts";

/**
 * The canonical units of hash version 1: RFC 8785 text with the snake_case names of the protos, absent fields omitted,
 * enums by name (by number where the name is not known). Frozen: golden vectors and the corpus hold every byte.
 */

/** What a unit says that its caller did not: who recorded it. */
export interface RecordedBy {
	readonly door: Door;
	/** The API key it came with, if any. */
	readonly keyId: string | undefined;
}

/**
 * All units an event has, of what its fields hold: the same for what came in and for what is answered, which is how an
 * answer can be held against its leaf.
 *
 * @param report told of what a struct holds and canonical text cannot; the unit is not to be used then
 */
export function canonicalUnits(
	input: EventInput,
	recordedBy: RecordedBy,
	report: (violation: Violation) => void,
): Units {
	const struct = (value: JsonObject | undefined, path: string): Jcs | undefined =>
		value === undefined ? undefined : encodeForeignJson(value, path, report);

	const units: Units = { facts: factsUnit(input, recordedBy) };
	if (input.actor || input.onBehalfOf.length > 0) units.actor = actorUnit(input);
	const { changes } = input;
	if (changes) {
		const newValue = struct(changes.newValue, "changes.new_value");
		units.changes = changesUnit(changes.changedFields, newValue, struct(changes.oldValue, "changes.old_value"));
	}
	if (input.context) units.context = contextUnit(input.context);
	const optional = {
		description: text(input.description),
		metadata: struct(input.metadata, "metadata"),
		reason: reasonUnit(input),
		resources: resourcesUnit(input),
	};
	for (const [path, unit] of Object.entries(optional)) {
		if (unit !== undefined) units[path as keyof typeof optional] = unit;
	}
	return units;
}

function actorUnit(input: EventInput): Jcs {
	return encodeOwnJson([
		["actor", input.actor && actorText(input.actor)],
		["on_behalf_of", list(input.onBehalfOf.map(actorText))],
	]);
}

/** The structs are given as text: checking and encoding them is one walk. */
function changesUnit(changedFields: string[], newValue: Jcs | undefined, oldValue: Jcs | undefined): Jcs {
	return encodeOwnJson([
		["changed_fields", list(changedFields.map((field) => JSON.stringify(field)))],
		["new_value", newValue],
		["old_value", oldValue],
	]);
}

function contextUnit(context: NonNullable<EventInput["context"]>): Jcs {
	return encodeOwnJson([
		["ip_address", text(context.ipAddress)],
		["location", text(context.location)],
		["request_id", text(context.requestId)],
		["session_id", text(context.sessionId)],
		["trace_id", text(context.traceId)],
		["user_agent", text(context.userAgent)],
	]);
}

/** @param recordedBy left out: the facts as stated by the caller, the same for a retry by another key or door. */
export function factsUnit(input: EventInput, recordedBy?: RecordedBy): Jcs {
	return encodeOwnJson([
		["category", enumText(CategorySchema, input.category)],
		["outcome", enumText(OutcomeSchema, input.outcome)],
		[
			"recorded_by",
			recordedBy &&
				encodeOwnJson([
					["door", JSON.stringify(recordedBy.door)],
					["key_id", recordedBy.keyId === undefined ? undefined : JSON.stringify(recordedBy.keyId)],
				]),
		],
		["retention_class", text(input.retentionClass)],
		["schema_version", input.schemaVersion === 0 ? undefined : String(input.schemaVersion)],
		["severity", enumText(SeveritySchema, input.severity)],
		["source", text(input.source)],
	]);
}

/** The facts as stated by the caller, from the stored unit. Throws if it is not JSON. */
export function factsWithoutRecorder(facts: Jcs): Jcs {
	const { recorded_by: _, ...stated } = JSON.parse(facts) as Record<string, unknown>;
	// JSON.parse keeps the order of members, and they were sorted.
	return JSON.stringify(stated);
}

function reasonUnit(input: EventInput): Jcs | undefined {
	if (input.outcomeReason === "" && input.reason === "") return undefined;
	return encodeOwnJson([
		["outcome_reason", text(input.outcomeReason)],
		["reason", text(input.reason)],
	]);
}

function resourcesUnit(input: EventInput): Jcs | undefined {
	if (!input.primaryResource && input.relatedResources.length === 0) return undefined;
	return encodeOwnJson([
		["primary_resource", input.primaryResource && resourceText(input.primaryResource)],
		["related_resources", list(input.relatedResources.map(resourceText))],
	]);
}

/** A text that is a unit by itself. */
function text(value: string): Jcs | undefined {
	return value === "" ? undefined : JSON.stringify(value);
}

function actorText(actor: Actor): Jcs {
	return encodeOwnJson([
		["display_name", text(actor.displayName)],
		["email", text(actor.email)],
		["id", text(actor.id)],
		["type", enumText(ActorTypeSchema, actor.type)],
	]);
}

function resourceText(resource: ResourceRef): Jcs {
	return encodeOwnJson([
		["display_name", text(resource.displayName)],
		["id", text(resource.id)],
		["role", text(resource.role)],
		["type", text(resource.type)],
	]);
}

function list(items: Jcs[]): Jcs | undefined {
	return items.length === 0 ? undefined : `[${items.join(",")}]`;
}

function enumText(schema: DescEnum, value: number): Jcs | undefined {
	if (value === 0) return undefined;
	const known = schema.value[value];
	return known ? `"${known.name}"` : String(value);
}
