import { timestampMs } from "@bufbuild/protobuf/wkt";
import { describe, expect, test } from "vitest";
import { UsageError } from "../../../src/cli/command-line.ts";
import { describeError, isExpected } from "../../../src/cli/describe-error.ts";
import { parseWord, wordsOf } from "../../../src/cli/enum-words.ts";
import { eventOfFlags } from "../../../src/cli/event-flags.ts";
import { parseResource } from "../../../src/cli/resource-option.ts";
import { parseTime } from "../../../src/cli/time-option.ts";
import { AuditError, invalidArgument } from "../../../src/errors.ts";
import { Category, CategorySchema, Severity, SeveritySchema } from "../../../src/gen/audit/v1/event_pb.ts";

describe("words for enums", () => {
	test("the short word, whatever its case, and the full name are the same", () => {
		for (const word of ["auth", "AUTH", "CATEGORY_AUTH"]) {
			expect(parseWord(CategorySchema, "--category", word)).toBe(Category.AUTH);
		}
		expect(parseWord(SeveritySchema, "--severity", "security")).toBe(Severity.SECURITY);
	});

	test("another word is refused with those allowed", () => {
		expect(() => parseWord(SeveritySchema, "--severity", "loud")).toThrow(
			"--severity must be one of debug, info, notice, warning, error, critical, security",
		);
		expect(wordsOf(CategorySchema)).not.toContain("unspecified");
	});
});

describe("times", () => {
	const now = Date.UTC(2026, 0, 31, 12);
	test.each([
		["90s", now - 90_000],
		["15m", now - 900_000],
		["24h", now - 86_400_000],
		["7d", now - 7 * 86_400_000],
		["2w", now - 14 * 86_400_000],
		["2026-01-30", Date.UTC(2026, 0, 30)],
		["2026-01-30T10:00:00+02:00", Date.UTC(2026, 0, 30, 8)],
	])("%s", (text, expected) => {
		expect(timestampMs(parseTime("--since", text, now))).toBe(expected);
	});

	test.each(["yesterday", "24", "-1h", "2026-13-01"])("%s is refused with examples", (text) => {
		expect(() => parseTime("--since", text, now)).toThrow(UsageError);
	});
});

describe("resources", () => {
	test("the first single colon divides type and id", () => {
		expect(parseResource("--resource", "user:user-123")).toEqual({ type: "user", id: "user-123" });
		expect(parseResource("--resource", "AWS::S3::Bucket:arn:aws:s3:::b")).toEqual({
			type: "AWS::S3::Bucket",
			id: "arn:aws:s3:::b",
		});
		for (const text of ["user-123", ":x", "user:", "AWS::S3"]) {
			expect(() => parseResource("--resource", text)).toThrow(UsageError);
		}
	});
});

describe("an event from options", () => {
	test("every option has its field", () => {
		const event = eventOfFlags({
			tenant: "acme",
			action: "file.move",
			actor: "user-123",
			actorType: "user",
			actorName: "Jane",
			resource: "file:1",
			related: ["from=folder:2", "folder:3"],
			metadata: '{"a":{"b":1}}',
			changes: '{"old_value":{"x":1},"changed_fields":["x"]}',
			ip: "192.0.2.10",
		});
		expect(event).toMatchObject({
			tenantId: "acme",
			actor: { id: "user-123", type: 1, displayName: "Jane" },
			primaryResource: { type: "file", id: "1" },
			relatedResources: [
				{ type: "folder", id: "2", role: "from" },
				{ type: "folder", id: "3", role: "" },
			],
			metadata: { a: { b: 1 } },
			changes: { oldValue: { x: 1 }, changedFields: ["x"] },
			context: { ipAddress: "192.0.2.10" },
		});
	});

	test("JSON that is none, or not the right kind, is refused by option", () => {
		expect(() => eventOfFlags({ metadata: '{"a":' })).toThrow("--metadata is not valid JSON");
		expect(() => eventOfFlags({ metadata: "[1]" })).toThrow("--metadata");
		expect(() => eventOfFlags({ changes: '{"before":{}}' })).toThrow("--changes.before");
	});
});

describe("errors for people", () => {
	test("every violation is listed, and what to do is said", () => {
		const error = invalidArgument([
			{ field: "actor.id", message: "is required" },
			{ field: "action", message: "is required" },
		]);
		expect(describeError(error)).toBe(
			"error: actor.id: is required (and 1 more) (invalid_argument)\n  actor.id: is required\n  action: is required",
		);
		const away = new AuditError("unavailable", "connection refused", { reason: "UNAVAILABLE" });
		expect(describeError(away)).toContain("make run");
	});

	test.each([
		["NATS that is away", ["unavailable", "NATS cannot be reached", "NATS_UNAVAILABLE"], "--nats-url"],
		["a tenant there is not", ["not_found", "no such tenant", "TENANT_NOT_FOUND"], "auditlog tenant create"],
		["https where there is none", ["unavailable", "error:0A00010B:SSL routines::wrong version number", "X"], "http://"],
		["another server", ["internal", "http/2 stream closed with error code CANCEL (0x8)", "X"], "not the service"],
	] as const)("%s: what to do is said", (_, [code, message, reason], advice) => {
		expect(describeError(new AuditError(code, message, { reason }))).toContain(advice);
	});

	test("what a message holds of other people's text cannot steer the terminal", () => {
		const error = invalidArgument([
			{ field: "metadata.\u001b[2J", message: "is not known" },
			{ field: "metadata.\u202ex", message: "is not known" },
		]);
		for (const character of "\u001b\u202e") expect(describeError(error)).not.toContain(character);
		expect(describeError(new UsageError("line one\nline \u009b2J"))).toBe("error: line one\nline \ufffd2J");
	});

	test("programmer errors are not for people", () => {
		expect(isExpected(new TypeError("x is not a function"))).toBe(false);
		expect(isExpected(Object.assign(new Error("no such file"), { code: "ENOENT" }))).toBe(true);
		expect(isExpected("a text")).toBe(false);
	});
});
