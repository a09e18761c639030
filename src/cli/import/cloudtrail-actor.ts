import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { LIMITS } from "../../event/limits.ts";
import { type Actor, ActorSchema, ActorType } from "../../gen/audit/v1/event_pb.ts";
import { isId, type Remainder } from "./cloudtrail-remainder.ts";

/** Who did it, and for whom, nearest first. */
export interface Acting {
	actor: Actor;
	onBehalfOf: Actor[];
}

/** Principals that are people, or stand for one. */
const PEOPLE = new Set([
	"Root",
	"IAMUser",
	"FederatedUser",
	"SAMLUser",
	"WebIdentityUser",
	"Directory",
	"IdentityCenterUser",
]);

/**
 * The actor from a record's `userIdentity`: the principal whose credentials signed the call. A role session acts for
 * the role it was assumed from and, where the session names them, for the person behind it. A service that called with
 * a user's credentials (`invokedBy`) is not the actor: the user is, and the service stays in the metadata.
 */
export function actingOf(record: Remainder): Acting {
	const identity = "userIdentity";
	const type = record.look(identity, "type");
	const id =
		record.takeId(identity, "arn") ||
		record.takeId(identity, "principalId") ||
		record.takeId(identity, "credentialId") ||
		record.takeId(identity, "invokedBy") ||
		copiedId(record.look(identity, "accountId"));
	if (id === "" || id === "ANONYMOUS_PRINCIPAL") {
		return { actor: actor({ type: ActorType.ANONYMOUS, id: id || "anonymous" }), onBehalfOf: chainOf(record) };
	}
	const name = record.takeText(LIMITS.nameBytes, identity, "userName") || sessionName(id);
	const email = /^[^@\s]+@[^@\s]+$/.test(name) && name.length <= LIMITS.emailBytes ? name : "";
	return {
		actor: actor({ type: typeOf(record, type, id), id, displayName: name, email }),
		onBehalfOf: chainOf(record),
	};
}

function typeOf(record: Remainder, type: string, id: string): ActorType {
	if (PEOPLE.has(type)) return ActorType.USER;
	switch (type) {
		case "AssumedRole":
		case "Role":
			return isPersonsSession(record, id) ? ActorType.USER : ActorType.SERVICE;
		case "AWSService":
			return ActorType.SERVICE;
		case "":
			// Events AWS services report themselves name no type, only who invoked them.
			return record.look("userIdentity", "accountId") === id ? ActorType.UNSPECIFIED : ActorType.SERVICE;
		default:
			// AWSAccount, Unknown and whatever is yet to come: the record does not say what stands behind it.
			return ActorType.UNSPECIFIED;
	}
}

/** Sessions from the console or from IAM Identity Center have a person at the other end; other roles run programs. */
function isPersonsSession(record: Remainder, arn: string): boolean {
	return record.look("sessionCredentialFromConsole") === "true" || arn.includes(":assumed-role/AWSReservedSSO_");
}

function chainOf(record: Remainder): Actor[] {
	const session = ["userIdentity", "sessionContext"];
	const issuer = [...session, "sessionIssuer"];
	const issuerType = PEOPLE.has(record.look(...issuer, "type")) ? ActorType.USER : ActorType.SERVICE;
	const issuerId = record.takeId(...issuer, "arn") || record.takeId(...issuer, "principalId");
	const chain: Actor[] = [];
	if (issuerId) {
		const displayName = record.takeText(LIMITS.nameBytes, ...issuer, "userName");
		chain.push(actor({ type: issuerType, id: issuerId, displayName }));
	}
	for (const path of [
		[...session, "sourceIdentity"],
		["userIdentity", "onBehalfOf", "userId"],
	]) {
		const id = record.takeId(...path);
		if (id) chain.push(actor({ type: ActorType.USER, id }));
	}
	return chain;
}

/** What whoever assumed the role called the session: with IAM Identity Center, the person's user name. */
function sessionName(arn: string): string {
	return /^arn:[^:]*:sts:.*:assumed-role\/.*\/(.+)$/.exec(arn)?.[1] ?? "";
}

function copiedId(text: string): string {
	return isId(text) ? text : "";
}

function actor(init: MessageInitShape<typeof ActorSchema>): Actor {
	return create(ActorSchema, init);
}
