import { create, type DescMessage, type MessageShape, toBinary, toJsonString } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { LIMITS } from "../../../src/event/limits.ts";
import { timestampOf } from "../../../src/event/time.ts";
import {
	type ApiKey,
	ApiKeySchema,
	ListApiKeysResponseSchema,
	Role,
	RotateApiKeyResponseSchema,
} from "../../../src/gen/audit/v1/access_service_pb.ts";
import {
	type DeadLetter,
	DeadLetterSchema,
	DeadLetterState,
	GetDeadLetterResponseSchema,
	ListDeadLettersResponseSchema,
} from "../../../src/gen/audit/v1/dead_letter_service_pb.ts";
import { MAX_MESSAGE_BYTES } from "../../../src/ingest/nats-stream.ts";
import { answerBytesOf, RPC_LIMITS } from "../../../src/rpc/limits.ts";

/** As large as letters are in lists: each character has three bytes, and six in JSON where it is a control character. */
function summary(position: number): DeadLetter {
	const time = timestampOf(1_769_860_800_123_456n as Parameters<typeof timestampOf>[0]);
	return create(DeadLetterSchema, {
		id: `mwpt3sur0-${2n ** 63n - 1n}-${position}`,
		tenantId: "t".repeat(128),
		state: DeadLetterState.OPEN,
		reason: "R".repeat(64),
		message: "\u0001".repeat(500),
		subject: "\u20ac".repeat(500),
		publishedAt: time,
		receivedAt: time,
		bodySize: MAX_MESSAGE_BYTES,
		streamCreated: time,
		streamSeq: 2n ** 63n - 1n,
		position,
	});
}

function sizeOf<Desc extends DescMessage>(schema: Desc, message: MessageShape<Desc>): number {
	return Math.max(toBinary(schema, message).length, Buffer.byteLength(toJsonString(schema, message)));
}

test("answers about dead letters are counted as what they may become", () => {
	const one = create(GetDeadLetterResponseSchema, {
		deadLetter: summary(999),
		body: Buffer.alloc(MAX_MESSAGE_BYTES),
		violations: Array.from({ length: LIMITS.violations }, (_, i) => ({
			field: `events[${i}]`,
			message: "m".repeat(200),
		})),
	});
	expect(answerBytesOf("getDeadLetter")).toBeGreaterThanOrEqual(sizeOf(GetDeadLetterResponseSchema, one));
	const page = create(ListDeadLettersResponseSchema, {
		deadLetters: Array.from({ length: 200 }, (_, i) => summary(i)),
	});
	expect(answerBytesOf("listDeadLetters")).toBeGreaterThanOrEqual(sizeOf(ListDeadLettersResponseSchema, page));
	// A hundred letters may each have become a batch of events, or have a hundred things wrong with them.
	expect(answerBytesOf("redriveDeadLetters")).toBe(RPC_LIMITS.answerBytes);
});

/** As large as keys can be: each character of a name has two bytes in JSON where it is a quotation mark. */
function key(position: number): ApiKey {
	const time = timestampOf(1_769_860_800_123_456n as Parameters<typeof timestampOf>[0]);
	return create(ApiKeySchema, {
		id: "0".repeat(12),
		identity: "0".repeat(12),
		name: '"'.repeat(256),
		role: Role.TENANT_ADMIN,
		tenantIds: Array.from({ length: 100 }, (_, i) => `${position}.${i}`.padEnd(128, "t")),
		maskedUnits: [1, 2, 3, 4, 5, 6, 7],
		createdAt: time,
		expiresAt: time,
		lastUsedAt: time,
		revokedAt: time,
		createdBy: "p".repeat(256),
	});
}

test("answers about keys are counted as what they may become", () => {
	const keys = (count: number) => Array.from({ length: count }, (_, i) => key(i));
	const page = create(ListApiKeysResponseSchema, { keys: keys(200) });
	expect(answerBytesOf("listApiKeys")).toBeGreaterThanOrEqual(sizeOf(ListApiKeysResponseSchema, page));
	const rotated = create(RotateApiKeyResponseSchema, { key: key(0), replaced: keys(32), secret: "s".repeat(100) });
	expect(answerBytesOf("rotateApiKey")).toBeGreaterThanOrEqual(sizeOf(RotateApiKeyResponseSchema, rotated));
});
