import { microsOf, rfc3339 } from "../event/time.ts";
import {
	ActorTypeSchema,
	CategorySchema,
	type Event,
	Outcome,
	OutcomeSchema,
	type ResourceRef,
	Severity,
	SeveritySchema,
	Unit,
	UnitSchema,
} from "../gen/audit/v1/event_pb.ts";
import { wordFor } from "./enum-words.ts";
import { eventValue } from "./event-json.ts";
import type { Style } from "./output/colour.ts";
import type { Listing } from "./output/listing.ts";

/** How events are printed. docs/cli.md names the CSV columns. */
export const EVENTS: Listing<Event> = {
	nothing: "no events",
	table: {
		columns: [
			{ title: "TIME", text: shortTime },
			{ title: "SEVERITY", text: ({ severity }) => wordFor(SeveritySchema, severity), style: severityStyle },
			{ title: "ACTION", text: ({ action }) => action, least: 16 },
			{ title: "ACTOR", text: actorText, least: 10 },
			{ title: "RESOURCE", text: resourceText, least: 12 },
			{ title: "OUTCOME", text: ({ outcome }) => wordFor(OutcomeSchema, outcome), style: outcomeStyle },
			{ title: "ID", text: ({ id }) => id },
		],
		leftOut: [["SEVERITY"], ["ID"], ["SEVERITY", "ID"]],
	},
	csv: [
		{ name: "occurred_at", text: ({ occurredAt }) => (occurredAt ? rfc3339(microsOf(occurredAt)) : "") },
		{ name: "id", text: ({ id }) => id },
		{ name: "tenant_id", text: ({ tenantId }) => tenantId },
		{ name: "action", text: ({ action }) => action },
		{ name: "category", text: ({ category }) => (category ? wordFor(CategorySchema, category) : "") },
		{ name: "severity", text: ({ severity }) => wordFor(SeveritySchema, severity) },
		{ name: "outcome", text: ({ outcome }) => wordFor(OutcomeSchema, outcome) },
		{ name: "source", text: ({ source }) => source },
		{ name: "actor_type", text: ({ actor }) => (actor?.type ? wordFor(ActorTypeSchema, actor.type) : "") },
		{ name: "actor_id", text: ({ actor }) => actor?.id ?? "" },
		{ name: "actor_display_name", text: ({ actor }) => actor?.displayName ?? "" },
		{ name: "actor_email", text: ({ actor }) => actor?.email ?? "" },
		{ name: "resource_type", text: ({ primaryResource }) => primaryResource?.type ?? "" },
		{ name: "resource_id", text: ({ primaryResource }) => primaryResource?.id ?? "" },
		{ name: "ip_address", text: ({ context }) => context?.ipAddress ?? "" },
		{ name: "description", text: ({ description }) => description },
		{ name: "masked_units", text: (event) => maskedUnits(event).map(wordOfUnit).join(" ") },
	],
	json: eventValue,
};

function shortTime({ occurredAt }: Event): string {
	// Most times are whole seconds or milliseconds: trailing zeros only cost width.
	return occurredAt ? rfc3339(microsOf(occurredAt)).replace(/\.?0+Z$/, "Z") : "";
}

function actorText(event: Event): string {
	const { actor } = event;
	return maskedOr(event, Unit.ACTOR, actor?.displayName || actor?.email || actor?.id || "");
}

function resourceText(event: Event): string {
	const { primaryResource } = event;
	return maskedOr(event, Unit.RESOURCES, primaryResource ? shownResource(primaryResource) : "");
}

/** A unit that is withheld must not look like one that is not there. */
function maskedOr(event: Event, unit: Unit, text: string): string {
	return maskedUnits(event).includes(unit) ? "(masked)" : text;
}

function maskedUnits({ integrity }: Event): Unit[] {
	return (integrity?.maskedUnits ?? []).map(({ unit }) => unit);
}

function wordOfUnit(unit: Unit): string {
	return wordFor(UnitSchema, unit);
}

function shownResource(resource: ResourceRef): string {
	return resource.type
		? `${resource.type} ${resource.displayName || resource.id}`
		: resource.displayName || resource.id;
}

function severityStyle({ severity }: Event): Style | undefined {
	if (severity >= Severity.ERROR) return "red";
	return severity === Severity.WARNING ? "yellow" : undefined;
}

function outcomeStyle({ outcome }: Event): Style | undefined {
	if (outcome === Outcome.DENIED) return "red";
	return outcome === Outcome.FAILURE ? "yellow" : undefined;
}
