import {
	AckPolicy,
	type ConsumerConfig,
	type ConsumerInfo,
	DeliverPolicy,
	DiscardPolicy,
	type JetStreamManager,
	type NatsConnection,
	NatsError,
	nanos,
	ReplayPolicy,
	RetentionPolicy,
	StorageType,
	type StreamConfig,
	type StreamInfo,
} from "nats";
import type { Logger } from "../logger.ts";

/** The subject whose producers are trusted to name the tenant themselves; `audit.events.<tenant>` binds one. */
export const EVENTS_SUBJECT = "audit.events";
export const DEAD_LETTER_SUBJECT = "audit.dlq";
export const CHAIN_SUBJECT = "audit.chain";
export const EVENT_STREAM = "AUDIT";
export const DEAD_LETTER_STREAM = "AUDIT_DLQ";
export const CHAIN_STREAM = "AUDIT_CHAIN";
export const CONSUMER = "audit-writer";

const MIB = 1024 * 1024;
const DAY_MS = 86_400_000;
/** A message: event or batch, with its subject and headers. The server's own `max_payload` is the same by default. */
export const MAX_MESSAGE_BYTES = MIB;
/**
 * What the event stream may hold. Stored messages stay for seven days (a database restored from yesterday is refilled
 * from them), and a full stream turns producers away, so this is sized for days, not for the backlog.
 */
const EVENT_STREAM_BYTES = 32 * 1024 * MIB;
/** Less than this is not worth running with: creation fails instead of shrinking further. */
const LEAST_STREAM_BYTES = 16 * MIB;
/** Several flushes for each of several replicas: 5,000 messages committing, as many decoded, as many waiting. */
const MAX_ACK_PENDING = 65_536;

export interface StreamOptions {
	/** What the event stream may hold; halved as often as needed where the server has no room. */
	readonly maxBytes?: number | undefined;
	/** After how long the server gives a message to somebody else unless told that work goes on. */
	readonly ackWaitMs: number;
}

/** What is on the server once it is as it should be. */
export interface Streams {
	readonly event: StreamInfo;
	readonly consumer: ConsumerInfo;
	/** The door works without these, but says so. */
	readonly missing: readonly string[];
}

/** The server holds something under our names that cannot be made ours without losing or skipping messages. */
export class StreamRefused extends Error {}

/**
 * Makes the streams and the consumer what this file says: creates what is missing, updates what can be updated without
 * touching a stored message, and refuses the rest. A limit that is more generous than ours stays as it is, as do
 * replicas and placement: those are the operator's.
 *
 * @throws StreamRefused naming every difference that would take a person to decide
 */
export async function reconcileStreams(nc: NatsConnection, options: StreamOptions, logger: Logger): Promise<Streams> {
	const jsm = await nc.jetstreamManager({ timeout: 5_000 });
	await ensureStream(jsm, eventStream(options.maxBytes ?? EVENT_STREAM_BYTES), logger);
	let consumer = await ensureConsumer(jsm, writerConsumer(options.ackWaitMs), logger);
	// Asked after the consumer: what is delivered can be ahead of the last message only if the stream lost its tail.
	const event = await jsm.streams.info(EVENT_STREAM);
	if (consumer.delivered.stream_seq > event.state.last_seq) {
		const facts = { delivered: consumer.delivered.stream_seq, last: event.state.last_seq };
		logger.error(facts, "the NATS stream lost messages that were delivered; reading it from the start");
		// Numbers are being used again, and the consumer would take the new messages for old ones. What it reads twice is
		// recognised as stored.
		await jsm.consumers.delete(EVENT_STREAM, CONSUMER);
		consumer = await ensureConsumer(jsm, writerConsumer(options.ackWaitMs), logger);
	}
	const missing: string[] = [];
	for (const wanted of [deadLetterStream(), chainStream()]) {
		try {
			await ensureStream(jsm, wanted, logger);
		} catch (error) {
			if (!(error instanceof StreamRefused) && !apiErrorCode(error)) throw error;
			missing.push(`stream ${wanted.name}: ${(error as Error).message}`);
		}
	}
	return { event, consumer, missing };
}

type WantedStream = ReturnType<typeof eventStream>;

function eventStream(maxBytes: number) {
	return {
		...COMMON,
		name: EVENT_STREAM,
		description: "Audit events on their way into PostgreSQL",
		subjects: [EVENTS_SUBJECT, `${EVENTS_SUBJECT}.*`],
		// Not a work queue: a message that is stored stays, so the database can be refilled and duplicates are known.
		max_age: nanos(7 * DAY_MS),
		max_bytes: maxBytes,
		max_msg_size: MAX_MESSAGE_BYTES,
		duplicate_window: nanos(120_000),
		// A full stream says no to the producer; it never drops what it has promised to keep.
		discard: DiscardPolicy.New,
	};
}

function deadLetterStream(): WantedStream {
	return {
		...eventStream(1024 * MIB),
		name: DEAD_LETTER_STREAM,
		description: "Copies of audit.dead_letters, for those who want to be told",
		subjects: [DEAD_LETTER_SUBJECT],
		max_age: 0,
		max_msg_size: -1,
	};
}

function chainStream(): WantedStream {
	return {
		...eventStream(512 * MIB),
		name: CHAIN_STREAM,
		description: "Heads of the manifest chain, kept where the database cannot rewrite them",
		subjects: [CHAIN_SUBJECT],
		max_age: nanos(30 * DAY_MS),
		// The newest head covers all before it, so when full the oldest goes.
		discard: DiscardPolicy.Old,
	};
}

const COMMON = {
	storage: StorageType.File,
	retention: RetentionPolicy.Limits,
	max_msgs: -1,
	max_msgs_per_subject: -1,
	max_consumers: -1,
	discard_new_per_subject: false,
	no_ack: false,
	// Not only against whoever may call: in nats-server 2.10 a producer's reply subject can be `$JS.API.STREAM.PURGE.…`, and
	// the PubAck sent there is taken for a request, with the sequence number in it as the one to purge up to.
	deny_delete: true,
	deny_purge: true,
	// `Nats-Rollup: all` from any producer would erase the stream.
	allow_rollup_hdrs: false,
};

/** Limits where -1 or 0 mean none: raised to ours, never lowered, because lowering deletes messages. */
const LIMIT_FIELDS = [
	"max_age",
	"max_bytes",
	"max_consumers",
	"max_msg_size",
	"max_msgs",
	"max_msgs_per_subject",
	"duplicate_window",
] as const;
/** Switches that lose nothing when set to ours. */
const SWITCH_FIELDS = [
	"allow_rollup_hdrs",
	"deny_delete",
	"deny_purge",
	"description",
	"discard",
	"discard_new_per_subject",
	"no_ack",
] as const;

async function ensureStream(jsm: JetStreamManager, wanted: WantedStream, logger: Logger): Promise<StreamInfo> {
	const found = await jsm.streams.info(wanted.name).catch((error: unknown) => {
		if (apiErrorCode(error) === STREAM_NOT_FOUND) return undefined;
		throw error;
	});
	if (!found) return await createStream(jsm, wanted, logger);
	const problems = streamProblems(found, wanted);
	if (problems.length > 0) throw new StreamRefused(`stream ${wanted.name} ${problems.join("; and it ")}`);
	const changes = streamChanges(found.config, wanted);
	if (Object.keys(changes).length === 0) return found;
	logger.info({ stream: wanted.name, fields: Object.keys(changes) }, "bringing a NATS stream up to date");
	return await jsm.streams.update(wanted.name, changes).catch(async (error: unknown) => {
		// The server has no room for a larger limit: the smaller one it has goes on being good.
		const { max_bytes: _, ...others } = changes;
		if (!isNoRoom(error)) throw refusal(`stream ${wanted.name} cannot be brought up to date`, error);
		return Object.keys(others).length > 0 ? await jsm.streams.update(wanted.name, others) : found;
	});
}

async function createStream(jsm: JetStreamManager, wanted: WantedStream, logger: Logger): Promise<StreamInfo> {
	for (let maxBytes = wanted.max_bytes; ; maxBytes = Math.floor(maxBytes / 2)) {
		try {
			const made = await jsm.streams.add({ ...wanted, max_bytes: maxBytes });
			logger.info({ stream: wanted.name, max_bytes: maxBytes }, "created a NATS stream");
			return made;
		} catch (error) {
			if (isNoRoom(error) && maxBytes / 2 >= LEAST_STREAM_BYTES) continue;
			throw refusal(`stream ${wanted.name} cannot be created`, error);
		}
	}
}

/** What about an existing stream can only be changed by deleting it, or would make us miss messages. */
function streamProblems(found: StreamInfo, wanted: WantedStream): string[] {
	const { state } = found;
	const config: NewerStreamConfig = found.config;
	const problems: string[] = [];
	if (config.storage !== wanted.storage) problems.push(`is kept in ${config.storage}, not in files`);
	if (config.retention !== wanted.retention) problems.push(`has the retention policy ${config.retention}, not limits`);
	if (config.sealed) problems.push("is sealed");
	if (config.mirror || config.sources?.length) problems.push("is filled from other streams");
	if (config.subject_transform) problems.push("rewrites subjects, which name tenants");
	// `Nats-Schedule-Target` from a producer would be stored under another tenant's subject, whatever it may publish to.
	if (config.allow_msg_schedules) problems.push("stores messages under whatever subject their headers name");
	if (config.allow_msg_counter) problems.push("replaces the bodies of messages by counters");
	if (config.max_bytes <= 0 && state.bytes > wanted.max_bytes) {
		problems.push(`has no max_bytes and holds ${state.bytes} bytes, more than the ${wanted.max_bytes} it should allow`);
	}
	return problems;
}

function streamChanges(found: NewerStreamConfig, wanted: WantedStream): Partial<StreamConfig> {
	const changes: Record<string, unknown> = {};
	for (const field of LIMIT_FIELDS) if (isTighter(field, found[field], wanted[field])) changes[field] = wanted[field];
	for (const field of SWITCH_FIELDS) if ((found[field] ?? false) !== wanted[field]) changes[field] = wanted[field];
	const same = found.subjects.length === wanted.subjects.length;
	if (!same || !wanted.subjects.every((subject) => found.subjects.includes(subject))) {
		changes["subjects"] = wanted.subjects;
	}
	// `Nats-TTL` from any producer would make an event vanish before it is read. Older servers do not know the field.
	if (found.allow_msg_ttl) changes["allow_msg_ttl"] = false;
	// Acknowledging from memory is the very thing a PubAck of ours must not be.
	if (found.persist_mode && found.persist_mode !== "default") changes["persist_mode"] = "default";
	return changes;
}

/** Fields the client library is too old to know. */
type NewerStreamConfig = StreamConfig & {
	allow_msg_counter?: boolean;
	allow_msg_schedules?: boolean;
	allow_msg_ttl?: boolean;
	persist_mode?: string;
};

/** Whether a limit allows less than ours. `max_bytes` must be explicit: none at all lets the disk run full. */
function isTighter(field: (typeof LIMIT_FIELDS)[number], found: number, wanted: number): boolean {
	if (found <= 0) return field === "max_bytes";
	return wanted <= 0 || found < wanted;
}

function writerConsumer(ackWaitMs: number) {
	return {
		durable_name: CONSUMER,
		description: "Writes audit events into PostgreSQL",
		deliver_policy: DeliverPolicy.All,
		ack_policy: AckPolicy.Explicit,
		replay_policy: ReplayPolicy.Instant,
		ack_wait: nanos(ackWaitMs),
		// A message is never given up on: what cannot be stored becomes a dead letter, by us.
		max_deliver: -1,
		max_ack_pending: MAX_ACK_PENDING,
	};
}

async function ensureConsumer(
	jsm: JetStreamManager,
	wanted: ReturnType<typeof writerConsumer>,
	logger: Logger,
): Promise<ConsumerInfo> {
	const found = await jsm.consumers.info(EVENT_STREAM, CONSUMER).catch((error: unknown) => {
		if (apiErrorCode(error) === CONSUMER_NOT_FOUND) return undefined;
		throw error;
	});
	if (!found) {
		logger.info({ consumer: CONSUMER }, "creating the NATS consumer");
		return await jsm.consumers.add(EVENT_STREAM, wanted);
	}
	const problems = consumerProblems(found.config);
	if (problems.length > 0) throw new StreamRefused(`consumer ${CONSUMER} ${problems.join("; and it ")}`);
	const changes = consumerChanges(found.config, wanted);
	if (Object.keys(changes).length === 0) return found;
	logger.info({ consumer: CONSUMER, fields: Object.keys(changes) }, "bringing the NATS consumer up to date");
	return await jsm.consumers.update(EVENT_STREAM, CONSUMER, changes).catch((error: unknown) => {
		throw refusal(`consumer ${CONSUMER} cannot be brought up to date`, error);
	});
}

/** What about an existing consumer makes it skip messages, or cannot be changed. */
function consumerProblems(config: ConsumerConfig): string[] {
	const problems: string[] = [];
	if (config.ack_policy !== AckPolicy.Explicit) problems.push(`has the ack policy ${config.ack_policy}, not explicit`);
	if (config.deliver_policy !== DeliverPolicy.All) {
		problems.push(`began with the delivery policy ${config.deliver_policy}, not with all messages`);
	}
	if (config.deliver_subject) problems.push("is a push consumer");
	if (config.filter_subject || config.filter_subjects?.length) problems.push("skips messages by a filter");
	if (config.headers_only) problems.push("delivers headers without bodies");
	if (config.replay_policy !== ReplayPolicy.Instant) problems.push("replays messages at their original pace");
	return problems;
}

function consumerChanges(
	found: ConsumerConfig,
	wanted: ReturnType<typeof writerConsumer>,
): Partial<ReturnType<typeof writerConsumer>> {
	const changes: Record<string, unknown> = {};
	for (const field of ["ack_wait", "description", "max_ack_pending", "max_deliver"] as const) {
		if (found[field] !== wanted[field]) changes[field] = wanted[field];
	}
	// Bounds on one pull that are smaller than ours would refuse it.
	for (const field of ["max_batch", "max_bytes", "max_expires", "inactive_threshold"] as const) {
		if (found[field]) changes[field] = 0;
	}
	if (found.backoff?.length) changes["backoff"] = [];
	return changes;
}

const STREAM_NOT_FOUND = 10_059;
const CONSUMER_NOT_FOUND = 10_014;
const NO_RESOURCES = 10_023;
const NO_STORAGE = 10_047;

function isNoRoom(error: unknown): boolean {
	const code = apiErrorCode(error);
	return code === NO_RESOURCES || code === NO_STORAGE;
}

/** The number JetStream gives its errors, if it is one of JetStream's. */
function apiErrorCode(error: unknown): number | undefined {
	return error instanceof NatsError ? error.api_error?.err_code : undefined;
}

/** JetStream's own no, in its words; anything else (a lost connection) passes through. */
function refusal(what: string, error: unknown): unknown {
	if (!apiErrorCode(error)) return error;
	return new StreamRefused(`${what}: ${(error as Error).message}`, { cause: error });
}
