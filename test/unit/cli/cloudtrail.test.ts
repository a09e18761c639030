import { createSecretKey } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { JsonObject, JsonValue } from "@bufbuild/protobuf";
import { toJson } from "@bufbuild/protobuf";
import { describe, expect, test } from "vitest";
import { cloudTrailEvent, DROPPED, MOVED, UnmappableRecord } from "../../../src/cli/import/cloudtrail.ts";
import { admit } from "../../../src/event/admit.ts";
import { LIMITS } from "../../../src/event/limits.ts";
import { microsOfDate } from "../../../src/event/time.ts";
import { ActorType, Category, type Event, EventSchema, Outcome, Severity } from "../../../src/gen/audit/v1/event_pb.ts";
import { realRecords } from "./real-records.ts";

const ROLE_SESSION = {
	type: "AssumedRole",
	principalId: "AROA1:deploy",
	arn: "arn:aws:sts::111111111111:assumed-role/deployer/deploy",
	accountId: "111111111111",
	accessKeyId: "ASIA1",
	sessionContext: {
		sessionIssuer: {
			type: "Role",
			principalId: "AROA1",
			arn: "arn:aws:iam::111111111111:role/deployer",
			accountId: "111111111111",
			userName: "deployer",
		},
		attributes: { mfaAuthenticated: "false" },
	},
};

function aRecord(members: JsonObject = {}): JsonObject {
	return {
		eventVersion: "1.08",
		userIdentity: { type: "IAMUser", arn: "arn:aws:iam::111111111111:user/jane", userName: "jane" },
		eventTime: "2023-07-10T11:42:18Z",
		eventSource: "ec2.amazonaws.com",
		eventName: "DescribeInstances",
		awsRegion: "us-east-1",
		sourceIPAddress: "192.0.2.10",
		userAgent: "aws-cli/2.13.0",
		requestID: "r-1",
		eventID: "875240ac-e821-4fc6-a311-8c352a1d20f5",
		readOnly: true,
		eventType: "AwsApiCall",
		recipientAccountId: "111111111111",
		...members,
	};
}

const map = (members: JsonObject = {}) => cloudTrailEvent(aRecord(members), "acme");

function violationsOf(event: Event) {
	const admitted = admit(event, {
		now: microsOfDate(new Date()),
		recordedBy: { door: "rpc", keyId: undefined },
		boundTenant: undefined,
		idSecret: createSecretKey(new Uint8Array(32)),
	});
	return admitted.ok ? [] : admitted.violations;
}

describe("the real records", () => {
	const records = realRecords();

	test("there are 2,900 of them, and every one becomes a valid event with its own id and time", () => {
		expect(records).toHaveLength(2900);
		for (const record of records) {
			const event = cloudTrailEvent(record, "acme");
			expect(violationsOf(event)).toEqual([]);
			expect(event.id).toBe(record.eventID);
			expect(Number(event.occurredAt?.seconds)).toBe(Date.parse(record.eventTime as string) / 1000);
		}
	});

	test("every scalar is in the event or on the drop list", () => {
		const lost = new Set<string>();
		for (const record of records) for (const path of lostScalars(record)) lost.add(path);
		expect([...lost]).toEqual([]);
	});

	test("every place named in the list of moved values is one that is used or explained by the edge cases below", () => {
		const seen = new Set(records.flatMap((record) => scalarsOf(record).map(({ pattern }) => pattern)));
		const unseen = Object.keys(MOVED).filter((path) => !seen.has(path));
		expect(unseen).toEqual([
			"userIdentity.credentialId",
			"userIdentity.sessionContext.sourceIdentity",
			"userIdentity.onBehalfOf.userId",
		]);
	});

	test("the outcomes are those of the error codes", () => {
		for (const record of records) {
			const code = (record.errorCode as string | undefined) ?? "";
			const outcome = /AccessDenied|Unauthorized/.test(code)
				? Outcome.DENIED
				: code
					? Outcome.FAILURE
					: Outcome.SUCCESS;
			expect(cloudTrailEvent(record, "acme").outcome).toBe(outcome);
		}
	});

	test("every role session acts on behalf of its role", () => {
		const sessions = records.filter((record) => (record.userIdentity as JsonObject).type === "AssumedRole");
		expect(sessions).toHaveLength(76);
		for (const record of sessions) {
			const { actor, onBehalfOf } = cloudTrailEvent(record, "acme");
			expect(actor?.id).toContain(":assumed-role/");
			expect(onBehalfOf.map(({ id }) => id)).toEqual([expect.stringContaining(":role/")]);
		}
	});

	test("mapping leaves the record as it was and gives the same event again", () => {
		for (const record of records.slice(0, 100)) {
			const before = JSON.stringify(record);
			const first = cloudTrailEvent(record, "acme");
			expect(cloudTrailEvent(record, "acme")).toEqual(first);
			expect(JSON.stringify(record)).toBe(before);
		}
	});
});

describe("who did it", () => {
	test("an IAM user is a person, by ARN and name", () => {
		expect(map().actor).toMatchObject({
			type: ActorType.USER,
			id: "arn:aws:iam::111111111111:user/jane",
			displayName: "jane",
		});
	});

	test("a role session is a service with the role behind it, and the temporary key names the session", () => {
		const event = map({ userIdentity: ROLE_SESSION });
		expect(event.actor).toMatchObject({ type: ActorType.SERVICE, id: ROLE_SESSION.arn, displayName: "deploy" });
		expect(event.onBehalfOf).toMatchObject([
			{ type: ActorType.SERVICE, id: "arn:aws:iam::111111111111:role/deployer", displayName: "deployer" },
		]);
		expect(event.context?.sessionId).toBe("ASIA1");
	});

	test("a role session from IAM Identity Center or the console is a person", () => {
		const arn = "arn:aws:sts::111111111111:assumed-role/AWSReservedSSO_Admin_1234/jane@example.com";
		expect(map({ userIdentity: { ...ROLE_SESSION, arn } }).actor).toMatchObject({
			type: ActorType.USER,
			displayName: "jane@example.com",
			email: "jane@example.com",
		});
		const fromConsole = map({ userIdentity: ROLE_SESSION, sessionCredentialFromConsole: "true" });
		expect(fromConsole.actor?.type).toBe(ActorType.USER);
		expect(fromConsole.source).toBe("aws.console");
	});

	test("the chain goes on to the person the session names", () => {
		const userIdentity = {
			...ROLE_SESSION,
			sessionContext: { ...ROLE_SESSION.sessionContext, sourceIdentity: "jane" },
			onBehalfOf: { userId: "sso-user-1", identityStoreArn: "arn:aws:identitystore::111111111111:identitystore/d-1" },
		};
		const event = map({ userIdentity });
		expect(event.onBehalfOf.slice(1)).toMatchObject([
			{ type: ActorType.USER, id: "jane" },
			{ type: ActorType.USER, id: "sso-user-1" },
		]);
		expect(lostScalars(aRecord({ userIdentity }))).toEqual([]);
	});

	test("a user of the identity centre is known by the credential", () => {
		const userIdentity = { type: "IdentityCenterUser", credentialId: "cred-1", accountId: "111111111111" };
		expect(map({ userIdentity }).actor).toMatchObject({ type: ActorType.USER, id: "cred-1" });
	});

	test("the root user is a person, and whatever the root user does concerns security", () => {
		const userIdentity = { type: "Root", principalId: "111111111111", arn: "arn:aws:iam::111111111111:root" };
		const event = map({ userIdentity });
		expect(event.actor).toMatchObject({ type: ActorType.USER, id: "arn:aws:iam::111111111111:root" });
		expect(event.severity).toBe(Severity.SECURITY);
	});

	test("a service of AWS is a service", () => {
		for (const userIdentity of [
			{ type: "AWSService", invokedBy: "ec2.amazonaws.com" },
			{ invokedBy: "ec2.amazonaws.com" },
		]) {
			const event = map({ userIdentity, sourceIPAddress: "ec2.amazonaws.com" });
			expect(event.actor).toMatchObject({ type: ActorType.SERVICE, id: "ec2.amazonaws.com" });
			expect(event.source).toBe("aws.service");
		}
	});

	test("a service that uses a user's credentials does not take the user's place", () => {
		const userIdentity = {
			type: "IAMUser",
			arn: "arn:aws:iam::111111111111:user/jane",
			invokedBy: "cloudformation.amazonaws.com",
		};
		const event = map({ userIdentity });
		expect(event.actor?.id).toBe("arn:aws:iam::111111111111:user/jane");
		expect(event.metadata?.userIdentity).toEqual({ type: "IAMUser", invokedBy: "cloudformation.amazonaws.com" });
	});

	test("another account is not taken for a person or a service", () => {
		const userIdentity = { type: "AWSAccount", principalId: "AIDA1", accountId: "222222222222" };
		expect(map({ userIdentity }).actor).toMatchObject({ type: ActorType.UNSPECIFIED, id: "AIDA1" });
	});

	test("nobody known is anonymous", () => {
		for (const userIdentity of [
			{},
			null,
			{ type: "Unknown" },
			{ type: "AWSAccount", principalId: "ANONYMOUS_PRINCIPAL" },
		]) {
			expect(map({ userIdentity }).actor?.type).toBe(ActorType.ANONYMOUS);
		}
	});

	test("an ARN longer than an id may be gives way to the principal's id and stays in metadata", () => {
		const arn = `arn:aws:iam::111111111111:user/${"p".repeat(300)}`;
		const event = map({ userIdentity: { type: "IAMUser", arn, principalId: "AIDA1" } });
		expect(event.actor?.id).toBe("AIDA1");
		expect(event.metadata?.userIdentity).toEqual({ type: "IAMUser", arn });
	});
});

describe("what it concerns", () => {
	test("the resources a record lists, the first as the primary one", () => {
		const resources = [
			{ ARN: "arn:aws:s3:::bucket", type: "AWS::S3::Bucket", accountId: "111111111111" },
			{ ARN: "arn:aws:ssm:us-east-1:111111111111:parameter/p", accountId: "222222222222" },
		];
		const event = map({ resources });
		expect(event.primaryResource).toMatchObject({ type: "AWS::S3::Bucket", id: "arn:aws:s3:::bucket" });
		expect(event.relatedResources).toMatchObject([
			{ type: "ssm:parameter", id: "arn:aws:ssm:us-east-1:111111111111:parameter/p" },
		]);
		expect(event.metadata?.resources).toEqual([{ accountId: "222222222222" }]);
	});

	test("resources beyond what an event may have stay in metadata", () => {
		const resources = Array.from({ length: 40 }, (_, i) => ({
			ARN: `arn:aws:s3:::bucket-${i}`,
			type: "AWS::S3::Bucket",
		}));
		const event = map({ resources });
		expect(event.relatedResources).toHaveLength(LIMITS.relatedResources);
		expect(event.metadata?.resources).toHaveLength(7);
		expect(violationsOf(event)).toEqual([]);
		expect(lostScalars(aRecord({ resources }))).toEqual([]);
	});

	test("without such a list, what well-known parameters name; the request stays as it was", () => {
		const requestParameters = { subnetSet: { items: [{ subnetId: "subnet-1" }, { subnetId: "subnet-2" }] } };
		const event = map({ eventName: "DescribeSubnets", requestParameters });
		expect([event.primaryResource, ...event.relatedResources]).toMatchObject([
			{ type: "AWS::EC2::Subnet", id: "subnet-1" },
			{ type: "AWS::EC2::Subnet", id: "subnet-2" },
		]);
		expect(event.metadata?.requestParameters).toEqual(requestParameters);
	});

	test("a call that makes something concerns what it made", () => {
		const event = map({
			eventName: "CreateSubnet",
			readOnly: false,
			requestParameters: { vpcId: "vpc-1" },
			responseElements: { subnet: { subnetId: "subnet-1", vpcId: "vpc-1" } },
		});
		expect(event.primaryResource).toMatchObject({ type: "AWS::EC2::Subnet", id: "subnet-1" });
		expect(event.relatedResources).toMatchObject([{ type: "AWS::EC2::VPC", id: "vpc-1" }]);
	});
});

describe("how it ended, and why", () => {
	test("the error's code and message are the reason of the outcome; the code stays for programs", () => {
		const event = map({ errorCode: "AccessDenied", errorMessage: "User is not authorized" });
		expect(event.outcome).toBe(Outcome.DENIED);
		expect(event.severity).toBe(Severity.WARNING);
		expect(event.outcomeReason).toBe("AccessDenied: User is not authorized");
		expect(event.metadata?.errorCode).toBe("AccessDenied");
		expect(event.metadata).not.toHaveProperty("errorMessage");
	});

	test("any other error is a failure", () => {
		expect(map({ errorCode: "ThrottlingException" })).toMatchObject({
			outcome: Outcome.FAILURE,
			outcomeReason: "ThrottlingException",
		});
	});

	test("a sign-in that failed has no error code and is no success", () => {
		const event = map({
			eventSource: "signin.amazonaws.com",
			eventName: "ConsoleLogin",
			eventType: "AwsConsoleSignIn",
			readOnly: false,
			errorMessage: "Failed authentication",
			responseElements: { ConsoleLogin: "Failure" },
		});
		expect(event).toMatchObject({
			outcome: Outcome.FAILURE,
			outcomeReason: "Failed authentication",
			category: Category.AUTH,
			severity: Severity.SECURITY,
			source: "aws.console",
		});
	});

	test("a justification given with the request is the event's reason", () => {
		const requestParameters = { target: "i-1", reason: "INC-4711" };
		const event = map({ eventSource: "ssm.amazonaws.com", eventName: "StartSession", requestParameters });
		expect(event.reason).toBe("INC-4711");
		expect(event.metadata?.requestParameters).toEqual(requestParameters);
	});
});

describe("of what kind it is", () => {
	const write = { readOnly: false };
	test.each<[string, string, JsonObject, Category, Severity]>([
		["sts", "AssumeRole", {}, Category.AUTH, Severity.INFO],
		["iam", "CreateUser", write, Category.ADMIN, Severity.NOTICE],
		["iam", "ListUsers", {}, Category.ADMIN, Severity.INFO],
		["iam", "CreateAccessKey", write, Category.AUTH, Severity.SECURITY],
		["iam", "AttachUserPolicy", write, Category.ACCESS, Severity.SECURITY],
		["s3", "PutBucketPolicy", write, Category.ACCESS, Severity.SECURITY],
		["s3", "GetBucketPolicy", {}, Category.DATA, Severity.INFO],
		["s3", "DeleteBucket", write, Category.DATA, Severity.NOTICE],
		["ec2", "ModifySnapshotAttribute", write, Category.ACCESS, Severity.SECURITY],
		["ec2", "RunInstances", write, Category.CONFIG, Severity.NOTICE],
		["ec2", "DescribeInstances", {}, Category.DATA, Severity.INFO],
		["cloudtrail", "StopLogging", write, Category.SECURITY, Severity.SECURITY],
		["ce", "GetCostAndUsage", {}, Category.BILLING, Severity.INFO],
		["kms", "RotateKey", { ...write, eventType: "AwsServiceEvent" }, Category.SECURITY, Severity.SECURITY],
		[
			"ec2",
			"SharedSnapshotVolumeCreated",
			{ ...write, eventType: "AwsServiceEvent" },
			Category.SYSTEM,
			Severity.NOTICE,
		],
	])("%s.%s has its own", (service, eventName, members, category, severity) => {
		const event = map({ eventSource: `${service}.amazonaws.com`, eventName, ...members });
		expect(event).toMatchObject({ category, severity });
	});

	test("the source is the channel", () => {
		expect(map().source).toBe("aws.cli");
		expect(map({ userAgent: "Boto3/1.26" }).source).toBe("aws.api");
		expect(map({ sessionCredentialFromConsole: "true" }).source).toBe("aws.console");
	});
});

describe("records at the edges", () => {
	test.each(["eventID", "eventTime", "eventSource", "eventName"])("one without %s is refused by name", (name) => {
		expect(() => map({ [name]: null })).toThrow(UnmappableRecord);
		expect(() => map({ [name]: null })).toThrow(name);
	});

	test("a time that is none is refused", () => {
		expect(() => map({ eventTime: "yesterday" })).toThrow("eventTime is not a time");
	});

	test("a host name in place of an address stays in metadata", () => {
		const event = map({ sourceIPAddress: "ec2.amazonaws.com" });
		expect(event.context?.ipAddress).toBe("");
		expect(event.metadata?.sourceIPAddress).toBe("ec2.amazonaws.com");
	});

	test("values of the wrong type or too long for their field stay in metadata", () => {
		const members = { userAgent: "a".repeat(5000), requestID: 7, errorCode: "E", errorMessage: "m".repeat(5000) };
		const event = map(members);
		expect(event.metadata).toMatchObject(members);
		expect(violationsOf(event)).toEqual([]);
	});

	test("fields nobody has heard of are kept", () => {
		expect(map({ newField: { deep: [1, null, "x"] } }).metadata?.newField).toEqual({ deep: [1, null, "x"] });
	});

	test("a member with more values than metadata may have is kept as JSON text", () => {
		const responseElements = { items: Array.from({ length: 3000 }, (_, i) => ({ id: i })) };
		const event = map({ responseElements, requestParameters: { small: 1 } });
		expect(violationsOf(event)).toEqual([]);
		expect(JSON.parse(event.metadata?.responseElements as string)).toEqual(responseElements);
		expect(event.metadata?.requestParameters).toEqual({ small: 1 });
	});

	test("a member nested deeper than metadata may be is kept as JSON text", () => {
		const nested = (depth: number): JsonValue => (depth === 0 ? "bottom" : { a: nested(depth - 1) });
		const fits = map({ requestParameters: nested(LIMITS.structDepth - 1) });
		expect(violationsOf(fits)).toEqual([]);
		expect(typeof fits.metadata?.requestParameters).toBe("object");
		const tooDeep = map({ requestParameters: nested(LIMITS.structDepth) });
		expect(violationsOf(tooDeep)).toEqual([]);
		expect(typeof tooDeep.metadata?.requestParameters).toBe("string");
	});
});

describe("docs/import-cloudtrail.md", () => {
	const page = readFileSync(join(import.meta.dirname, "../../../docs/import-cloudtrail.md"), "utf8");

	test("names every place a value is moved to, and every value that is dropped", () => {
		for (const [path, place] of Object.entries(MOVED)) expect(page).toContain(`| \`${path}\` | \`${place}\` |`);
		for (const path of Object.keys(DROPPED)) expect(page.split("## Dropped")[1]).toContain(`| \`${path}\` |`);
	});
});

interface Scalar {
	path: (string | number)[];
	/** The path with `[]` for every index, as the lists of moved and dropped values spell it. */
	pattern: string;
	value: JsonValue;
}

function scalarsOf(value: JsonValue | undefined, path: (string | number)[] = []): Scalar[] {
	if (typeof value !== "object" || value === null) {
		const pattern = path.reduce<string>((text, step) => {
			if (typeof step === "number") return `${text}[]`;
			return text === "" ? step : `${text}.${step}`;
		}, "");
		return [{ path, pattern, value: value ?? null }];
	}
	if (Array.isArray(value)) return value.flatMap((item, i) => scalarsOf(item, [...path, i]));
	return Object.entries(value).flatMap(([name, item]) => scalarsOf(item, [...path, name]));
}

/** The scalars of a record that are neither in its event nor on the drop list. */
function lostScalars(record: JsonObject): string[] {
	const event = toJson(EventSchema, cloudTrailEvent(record, "acme"), { useProtoFieldName: true }) as JsonObject;
	return scalarsOf(record)
		.filter((scalar) => !isKept(scalar, event) && !isMoved(scalar, event) && !isDropped(scalar, record, event))
		.map(({ pattern }) => pattern);
}

function isKept({ path, value }: Scalar, { metadata }: JsonObject): boolean {
	const kept = path.reduce<JsonValue | undefined>((at, step) => (at as JsonObject | undefined)?.[step], metadata);
	if (kept === value) return true;
	// Of a list, what is left moves up.
	return path[0] === "resources" && scalarsOf((metadata as JsonObject).resources).some((left) => left.value === value);
}

function isMoved({ pattern, value }: Scalar, event: JsonObject): boolean {
	const place = MOVED[pattern];
	if (!place) return false;
	const name = place.replace(/^primary_resource/, "");
	const places = place.startsWith("primary_resource") ? [place, `related_resources[]${name}`] : [place];
	return scalarsOf(event).some(({ pattern: at, value: there }) => {
		if (!places.includes(at)) return false;
		return there === value || (pattern === "errorMessage" && (there as string).endsWith(`: ${value as string}`));
	});
}

function isDropped({ pattern, value }: Scalar, record: JsonObject, event: JsonObject): boolean {
	if (value === null) return `${pattern}: null` in DROPPED;
	const isRecipient =
		value === record.recipientAccountId && (event.metadata as JsonObject).recipientAccountId === value;
	return pattern === "resources[].accountId" && pattern in DROPPED && isRecipient;
}
