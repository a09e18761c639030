import type { MessageInitShape } from "@bufbuild/protobuf";
import type { PoolClient } from "pg";
import { AuditError, tenantDisabled, tenantNotFound } from "../errors.ts";
import type { Micros, TenantId } from "../event/event.ts";
import { microsOfDate, rfc3339 } from "../event/time.ts";
import { type ActorSchema, ActorType } from "../gen/audit/v1/event_pb.ts";
import type { Logger } from "../logger.ts";
import type { ServiceLog, Told } from "../storage/service-log.ts";
import { microsOfColumn, microsSql } from "../storage/stored-row.ts";
import { CommitUnknown } from "../storage/transaction.ts";
import { type ApiKey, formatApiKey, hashSecret, newApiKey } from "./api-keys.ts";
import { type Granter, type Rights, refusalOfEnd, refusalOfGrant, seesAll } from "./grant.ts";
import { KEY_COLUMNS, type KeyInfo, type KeyRow, keyOfRow } from "./key-info.ts";
import { type KeyNotice, keyNotices } from "./key-notice.ts";
import type { Principal } from "./principal.ts";
import { actorOf } from "./principal-actor.ts";
import type { DerivedKeys } from "./secret.ts";

export interface KeyChangesOptions {
	readonly log: ServiceLog;
	readonly keys: DerivedKeys;
	/** Keys are made for tenants that exist, and are not disabled but for operators. */
	readonly tenants: {
		exists(tenantId: TenantId): Promise<boolean>;
		isDisabled(tenantId: TenantId): Promise<boolean>;
	};
	readonly logger: Logger;
}

/** Who changes keys. */
export interface KeyClerk extends Granter {
	/** What the key remembers him by. Never personal. */
	readonly id: string;
	/** When his own key ends, in milliseconds since 1970; undefined: never, or he has none. */
	readonly until: number | undefined;
	/** What events call him. */
	readonly actor: MessageInitShape<typeof ActorSchema>;
}

export function clerkOf(principal: Principal): KeyClerk {
	const { kind, id, roles, tenants, maskedUnits, expiresAt } = principal;
	// Tokens and certificates end soon, and are followed by others: their ends say nothing of what their holder may.
	const until = kind === "api_key" ? expiresAt : undefined;
	return { id, roles, tenants, maskedUnits, until, actor: actorOf(principal) };
}

/** Whoever has the database at hand. Which person that is nobody has proven, so none is named. */
export const COMMAND_LINE: KeyClerk = {
	id: "cli",
	roles: new Set(["operator"]),
	tenants: "all",
	maskedUnits: new Set(),
	until: undefined,
	actor: { type: ActorType.SYSTEM, id: "cli", displayName: "auditlog key, on the database itself" },
};

export interface KeySpec extends Rights {
	readonly name: string;
	readonly expiresAt: Micros | undefined;
	/** Default: a new random one. */
	readonly key?: ApiKey;
}

/** A key that was made, and its text, which cannot be had again. */
export interface MadeKey {
	readonly key: KeyInfo;
	readonly secret: string;
}

export interface RotatedKey extends MadeKey {
	readonly replaced: readonly KeyInfo[];
}

/** Enough for every rotation that is not a mistake; it bounds what an answer to the next one holds. */
const WORKING_KEYS = 32;

type Change<T> =
	/** `isDone`: by the first try, whose events are stored, too. */
	{ readonly result: T; readonly notice?: KeyNotice; readonly isDone?: boolean } | { readonly refusal: AuditError };

/**
 * Makes, rotates and revokes API keys, each in one transaction with the events that tell of it. Rows of keys are never
 * removed, and what a key may do never changes.
 */
export class KeyChanges {
	readonly #options: KeyChangesOptions;

	constructor(options: KeyChangesOptions) {
		this.#options = options;
	}

	/**
	 * @returns undefined if a key with the id of `spec.key` is there: then it is left as it is
	 * @throws AuditError permission_denied, not_found, unavailable
	 */
	async create(spec: KeySpec, clerk: KeyClerk): Promise<MadeKey | undefined> {
		const refusal = refusalOfGrant(clerk, spec) ?? refusalOfEnd(clerk.until, spec);
		if (refusal) throw refusal;
		if (spec.tenants !== "all") await this.#requireOpen(spec.tenants, clerk);
		const { key = newApiKey(), ...asked } = spec;
		const made = await this.#change<KeyInfo | undefined>(async (client, isSecondTry) => {
			const createdAt = await insertKey(client, hashSecret(this.#options.keys, key), {
				...asked,
				id: key.id,
				by: clerk.id,
			});
			if (createdAt === undefined) {
				const [found] = isSecondTry ? await lockKeys(client, key.id) : [];
				if (!found) return { result: undefined };
				return { result: found, notice: { what: "created", key: found, actor: clerk.actor }, isDone: true };
			}
			const info = { ...NEVER_USED, ...asked, id: key.id, identity: key.id, createdAt, createdBy: clerk.id };
			return { result: info, notice: { what: "created", key: info, actor: clerk.actor } };
		});
		if (made) return { key: made, secret: formatApiKey(key) };
		if (spec.key) return undefined;
		throw new Error("the id of a new key was taken");
	}

	/**
	 * Makes another key for the same identity; those that work now expire after `overlapMs`, unless they do so earlier.
	 *
	 * @throws AuditError not_found, permission_denied, failed_precondition, unavailable
	 */
	async rotate(
		id: string,
		{ overlapMs, expiresAt }: { overlapMs: number; expiresAt: Micros | undefined },
		clerk: KeyClerk,
	): Promise<RotatedKey> {
		const next = newApiKey();
		const now = microsOfDate(new Date());
		const until = (now + BigInt(overlapMs) * 1000n) as Micros;
		const rotated = await this.#change<Omit<RotatedKey, "secret">>(async (client) => {
			const all = await lockKeys(client, id);
			const old = findSeen(all, id, clerk);
			if (old instanceof AuditError) return { refusal: old };
			const others = all.filter((each) => each.id !== next.id && isWorking(each, now));
			const done = all.find((each) => each.id === next.id);
			if (done) {
				const notice = { what: "rotated", key: done, actor: clerk.actor } as const;
				return { result: { key: done, replaced: others }, notice, isDone: true };
			}
			const refusal =
				refusalOfEnd(clerk.until, { role: old.role, expiresAt }) ??
				refusalOfRotation(old, now, overlapMs > 0 ? others.length : 0);
			if (refusal) return { refusal };
			const hash = hashSecret(this.#options.keys, next);
			const createdAt = await insertNext(client, { of: id, id: next.id, hash, expiresAt, until, by: clerk.id });
			const key = {
				...NEVER_USED,
				...old,
				id: next.id,
				createdAt,
				createdBy: clerk.id,
				expiresAt,
				lastUsedAt: undefined,
			};
			const replaced = others.map((each) => ({ ...each, expiresAt: earlier(each.expiresAt, until) }));
			return { result: { key, replaced }, notice: { what: "rotated", key, actor: clerk.actor, replaced } };
		});
		return { ...rotated, secret: formatApiKey(next) };
	}

	/** @throws AuditError not_found, permission_denied, unavailable */
	revoke(id: string, reason: string, clerk: KeyClerk): Promise<{ key: KeyInfo; changed: boolean }> {
		return this.#change(async (client, isSecondTry) => {
			const key = findSeen(await lockKeys(client, id), id, clerk);
			if (key instanceof AuditError) return { refusal: key };
			if (key.revokedAt !== undefined) {
				const result = { key, changed: isSecondTry };
				return isSecondTry
					? { result, notice: { what: "revoked", key, actor: clerk.actor }, isDone: true }
					: { result };
			}
			const { rows } = await client.query<{ revoked_us: string }>(
				`SELECT ${microsSql("revoked")} AS revoked_us FROM audit.revoke_api_key($1) AS revoked`,
				[id],
			);
			const revoked = { ...key, revokedAt: microsOfColumn(rows[0]?.revoked_us ?? "") };
			const notice = { what: "revoked", key: revoked, actor: clerk.actor, reason } as const;
			return { result: { key: revoked, changed: true }, notice };
		});
	}

	async #requireOpen(ids: Iterable<TenantId>, { roles }: KeyClerk): Promise<void> {
		const { tenants } = this.#options;
		for (const id of ids) {
			if (!(await tenants.exists(id))) throw tenantNotFound();
			if (!roles.has("operator") && (await tenants.isDisabled(id))) throw tenantDisabled();
		}
	}

	/**
	 * One transaction. If the reply to its COMMIT is lost it is tried again, with the same ids: the second try waits for the
	 * end of the first, and finds what that did.
	 */
	async #change<T>(work: (client: PoolClient, isSecondTry: boolean) => Promise<Change<T>>): Promise<T> {
		const attempt = (isSecondTry: boolean) => {
			return this.#options.log.change(async (client) => {
				const change = await work(client, isSecondTry);
				const isNew = "notice" in change && change.notice && !change.isDone;
				const told: readonly Told[] = isNew ? keyNotices(change.notice) : [];
				return { result: change, told };
			});
		};
		const change = await attempt(false).catch((error: unknown) => {
			if (error instanceof AuditError && error.cause instanceof CommitUnknown) return attempt(true);
			throw error;
		});
		// Not thrown inside: that would cost the connection.
		if ("refusal" in change) throw change.refusal;
		if (change.notice) this.#log(change.notice);
		return change.result;
	}

	/** A key for every tenant is in no tenant's log: the operator learns of it here. */
	#log({ what, key, actor }: KeyNotice): void {
		if (key.tenants !== "all") return;
		this.#options.logger.info(
			{ change: what, key_id: key.id, role: key.role, by: actor.id },
			"key for every tenant changed",
		);
	}
}

const NEVER_USED = { lastUsedAt: undefined, revokedAt: undefined } as const;

/** The one answer for a key that does not exist and for one the caller may not see. */
export function keyNotFound(): AuditError {
	return new AuditError("not_found", "no such API key for you", { reason: "KEY_NOT_FOUND" });
}

function findSeen(keys: readonly KeyInfo[], id: string, clerk: KeyClerk): KeyInfo | AuditError {
	const key = keys.find((each) => each.id === id);
	if (!key || !seesAll(clerk, key.tenants)) return keyNotFound();
	return refusalOfGrant(clerk, key) ?? key;
}

function isWorking({ revokedAt, expiresAt }: KeyInfo, now: Micros): boolean {
	return revokedAt === undefined && (expiresAt === undefined || expiresAt >= now);
}

/** @param kept how many keys of the identity would go on working beside the new one */
function refusalOfRotation(key: KeyInfo, now: Micros, kept: number): AuditError | undefined {
	const refuse = (message: string, reason: string) => new AuditError("failed_precondition", message, { reason });
	if (key.revokedAt !== undefined) return refuse("the key was revoked: make a new one", "KEY_REVOKED");
	if (!isWorking(key, now)) return refuse("the key has expired: make a new one", "KEY_EXPIRED");
	if (kept < WORKING_KEYS) return undefined;
	const message = `${WORKING_KEYS} keys of this identity work: revoke some, or rotate without overlap`;
	return refuse(message, "TOO_MANY_KEYS");
}

function earlier(a: Micros | undefined, b: Micros): Micros {
	return a !== undefined && a < b ? a : b;
}

/** Stores a key. @returns when; undefined if its id is taken: then nothing is changed */
export async function insertKey(
	client: Pick<PoolClient, "query">,
	hash: Uint8Array,
	key: Omit<KeySpec, "key"> & { readonly id: string; readonly by: string },
): Promise<Micros | undefined> {
	const { rows } = await client.query<{ made_us: string | null }>(
		`SELECT ${microsSql("made")} AS made_us FROM audit.create_api_key($1, $2, $3, $4, $5, $6, $7, $8) AS made`,
		[
			key.id,
			hash,
			key.name,
			key.role,
			key.tenants === "all" ? null : [...key.tenants],
			[...key.maskedUnits],
			columnOf(key.expiresAt),
			key.by,
		],
	);
	const made = rows[0]?.made_us;
	return typeof made === "string" ? microsOfColumn(made) : undefined;
}

interface NextKey {
	readonly of: string;
	readonly id: string;
	readonly hash: Uint8Array;
	readonly expiresAt: Micros | undefined;
	/** When the old ones expire. */
	readonly until: Micros;
	readonly by: string;
}

async function insertNext(client: PoolClient, { of, id, hash, expiresAt, until, by }: NextKey): Promise<Micros> {
	const { rows } = await client.query<{ made_us: string | null }>(
		`SELECT ${microsSql("made")} AS made_us FROM audit.rotate_api_key($1, $2, $3, $4, $5, $6) AS made`,
		[of, id, hash, columnOf(expiresAt), rfc3339(until), by],
	);
	const made = rows[0]?.made_us;
	if (typeof made !== "string") throw new Error("the id of a new key was taken");
	return microsOfColumn(made);
}

/** The keys of the identity of a key, which nobody else can rotate or revoke until the transaction ends. */
async function lockKeys(client: PoolClient, id: string): Promise<KeyInfo[]> {
	const { rows } = await client.query<KeyRow>(`SELECT ${KEY_COLUMNS} FROM audit.lock_api_keys($1)`, [id]);
	return rows.map(keyOfRow);
}

function columnOf(time: Micros | undefined): string | null {
	return time === undefined ? null : rfc3339(time);
}
