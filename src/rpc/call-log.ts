import { describeError, type Logger } from "../logger.ts";
import { traceIdOf } from "../trace.ts";
import type { Call } from "./call.ts";
import { sourceOf } from "./connections.ts";

type Failure = NonNullable<Call["failure"]>;

/** Calls refused for one reason, of one address, in this interval. */
interface Refusals {
	told: number;
	/** Those that no line has told of yet; the facts are the last one's. */
	untold: number;
	facts: Record<string, unknown>;
}

/** A batch of retries may have been stored in as many batches as it has events. */
const LOGGED_BATCHES = 8;

/** Of one address and reason so many are told of singly, then again when the interval is over. */
const TOLD_SINGLY = 5;
const INTERVAL_MS = 60_000;
/** So many addresses and reasons are told apart in an interval; the others together, by reason. */
const TOLD_APART = 1_000;

/**
 * The log's lines about calls that are over. What succeeded is told at debug level: one line per call would drown the
 * rest. What failed through us, for somebody who is known, is told always. What its caller is to blame for, and what fails
 * before the caller is known, would let strangers fill the disk: the first of these calls are told of one by one, the
 * others counted, and no call is left out of the counts.
 *
 * First refusal → the interval begins → its end: a line for each address and reason with untold calls, and all is
 * forgotten. Closing ends the interval.
 */
export class CallLog {
	readonly #logger: Logger;
	readonly #refusals = new Map<string, Refusals>();
	#timer: NodeJS.Timeout | undefined;

	constructor(logger: Logger) {
		this.#logger = logger;
	}

	end(call: Call, failure: Failure | undefined): void {
		const facts = factsOf(call);
		if (!failure) return this.#logger.debug(facts, "call answered");
		const { code, reason } = failure;
		const isOurs = code === "internal" || code === "unavailable";
		const tell = () => {
			if (!isOurs) return this.#logger.info({ ...facts, code, reason }, "call failed");
			// What is the caller's fault needs no look into our inside.
			const cause = failure.cause === undefined ? {} : { cause: describeError(failure.cause) };
			this.#logger[code === "internal" ? "error" : "warn"]({ ...facts, code, reason, ...cause }, "call failed");
		};
		// Whoever asks for a line per call gets one.
		if ((isOurs && call.principal) || this.#logger.isLevelEnabled("debug")) return tell();
		this.#count({ ...facts, code, reason }, sourceOf(call.address), tell);
	}

	/** Tells of what is not told yet. */
	close(): void {
		clearTimeout(this.#timer);
		this.#timer = undefined;
		for (const { untold, facts } of this.#refusals.values()) {
			if (untold > 0) this.#logger.info({ ...facts, refused: untold }, "calls refused");
		}
		this.#refusals.clear();
	}

	/** @param tell of this one alone */
	#count(facts: ReturnType<typeof factsOf> & { code: string; reason: string }, source: string, tell: () => void): void {
		const { call, key_id, code, reason } = facts;
		const kind = `${code} ${reason}`;
		const isApart = this.#refusals.has(`${source} ${kind}`) || this.#refusals.size < TOLD_APART;
		const holder = isApart ? `${source} ${kind}` : kind;
		const refusals = this.#refusals.get(holder) ?? { told: 0, untold: 0, facts: {} };
		this.#refusals.set(holder, refusals);
		this.#timer ??= setTimeout(() => this.close(), INTERVAL_MS).unref();
		if (refusals.told < TOLD_SINGLY) {
			refusals.told += 1;
			return tell();
		}
		refusals.untold += 1;
		refusals.facts = { call, key_id, ...(isApart && { address: source }), code, reason };
	}
}

function factsOf(call: Call) {
	return {
		request_id: call.requestId,
		trace_id: traceIdOf(call.trace),
		call: call.name,
		protocol: call.protocol,
		key_id: call.principal?.keyId,
		address: call.address,
		...(call.batchIds.size > 0 && { batch_ids: [...call.batchIds].slice(0, LOGGED_BATCHES).map(String) }),
		ms: Math.round(performance.now() - call.startedAt),
	};
}
