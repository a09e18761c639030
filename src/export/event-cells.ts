import type { MaskableUnit } from "../auth/principal.ts";
import { UNIT_PATHS, type UnitPath } from "../event/event.ts";
import { SALT_BYTES } from "../integrity/entry.ts";
import type { ExportedRow } from "../storage/exported-row.ts";

interface Facts {
	readonly category?: string | number;
	readonly outcome?: string | number;
	readonly severity?: string | number;
	readonly recorded_by?: { readonly door?: string; readonly key_id?: string };
	readonly retention_class?: string;
	readonly schema_version?: number;
	readonly source?: string;
}
interface Actor {
	readonly display_name?: string;
	readonly email?: string;
	readonly id?: string;
	readonly type?: string | number;
}
interface Resource {
	readonly display_name?: string;
	readonly id?: string;
	readonly role?: string;
	readonly type?: string;
}
interface ActorUnit {
	readonly actor?: Actor;
	readonly on_behalf_of?: readonly Actor[];
}
interface ResourcesUnit {
	readonly primary_resource?: Resource;
	readonly related_resources?: readonly Resource[];
}
type Texts<Name extends string> = { readonly [name in Name]?: string };
type ContextUnit = Texts<"ip_address" | "location" | "request_id" | "session_id" | "trace_id" | "user_agent">;
type ReasonUnit = Texts<"outcome_reason" | "reason">;

/**
 * What columns take their cells from: one event after the other, each read from the very text that was hashed. A unit is parsed
 * when the first column wants it; one that is masked is as if the event did not have it.
 */
export class EventCells {
	readonly #masked: ReadonlySet<MaskableUnit>;
	row!: ExportedRow;
	#facts: Facts | undefined;
	#actor: ActorUnit | undefined;
	#context: ContextUnit | undefined;
	#reason: ReasonUnit | undefined;
	#resources: ResourcesUnit | undefined;

	constructor(masked: ReadonlySet<MaskableUnit>) {
		this.#masked = masked;
	}

	/** Goes on to the next event. */
	take(row: ExportedRow): void {
		this.row = row;
		this.#facts = undefined;
		this.#actor = undefined;
		this.#context = undefined;
		this.#reason = undefined;
		this.#resources = undefined;
	}

	get facts(): Facts {
		return (this.#facts ??= parsed(this.row.u_facts));
	}

	get actor(): Actor {
		return this.#actorUnit.actor ?? NOTHING;
	}

	/** Of such objects JSON.stringify makes the text that was hashed: their names are ours, and in order. */
	get onBehalfOf(): string | undefined {
		const { on_behalf_of: list } = this.#actorUnit;
		return list && JSON.stringify(list);
	}

	get context(): ContextUnit {
		return (this.#context ??= parsed(this.row.u_context));
	}

	get reason(): ReasonUnit {
		return (this.#reason ??= parsed(this.row.u_reason));
	}

	get resource(): Resource {
		return this.#resourcesUnit.primary_resource ?? NOTHING;
	}

	get relatedResources(): string | undefined {
		const { related_resources: list } = this.#resourcesUnit;
		return list && JSON.stringify(list);
	}

	get description(): string | undefined {
		const text = this.row.u_description;
		return text === null ? undefined : (JSON.parse(text) as string);
	}

	get salts(): string {
		const salts: Record<string, string> = {};
		this.#eachUnit((path, commitment, at) => {
			if (commitment === undefined)
				salts[path] = this.row.salts_hex.slice(at * SALT_BYTES * 2, (at + 1) * SALT_BYTES * 2);
		});
		return JSON.stringify(salts);
	}

	get maskedUnits(): string | undefined {
		if (this.#masked.size === 0) return undefined;
		const units: Record<string, string> = {};
		this.#eachUnit((path, commitment) => {
			if (commitment !== undefined) units[path] = commitment;
		});
		return Object.keys(units).length === 0 ? undefined : JSON.stringify(units);
	}

	/** @param see told of each unit that the event has: the commitment if it is masked, and the place of its salt */
	#eachUnit(see: (path: UnitPath, commitment: string | undefined, at: number) => void): void {
		let at = 0;
		for (const path of UNIT_PATHS) {
			const isMasked = path !== "facts" && this.#masked.has(path);
			const text = isMasked ? this.row[`c_${path}`] : this.row[`u_${path}`];
			if (text === undefined) throw new Error(`the row was selected as if ${path} were not masked`);
			if (text === null) continue;
			see(path, isMasked ? text : undefined, at);
			at += 1;
		}
	}

	get #actorUnit(): ActorUnit {
		return (this.#actor ??= parsed(this.row.u_actor));
	}

	get #resourcesUnit(): ResourcesUnit {
		return (this.#resources ??= parsed(this.row.u_resources));
	}
}

const NOTHING = {};

function parsed<T extends object>(text: string | null): T {
	return (text === null ? NOTHING : JSON.parse(text)) as T;
}
