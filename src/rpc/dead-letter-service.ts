import { create } from "@bufbuild/protobuf";
import { authorize, type RpcName } from "../auth/permissions.ts";
import { maySee, type Principal } from "../auth/principal.ts";
import { actorOf } from "../auth/principal-actor.ts";
import { invalidArgument, type Violation } from "../errors.ts";
import { isTenantId } from "../event/admit.ts";
import type { TenantId } from "../event/event.ts";
import { LIMITS } from "../event/limits.ts";
import { faultOfText } from "../event/text.ts";
import { timestampOf } from "../event/time.ts";
import {
	type DeadLetterFilter,
	DeadLetterService,
	DeadLetterState,
	type DiscardDeadLettersRequest,
	type DiscardDeadLettersResponse,
	DiscardDeadLettersResponseSchema,
	type GetDeadLetterRequest,
	type GetDeadLetterResponse,
	type ListDeadLettersRequest,
	type ListDeadLettersResponse,
	ListDeadLettersResponseSchema,
	type RedriveDeadLettersRequest,
	type RedriveDeadLettersResponse,
	RedriveDeadLettersResponseSchema,
	RedriveOutcome,
	type RedriveResult,
	RedriveResultSchema,
} from "../gen/audit/v1/dead_letter_service_pb.ts";
import type { Clerk, Redriven, Redriver } from "../ingest/redrive.ts";
import type { LetterQuery } from "../query/dead-letters.ts";
import type { ReadLog, Recorded } from "../query/read-log.ts";
import { type LetterKey, letterId, parseLetterId } from "../storage/dead-letters.ts";
import { type Call, principalOf } from "./call.ts";
import { type Answers, readBy } from "./recorded-reads.ts";

export interface DeadLetterServiceOptions {
	readonly letters: Pick<LetterQuery, "list" | "get">;
	readonly redriver: Pick<Redriver, "redrive" | "discard">;
	readonly reads: Pick<ReadLog, "recorded">;
}

/** What one call deals with at most. */
const LETTERS_AT_ONCE = 100;

/** audit.v1.DeadLetterService: may this key do that, to which letters; then convert, call, convert. */
export class DeadLetterServiceCalls implements Answers<typeof DeadLetterService> {
	readonly #letters: DeadLetterServiceOptions["letters"];
	readonly #redriver: DeadLetterServiceOptions["redriver"];
	readonly #reads: DeadLetterServiceOptions["reads"];

	constructor({ letters, redriver, reads }: DeadLetterServiceOptions) {
		this.#letters = letters;
		this.#redriver = redriver;
		this.#reads = reads;
	}

	async listDeadLetters(request: ListDeadLettersRequest, call: Call): Promise<Recorded<ListDeadLettersResponse>> {
		const principal = principalOf(call);
		authorizeFilter(principal, "listDeadLetters", request.filter);
		const { asked, deadLetters, nextPageToken } = await this.#letters.list(request, principal.tenants);
		const read = readBy(call, DeadLetterService.method.listDeadLetters, asked);
		const counts = new Map<string, number>();
		// That a tenant has none is something to be told, too.
		if (request.filter?.tenantId) counts.set(request.filter.tenantId, 0);
		for (const { tenantId } of deadLetters) if (tenantId) counts.set(tenantId, (counts.get(tenantId) ?? 0) + 1);
		const reads = [...counts].map(([tenantId, returned]) => ({ ...read, tenantId: tenantId as TenantId, returned }));
		return this.#reads.recorded(reads, create(ListDeadLettersResponseSchema, { deadLetters, nextPageToken }));
	}

	async getDeadLetter({ id }: GetDeadLetterRequest, call: Call): Promise<Recorded<GetDeadLetterResponse>> {
		const principal = principalOf(call);
		authorize(principal, "getDeadLetter", []);
		const key = parseLetterId(id);
		if (!key) throw invalidArgument([{ field: "id", message: NO_ID }], "INVALID_REQUEST");
		const answer = await this.#letters.get(key, principal.tenants);
		const asked = { stated: { id: letterId(key) }, canonical: letterId(key) };
		const read = readBy(call, DeadLetterService.method.getDeadLetter, asked);
		const shows = { type: "dead_letter", id: letterId(key) };
		const { tenantId = "" } = answer.deadLetter ?? {};
		const reads = tenantId ? [{ ...read, tenantId: tenantId as TenantId, shows, returned: 1 }] : [];
		return this.#reads.recorded(reads, answer);
	}

	async redriveDeadLetters(
		request: RedriveDeadLettersRequest,
		principal: Principal,
	): Promise<RedriveDeadLettersResponse> {
		authorizeFilter(principal, "redriveDeadLetters", request.filter);
		const { keys, nextPageToken } = await this.#lettersOf(request, principal);
		const redriven = await this.#redriver.redrive(keys, clerkOf(principal), { dryRun: request.dryRun });
		const results = redriven.map((each, i) => redriveResult(keys[i] as LetterKey, each));
		return create(RedriveDeadLettersResponseSchema, { results, nextPageToken });
	}

	async discardDeadLetters(
		{ ids, reason }: DiscardDeadLettersRequest,
		principal: Principal,
	): Promise<DiscardDeadLettersResponse> {
		authorize(principal, "discardDeadLetters", []);
		const violations: Violation[] = [];
		const keys = parseIds(ids, violations);
		const fault = reason.trim() === "" ? "is required" : faultOfText(reason, LIMITS.textBytes);
		if (fault) violations.push({ field: "reason", message: fault });
		if (violations.length > 0) throw invalidArgument(violations, "INVALID_REQUEST");
		const discarded = await this.#redriver.discard(keys, clerkOf(principal), reason);
		return create(DiscardDeadLettersResponseSchema, {
			results: discarded.map(({ state, changed }, i) => ({
				id: letterId(keys[i] as LetterKey),
				state: DeadLetterState[state],
				changed,
			})),
		});
	}

	/** The letters a redrive names: each, or a page of the open ones that match. */
	async #lettersOf(
		{ ids, filter, pageSize, pageToken }: RedriveDeadLettersRequest,
		principal: Principal,
	): Promise<{ keys: LetterKey[]; nextPageToken: string }> {
		if (!filter) {
			const violations: Violation[] = [];
			const keys = parseIds(ids, violations);
			if (pageToken !== "") violations.push({ field: "page_token", message: "goes with a filter" });
			if (violations.length > 0) throw invalidArgument(violations, "INVALID_REQUEST");
			return { keys, nextPageToken: "" };
		}
		if (ids.length > 0) refuse("ids", "must not be given together with filter");
		if (filter.state !== DeadLetterState.UNSPECIFIED && filter.state !== DeadLetterState.OPEN) {
			refuse("filter.state", "must be DEAD_LETTER_STATE_OPEN or absent: others are not redriven");
		}
		const open = { ...filter, state: DeadLetterState.OPEN };
		const size = pageSize < 0 ? pageSize : Math.min(pageSize || LETTERS_AT_ONCE, LETTERS_AT_ONCE);
		return this.#letters.list({ filter: open, pageSize: size, pageToken }, principal.tenants);
	}
}

const NO_ID = "must be the id of a dead letter";

function refuse(field: string, message: string): never {
	throw invalidArgument([{ field, message }], "INVALID_REQUEST");
}

/** The tenant a filter names must be one the key may see. */
function authorizeFilter(principal: Principal, rpc: RpcName, filter: DeadLetterFilter | undefined): void {
	const tenantId = filter?.tenantId ?? "";
	if (tenantId === "") return authorize(principal, rpc, []);
	if (!isTenantId(tenantId)) refuse("filter.tenant_id", "must be 1 to 128 of A-Z a-z 0-9 . _ : -");
	authorize(principal, rpc, [tenantId]);
}

function clerkOf(principal: Principal): Clerk {
	return {
		keyId: principal.keyId,
		actor: actorOf(principal),
		scope: principal.tenants,
		mayWrite: (tenantId) => maySee(principal, tenantId),
	};
}

function parseIds(ids: readonly string[], violations: Violation[]): LetterKey[] {
	if (ids.length === 0 || ids.length > LETTERS_AT_ONCE) {
		violations.push({ field: "ids", message: `must hold 1 to ${LETTERS_AT_ONCE} ids` });
		return [];
	}
	return ids.flatMap((id, i) => {
		const key = parseLetterId(id);
		if (!key) violations.push({ field: `ids[${i}]`, message: NO_ID });
		return key ? [key] : [];
	});
}

const OUTCOMES = {
	would_be_stored: RedriveOutcome.WOULD_BE_STORED,
	stored: RedriveOutcome.STORED,
	duplicate: RedriveOutcome.DUPLICATE,
	refused: RedriveOutcome.REFUSED,
} as const satisfies Record<Redriven["outcome"], RedriveOutcome>;

function redriveResult(key: LetterKey, redriven: Redriven): RedriveResult {
	const result = { id: letterId(key), outcome: OUTCOMES[redriven.outcome] };
	if (redriven.outcome === "refused") {
		const { reason, message, violations } = redriven.refusal;
		return create(RedriveResultSchema, { ...result, reason, message, violations: [...violations] });
	}
	const events = redriven.events.map(({ occurredAt, ...event }) => ({ ...event, occurredAt: timestampOf(occurredAt) }));
	return create(RedriveResultSchema, { ...result, events });
}
