/** Every bound on an event, in one place, each with its reason. Sizes are UTF-8 bytes. */
export const LIMITS = {
	/** The canonical units of one event together: an event is a record, not a document store. */
	eventBytes: 256 * 1024,
	/** Identifiers: they go into indexes, and a b-tree entry may hold 2,704 bytes at most. */
	idBytes: 256,
	/** The longest e-mail address RFC 3696 allows. */
	emailBytes: 320,
	/** Names for people. */
	nameBytes: 1024,
	/** Messages for people: description, reason, outcome_reason, user_agent. */
	textBytes: 4096,
	/** The name of a retention class. */
	retentionClassBytes: 32,
	/** Longer than any chain of delegation seen in practice. */
	onBehalfOf: 8,
	relatedResources: 32,
	changedFields: 1000,
	/** Deeper values break the binary decoder of protobuf (at 48) and recursive readers. */
	structDepth: 32,
	/** Values in one Struct: bounds the time to walk it. */
	structNodes: 2000,
	structKeyBytes: 256,
	/** Violations told of one event: more help nobody, and a hostile event could have a million. */
	violations: 100,
	/** Events in one batch, at either door. */
	batchEvents: 1000,
	/**
	 * How far back and ahead `occurred_at` may lie: partitions are bounded in number. `aheadHours` may grow, never shrink:
	 * searches by `recorded_at` rely on it for every event there is.
	 */
	pastYears: 10,
	aheadHours: 24,
} as const;
