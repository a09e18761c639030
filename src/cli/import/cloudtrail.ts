import { isIP } from "node:net";
import { create, fromJson, type JsonObject } from "@bufbuild/protobuf";
import { type Timestamp, TimestampSchema } from "@bufbuild/protobuf/wkt";
import { LIMITS } from "../../event/limits.ts";
import { type Event, EventSchema, type RequestContext, RequestContextSchema } from "../../gen/audit/v1/event_pb.ts";
import { actionOf, serviceOf } from "./cloudtrail-action.ts";
import { actingOf } from "./cloudtrail-actor.ts";
import { kindOf } from "./cloudtrail-kind.ts";
import { isObject, Remainder } from "./cloudtrail-remainder.ts";
import { resourcesOf } from "./cloudtrail-resources.ts";

/** Why a record cannot become an event; the message says what it lacks. */
export class UnmappableRecord extends Error {}

/**
 * Where the values of a CloudTrail record go that do not stay in `metadata` under their own names. A value that its
 * field cannot hold stays in metadata. docs/import-cloudtrail.md explains each.
 */
export const MOVED: Readonly<Record<string, string>> = {
	eventID: "id",
	eventTime: "occurred_at",
	"userIdentity.arn": "actor.id",
	"userIdentity.principalId": "actor.id",
	"userIdentity.credentialId": "actor.id",
	"userIdentity.invokedBy": "actor.id",
	"userIdentity.userName": "actor.display_name",
	"userIdentity.accessKeyId": "context.session_id",
	"userIdentity.sessionContext.sessionIssuer.arn": "on_behalf_of[].id",
	"userIdentity.sessionContext.sessionIssuer.principalId": "on_behalf_of[].id",
	"userIdentity.sessionContext.sessionIssuer.userName": "on_behalf_of[].display_name",
	"userIdentity.sessionContext.sourceIdentity": "on_behalf_of[].id",
	"userIdentity.onBehalfOf.userId": "on_behalf_of[].id",
	"resources[].ARN": "primary_resource.id",
	"resources[].type": "primary_resource.type",
	sourceIPAddress: "context.ip_address",
	userAgent: "context.user_agent",
	requestID: "context.request_id",
	awsRegion: "context.location",
	errorMessage: "outcome_reason",
};

/** What of a CloudTrail record is left out, and why. */
export const DROPPED: Readonly<Record<string, string>> = {
	"requestParameters: null": "CloudTrail's way to say that there were none",
	"responseElements: null": "CloudTrail's way to say that there were none",
	"resources[].accountId": "only where it equals recipientAccountId, which is in metadata",
};

/**
 * Maps one CloudTrail record to an event. The same record always gives the same event, with the record's own id and
 * time: importing it again adds nothing.
 *
 * @throws UnmappableRecord if the record lacks what every event must have
 */
export function cloudTrailEvent(source: JsonObject, tenantId: string): Event {
	const eventSource = required(source, "eventSource");
	const eventName = required(source, "eventName");
	const id = required(source, "eventID");
	const occurredAt = timeOf(required(source, "eventTime"));
	const action = actionOf(eventSource, eventName);
	if (!action) throw new UnmappableRecord("eventSource and eventName give no action");

	const service = serviceOf(eventSource);
	const record = new Remainder(source);
	const kind = kindOf(record, service, eventName);
	record.drop("eventID");
	record.drop("eventTime");
	const [primaryResource, ...relatedResources] = resourcesOf(record, service, eventName);
	const context = contextOf(record);
	const { actor, onBehalfOf } = actingOf(record);
	const outcomeReason = outcomeReasonOf(record);
	return create(EventSchema, {
		id,
		tenantId,
		action,
		occurredAt,
		actor,
		onBehalfOf,
		...(primaryResource && { primaryResource }),
		relatedResources,
		...kind,
		context,
		outcomeReason,
		reason: reasonOf(record),
		metadata: metadataOf(record),
	});
}

function required(source: JsonObject, name: string): string {
	const value = source[name];
	if (typeof value !== "string" || value === "")
		throw new UnmappableRecord(`${name} is missing: not a CloudTrail record?`);
	return value;
}

function timeOf(text: string): Timestamp {
	try {
		return fromJson(TimestampSchema, text);
	} catch (cause) {
		throw new UnmappableRecord("eventTime is not a time such as 2023-07-10T11:42:18Z", { cause });
	}
}

function contextOf(record: Remainder): RequestContext {
	// Calls by AWS services carry the service's host name in place of an address: that stays in metadata.
	const isAddress = isIP(record.look("sourceIPAddress")) !== 0;
	// A temporary key (ASIA…) lives as long as one session; a lasting one (AKIA…) names no session.
	const isSession = record.look("userIdentity", "accessKeyId").startsWith("ASIA");
	return create(RequestContextSchema, {
		ipAddress: isAddress ? record.takeId("sourceIPAddress") : "",
		userAgent: record.takeText(LIMITS.textBytes, "userAgent"),
		requestId: record.takeId("requestID"),
		sessionId: isSession ? record.takeId("userIdentity", "accessKeyId") : "",
		location: record.takeText(LIMITS.nameBytes, "awsRegion"),
	});
}

/** `AccessDenied: User … is not authorized`. The code stays in metadata as well, for programs. */
function outcomeReasonOf(record: Remainder): string {
	const code = record.look("errorCode");
	const room = LIMITS.textBytes - Buffer.byteLength(code) - 2;
	if (room < 0) return "";
	const message = record.takeText(room, "errorMessage");
	return code && message ? `${code}: ${message}` : code || message;
}

/** Some calls ask for a justification: Session Manager's `StartSession`, ECS's `StopTask`, Batch's `TerminateJob`. */
function reasonOf(record: Remainder): string {
	const reason = record.look("requestParameters", "reason");
	return Buffer.byteLength(reason) <= LIMITS.textBytes ? reason : "";
}

/** What is left, within the limits of metadata: the largest members become JSON text until the rest fits. */
function metadataOf(record: Remainder): JsonObject {
	for (const name of ["requestParameters", "responseElements"]) {
		if (record.value(name) === null) record.drop(name);
	}
	const metadata = record.rest();
	const sizes = Object.entries(metadata).map(([name, value]) => ({ name, ...measure(value) }));
	sizes.sort((a, b) => b.nodes - a.nodes);
	let nodes = sizes.reduce((sum, size) => sum + size.nodes, 1);
	for (const size of sizes) {
		// One level is the metadata object itself.
		if (nodes <= LIMITS.structNodes && size.depth < LIMITS.structDepth && size.keysFit) continue;
		metadata[size.name] = JSON.stringify(metadata[size.name]);
		nodes += 1 - size.nodes;
	}
	return metadata;
}

interface Measure {
	nodes: number;
	depth: number;
	keysFit: boolean;
}

function measure(value: JsonObject[string] | undefined): Measure {
	if (typeof value !== "object" || value === null) return { nodes: 1, depth: 0, keysFit: true };
	const total: Measure = { nodes: 1, depth: 1, keysFit: true };
	for (const [key, item] of Object.entries(value)) {
		const { nodes, depth, keysFit } = measure(item);
		total.nodes += nodes;
		total.depth = Math.max(total.depth, depth + 1);
		total.keysFit &&= keysFit && (!isObject(value) || Buffer.byteLength(key) <= LIMITS.structKeyBytes);
	}
	return total;
}
