import pg from "pg";
import { type DerivedKeys, deriveKeys, rolePassword } from "../auth/secret.ts";
import type { TenantId } from "../event/event.ts";
import { decodePayload, FIRST_CHAIN, manifestDigest, manifestMac, nextChain } from "../integrity/manifest.ts";
import { readInPieces } from "./cursor.ts";
import { VERIFIED_COLUMNS, type VerifiedRow } from "./stored-row.ts";
import { rowFaults } from "./verify-row.ts";
import { vocabularyFaults } from "./verify-vocabulary.ts";
import { wallFaults } from "./verify-wall.ts";

/** One thing that is not as it was written. */
export interface Problem {
	/** Undefined where the tenant cannot be told. */
	tenantId?: string;
	batchNo?: string;
	batchId?: string;
	/** The place in the batch. */
	ord?: number;
	/** Undefined for a row that is gone: a hash does not tell the id. */
	eventId?: string;
	message: string;
}

export interface Verification {
	/** Whether everything checked is as it was written. */
	ok: boolean;
	/** The first problems, at most `PROBLEMS_LISTED`. */
	problems: Problem[];
	problemCount: number;
	batches: number;
	events: number;
	tenants: number;
	/** What this run cannot show, in words for people. */
	notProven: string[];
}

export interface VerifyOptions {
	databaseUrl: string;
	secret: string;
	/** Called now and then with the number of events checked and their total. */
	onProgress?: (done: number, total: number) => void;
}

const PROBLEMS_LISTED = 1_000;
const NOT_PROVEN = [
	"Cutting off the newest batches together with their rows goes unseen until there are signed checkpoints, also after others were written in their place. Compare with the heads kept in the NATS stream AUDIT_CHAIN.",
	"Dead letters and their histories, API keys, tenants' names and the times of commits are not hashed. Whether readers are shown what is stored is not looked at.",
	"Whoever has the secret can write a trail that proves.",
];

/**
 * Checks the whole trail in one snapshot of the database: that the manifests are dense, chained and made by the holder
 * of the secret; that every row hashes to its leaf, under its own tenant; that every leaf has its row; that what
 * searches match is what was hashed. Throws if the database cannot be read: then nothing is proven or refuted.
 */
export async function verifyTrail(options: VerifyOptions): Promise<Verification> {
	const keys = deriveKeys(options.secret);
	const url = new URL(options.databaseUrl);
	url.username = "audit_verifier";
	url.password = rolePassword(keys, "audit_verifier");
	const client = new pg.Client({ connectionString: url.href, connectionTimeoutMillis: 10_000 });
	// A connection that breaks makes its query fail, and emits the error besides: unheard, that would end the process.
	client.on("error", () => {});
	await client.connect();
	try {
		await client.query("BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY");
		await client.query("SET LOCAL work_mem = '128MB'");
		const verifier = new Verifier(client, keys, options.onProgress ?? (() => {}));
		return await verifier.run();
	} finally {
		await client.end();
	}
}

interface ManifestRow {
	batch_no: string;
	batch_id: string;
	n: number;
	digest: Buffer;
	chain: Buffer;
	mac: Buffer;
	payload: Buffer;
}

/** What a manifest says of one place in its batch. */
interface Place {
	readonly tenantId: TenantId | undefined;
	readonly leaf: Uint8Array;
	/** Whether this is the first leaf of its tenant's log. */
	readonly first: boolean;
	taken: boolean;
}

class Verifier {
	readonly #client: pg.Client;
	readonly #keys: Pick<DerivedKeys, "manifests" | "contentMacs">;
	readonly #onProgress: (done: number, total: number) => void;
	readonly #result: Verification = {
		ok: true,
		problems: [],
		problemCount: 0,
		batches: 0,
		events: 0,
		tenants: 0,
		notProven: NOT_PROVEN,
	};
	readonly #tenants = new Map<bigint, TenantId>();
	/** In which batch each tenant's log begins, by slot. */
	readonly #beginnings = new Map<bigint, bigint>();

	constructor(
		client: pg.Client,
		keys: Pick<DerivedKeys, "manifests" | "contentMacs">,
		onProgress: (done: number, total: number) => void,
	) {
		this.#client = client;
		this.#keys = keys;
		this.#onProgress = onProgress;
	}

	async run(): Promise<Verification> {
		await this.#readTenants();
		await this.#checkChain();
		for (const [slot, tenantId] of this.#tenants) {
			if (!this.#beginnings.has(slot))
				this.#report({ tenantId, message: "the tenant has no log: it was put in afterwards" });
		}
		await this.#checkRows();
		for (const fault of await vocabularyFaults(this.#client)) this.#report(fault);
		for (const message of await wallFaults(this.#client)) this.#report({ message });
		this.#result.ok = this.#result.problemCount === 0;
		return this.#result;
	}

	#report(problem: Problem): void {
		this.#result.problemCount += 1;
		if (this.#result.problems.length < PROBLEMS_LISTED) this.#result.problems.push(problem);
	}

	async #readTenants(): Promise<void> {
		const { rows } = await this.#client.query<{ slot: string; id: TenantId }>(
			"SELECT slot, id FROM audit.tenants ORDER BY slot",
		);
		rows.forEach(({ slot, id }, i) => {
			this.#tenants.set(BigInt(slot), id);
			if (BigInt(slot) !== BigInt(i)) this.#report({ tenantId: id, message: "the tenant's number leaves a gap" });
		});
		this.#result.tenants = rows.length;
	}

	/** The manifests by number: dense, chained, authentic, and each says what its payload holds. */
	async #checkChain(): Promise<void> {
		let expected = 0n;
		let chain: Uint8Array = FIRST_CHAIN;
		for await (const manifest of readInPieces<ManifestRow>(
			this.#client,
			"SELECT batch_no, batch_id, n, digest, chain, mac, payload FROM audit.manifests ORDER BY batch_no",
		)) {
			const at = { batchNo: manifest.batch_no, batchId: manifest.batch_id };
			const number = BigInt(manifest.batch_no);
			if (number !== expected) {
				const last = number - 1n;
				this.#report({ ...at, message: `the manifests of batches ${expected} to ${last} before this one are gone` });
			}
			const digest = manifestDigest(BigInt(manifest.batch_id), manifest.payload);
			if (!manifest.digest.equals(digest))
				this.#report({ ...at, message: "the manifest's digest is not that of its payload" });
			if (!manifest.mac.equals(manifestMac(this.#keys.manifests, manifest.chain))) {
				this.#report({
					...at,
					message: "the manifest was not put here by the holder of the secret (its MAC is wrong)",
				});
			}
			const linked = nextChain(number, chain, manifest.digest);
			if (number === expected && !manifest.chain.equals(linked)) {
				this.#report({ ...at, message: "the manifest is not chained to the one before" });
			}
			const runs = decodePayload(manifest.payload);
			const leaves = runs?.reduce((sum, run) => sum + run.leafHashes.length, 0);
			if (leaves !== manifest.n || manifest.n === 0)
				this.#report({ ...at, message: "the manifest's payload does not hold its leaves" });
			for (const { slot } of runs ?? []) if (!this.#beginnings.has(slot)) this.#beginnings.set(slot, number);
			chain = manifest.chain;
			expected = number + 1n;
			this.#result.batches += 1;
		}
	}

	/** Rows against manifests, both in the order of batch ids: a merge in constant memory. */
	async #checkRows(): Promise<void> {
		const { rows } = await this.#client.query<{ n: string }>("SELECT count(*) AS n FROM audit.events");
		const total = Number(rows[0]?.n);
		const manifests = readInPieces<ManifestRow>(
			this.#client,
			"SELECT batch_no, batch_id, payload FROM audit.manifests ORDER BY batch_id",
		);
		const events = readInPieces<VerifiedRow>(
			this.#client,
			`SELECT ${VERIFIED_COLUMNS.join(", ")} FROM audit.events ORDER BY batch_id, ord`,
		);
		let row = await events.next();
		for await (const manifest of manifests) {
			for (; !row.done && BigInt(row.value.batch_id) < BigInt(manifest.batch_id); row = await events.next()) {
				this.#orphan(row.value);
			}
			const places = this.#placesOf(manifest);
			for (; !row.done && row.value.batch_id === manifest.batch_id; row = await events.next()) {
				this.#checkRow(row.value, manifest.batch_no, places[row.value.ord]);
				if (this.#result.events % 10_000 === 0) this.#onProgress(this.#result.events, total);
			}
			places.forEach(({ taken, tenantId }, ord) => {
				const at = { batchNo: manifest.batch_no, batchId: manifest.batch_id, ord };
				if (!taken) this.#report({ ...at, ...(tenantId ? { tenantId } : {}), message: "the event's row is gone" });
			});
		}
		for (; !row.done; row = await events.next()) this.#orphan(row.value);
		this.#onProgress(this.#result.events, total);
	}

	#placesOf(manifest: ManifestRow): Place[] {
		return (decodePayload(manifest.payload) ?? []).flatMap(({ slot, leafHashes }) =>
			leafHashes.map((leaf, i) => ({
				tenantId: this.#tenants.get(slot),
				leaf,
				first: i === 0 && this.#beginnings.get(slot) === BigInt(manifest.batch_no),
				taken: false,
			})),
		);
	}

	#orphan(row: VerifiedRow): void {
		this.#result.events += 1;
		const at = { tenantId: row.tenant_id, batchId: row.batch_id, ord: row.ord, eventId: row.id };
		this.#report({ ...at, message: "the event's batch has no manifest" });
	}

	#checkRow(row: VerifiedRow, batchNo: string, place: Place | undefined): void {
		this.#result.events += 1;
		const at = { tenantId: row.tenant_id, batchNo, batchId: row.batch_id, ord: row.ord, eventId: row.id };
		if (!place || place.taken) {
			this.#report({ ...at, message: "the manifest knows no such event: it was put in afterwards" });
			return;
		}
		place.taken = true;
		if (place.tenantId !== row.tenant_id) {
			this.#report({ ...at, message: `the event was written for tenant ${place.tenantId ?? "(unknown)"}` });
		}
		for (const message of rowFaults(row, place.leaf, this.#keys.contentMacs)) this.#report({ ...at, message });
		if (!place.first) return;
		if (row.kind !== 2 || row.action !== "audit.log.created") {
			this.#report({ ...at, message: "the tenant's log does not begin with audit.log.created" });
		} else if (row.resource_id !== row.tenant_id) {
			// Its hashed first event names the tenant the log was made for.
			this.#report({ ...at, message: `the log is that of another tenant: ${row.resource_id}` });
		}
	}
}
