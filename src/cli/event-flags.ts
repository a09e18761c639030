import { create, type JsonObject } from "@bufbuild/protobuf";
import { decodeEventJson } from "../event/decode.ts";
import {
	type Actor,
	ActorSchema,
	ActorTypeSchema,
	CategorySchema,
	type Event,
	EventSchema,
	OutcomeSchema,
	RequestContextSchema,
	type ResourceRef,
	ResourceRefSchema,
	SeveritySchema,
} from "../gen/audit/v1/event_pb.ts";
import { UsageError } from "./command-line.ts";
import { parseWord } from "./enum-words.ts";
import { parseResource } from "./resource-option.ts";
import { parseTime } from "./time-option.ts";
import { violationText } from "./violation-text.ts";

/** An event as options. What its rules are, the service says. */
export interface EventFlags {
	tenant?: string;
	action?: string;
	actor?: string;
	actorType?: string;
	actorName?: string;
	actorEmail?: string;
	resource?: string;
	related?: string[];
	category?: string;
	severity?: string;
	outcome?: string;
	outcomeReason?: string;
	reason?: string;
	description?: string;
	source?: string;
	ip?: string;
	requestId?: string;
	occurredAt?: string;
	id?: string;
	idempotencyKey?: string;
	metadata?: string;
	changes?: string;
}

export function eventOfFlags(flags: EventFlags): Event {
	const event = create(EventSchema, {
		id: flags.id ?? "",
		tenantId: flags.tenant ?? "",
		action: flags.action ?? "",
		category: flags.category ? parseWord(CategorySchema, "--category", flags.category) : 0,
		severity: flags.severity ? parseWord(SeveritySchema, "--severity", flags.severity) : 0,
		outcome: flags.outcome ? parseWord(OutcomeSchema, "--outcome", flags.outcome) : 0,
		outcomeReason: flags.outcomeReason ?? "",
		reason: flags.reason ?? "",
		description: flags.description ?? "",
		source: flags.source ?? "",
		relatedResources: (flags.related ?? []).map(relatedResource),
		idempotencyKey: flags.idempotencyKey ?? "",
		// Members in JSON are read as the service reads them: strictly, with all that is wrong.
		...membersOfJson(flags),
	});
	if (flags.actor !== undefined) event.actor = actorOf(flags);
	if (flags.resource) event.primaryResource = create(ResourceRefSchema, parseResource("--resource", flags.resource));
	if (flags.occurredAt) event.occurredAt = parseTime("--occurred-at", flags.occurredAt, Date.now());
	if (flags.ip || flags.requestId) {
		event.context = create(RequestContextSchema, { ipAddress: flags.ip ?? "", requestId: flags.requestId ?? "" });
	}
	return event;
}

function actorOf({ actor, actorType, actorName, actorEmail }: EventFlags): Actor {
	return create(ActorSchema, {
		id: actor ?? "",
		type: actorType ? parseWord(ActorTypeSchema, "--actor-type", actorType) : 0,
		displayName: actorName ?? "",
		email: actorEmail ?? "",
	});
}

/** `to=folder:42`, or without a role `folder:42`. */
function relatedResource(text: string): ResourceRef {
	const [, role = "", resource = text] = /^([\w-]+)=(.*)$/s.exec(text) ?? [];
	return create(ResourceRefSchema, { ...parseResource("--related", resource), role });
}

function membersOfJson({ metadata, changes }: EventFlags): Partial<Pick<Event, "metadata" | "changes">> {
	const members: string[] = [];
	if (metadata !== undefined) members.push(`"metadata":${jsonText("--metadata", metadata)}`);
	if (changes !== undefined) members.push(`"changes":${jsonText("--changes", changes)}`);
	const decoded = decodeEventJson(`{${members.join(",")}}`);
	if (!decoded.ok) {
		throw new UsageError(
			violationText(decoded.violations.map(({ field, message }) => ({ field: `--${field}`, message }))),
		);
	}
	const { input } = decoded;
	return { ...(input.metadata && { metadata: input.metadata }), ...(input.changes && { changes: input.changes }) };
}

/** Checked by itself first: half an object must not be completed by the braces around it. */
function jsonText(option: string, text: string): string {
	try {
		JSON.parse(text) as JsonObject;
		return text;
	} catch (cause) {
		throw new UsageError(`${option} is not valid JSON`, { cause });
	}
}
