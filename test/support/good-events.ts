import type { MessageInitShape } from "@bufbuild/protobuf";
import fc from "fast-check";
import type { EventSchema } from "../../src/gen/audit/v1/event_pb.ts";

/** Events that are admitted: with every field or without, texts of every kind, numbers no enum has a name for. */
export function goodEvents(): fc.Arbitrary<MessageInitShape<typeof EventSchema>> {
	const maybe = fc.oneof(fc.constant(""), text(24));
	const resource = fc.record({ id: text(24), type: maybe, displayName: maybe, role: maybe });
	const actor = fc.record({ id: text(24), type: number(), displayName: maybe, email: maybe });
	const context = fc.record({
		ipAddress: fc.oneof(fc.constant(""), fc.ipV4(), fc.ipV6()),
		userAgent: maybe,
		requestId: maybe,
		traceId: maybe,
		sessionId: maybe,
		location: maybe,
	});
	const changes = fc.record(
		{ changedFields: fc.array(text(12), { maxLength: 2 }), oldValue: struct(), newValue: struct() },
		{ requiredKeys: [] },
	);
	return fc.record(
		{
			action: fc.constantFrom("user.login", "a", "file-read_2"),
			actor,
			onBehalfOf: fc.array(actor, { maxLength: 2 }),
			primaryResource: resource,
			relatedResources: fc.array(resource, { maxLength: 2 }),
			category: number(),
			severity: number(),
			outcome: number(),
			source: maybe,
			context,
			changes,
			metadata: struct(),
			description: maybe,
			outcomeReason: maybe,
			reason: maybe,
			schemaVersion: fc.constantFrom(0, 1, 2 ** 32 - 1),
			retentionClass: fc.constantFrom("", "standard", "long"),
		},
		{ requiredKeys: ["action", "actor"] },
	) as fc.Arbitrary<MessageInitShape<typeof EventSchema>>;
}

/** What identifiers may hold, which is less than what texts may. */
function text(maxLength: number): fc.Arbitrary<string> {
	const odd = fc.constantFrom(
		'"',
		"\\",
		"é",
		"e\u0301",
		"😀",
		"\u2028",
		"\u200f",
		"</script>",
		"' OR true --",
		"{}",
		" ",
	);
	return fc
		.array(fc.oneof(fc.string({ unit: "grapheme-ascii", maxLength: 4 }), odd), { minLength: 1, maxLength: 4 })
		.map((parts) => parts.join("").slice(0, maxLength).toWellFormed() || "x");
}

function number(): fc.Arbitrary<number> {
	return fc.oneof(fc.nat(9), fc.constantFrom(77, -1, 2 ** 31 - 1, -(2 ** 31)));
}

function struct() {
	const key = fc.oneof(text(8), fc.constantFrom("", "__proto__", "constructor", "10", "9", "Z", "é", "😀", "\uffff"));
	const leaf = fc.oneof(
		fc.constantFrom(null, true, false, 0, -0, 1.5, 1e-7, 5e-324, 2 ** 53 - 1, -(2 ** 53) + 1),
		text(12),
	);
	const { value } = fc.letrec((tie) => ({
		value: fc.oneof({ maxDepth: 3 }, leaf, fc.array(tie("value"), { maxLength: 2 }), object(key, tie("value"))),
	}));
	return object(key, value);
}

/** Also with a member named `__proto__`, as JSON.parse makes it. */
function object(key: fc.Arbitrary<string>, value: fc.Arbitrary<unknown>) {
	return fc
		.uniqueArray(fc.tuple(key, value), { maxLength: 3, selector: ([name]) => name })
		.map((members) => Object.fromEntries(members));
}
