import { createHash } from "node:crypto";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import type { Micros } from "../src/event/event.ts";
import { timestampOf } from "../src/event/time.ts";
import {
	ActorType,
	Category,
	type Event,
	EventSchema,
	Outcome,
	type ResourceRefSchema,
	Severity,
} from "../src/gen/audit/v1/event_pb.ts";

/**
 * The events that reading is measured with, by number: event 123 of a set is the same however often and in whatever order it
 * is made (its salts are not: they are random by design). 24 months, the last one the month of `until`, as many events in
 * each; 100 tenants, the first of which owns half; values with the skew of real ones; and in one closed month and in the
 * last one a few that are known to be rare.
 */
export interface EventSet {
	readonly events: number;
	/** The last event happened just before. Where it is now, the last month is the hot one. */
	readonly until: Date;
}

export const MONTHS = 24;
export const TENANTS = 100;
export const tenantName = (n: number) => `tenant-${String(n).padStart(3, "0")}`;
/** It has every second event. */
export const LARGEST = tenantName(0);

const PEOPLE = 10_000;
const RESOURCES = 10_000;
/** By what share of events, before all others. */
const SERVICES = ["api-gateway", "sync-worker", "billing-job", "importer", "backup-agent"] as const;
const SERVICE_SHARES = [0.1, 0.05, 0.02, 0.005, 0.002] as const;
export const SOURCES = { api: 0.5, dashboard: 0.3, cli: 0.1, slack: 0.06, mobile: 0.038, kiosk: 0.002 } as const;
const RESOURCE_TYPES = { document: 0.35, user: 0.25, file: 0.2, project: 0.1, invoice: 0.06, role: 0.03, report: 0.01 };
const DOMAINS: readonly [string, Category][] = [
	["user", Category.AUTH],
	["document", Category.DATA],
	["file", Category.DATA],
	["session", Category.AUTH],
	["project", Category.ACCESS],
	["invoice", Category.BILLING],
	["role", Category.ADMIN],
	["settings", Category.CONFIG],
	["report", Category.DATA],
	["integration", Category.CONFIG],
	["subscription", Category.BILLING],
	["policy", Category.SECURITY],
];
/** 60, the commonest first: 22 % of the events have the first one, 0.2 % the last. */
export const ACTIONS = ["viewed", "updated", "created", "shared", "deleted"].flatMap((verb) =>
	DOMAINS.map(([domain, category]) => ({ name: `${domain}.${verb}`, category })),
);
const ACTION_AT = cumulated(ACTIONS.map((_, n) => 1 / (n + 1)));

const FIRST_NAMES = "Jane Amélie José Zoë 花子 Олена Björn Łucja Ahmed Chidi Mary Ivan Noor Sven Aoife Priya".split(
	" ",
);
const LAST_NAMES = "Doe Müller García Nakamura Шевченко Óconnor Nguyễn Okafor Smith Rossi Kaya Lindqvist".split(" ");
const WORDS =
	`portal login successful report exported quarterly customer invoice approved permission granted removed after review by
	team lead role changed from editor to admin document shared with partner link expired retry upload finished archive
	restored settings updated email verified password reset two factor enabled session ended country région données facture
	Benutzer geändert Rechnung größer Zugriff gewährt usuario sesión contraseña пользователь вход отчёт 承認 請求書 更新 ログイン`.split(
		/\s+/,
	);
const AGENTS = [
	"Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0",
	"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.1 Safari/605.1.15",
	"sdk-go/2.14.0",
	"curl/8.11.0",
];

/** What a few events of the largest tenant have and no others. `name` is part of every value. */
export interface Rare {
	readonly name: "closed" | "hot";
	/** 17 events; so has the e-mail address. 4 others are on its behalf. */
	readonly actor: string;
	readonly email: string;
	/** 12 events: 8 primary, 4 related. So has the type. */
	readonly resource: string;
	readonly resourceType: string;
	/** The action of those 12, */
	readonly action: string;
	/** the source of those 17, */
	readonly source: string;
	/** a word in the descriptions of those 12. */
	readonly word: string;
	/** One event each. */
	readonly requestId: string;
	readonly traceId: string;
	/** Of the month: from inclusive, to exclusive. */
	readonly from: Micros;
	readonly to: Micros;
	/** Of that one event. */
	readonly id: string;
}

const PLANTED = 30;
/** The month before the last one by so many is the closed one rare values are in. */
const CLOSED_BEFORE_LAST = 7;

interface Planted {
	readonly rare: Omit<Rare, "id">;
	/** 0 to 16: of the actor; 17 to 28: of the resource; 29: of the request. */
	readonly place: number;
}

export class Events {
	readonly set: EventSet;
	/** The first microsecond of each month, and where the last one ends. */
	readonly #months: readonly number[];
	readonly #planted = new Map<number, Planted>();
	readonly rares: { readonly closed: Rare; readonly hot: Rare };

	constructor(set: EventSet) {
		if (set.events < MONTHS * PLANTED) throw new Error(`a set has at least ${MONTHS * PLANTED} events`);
		this.set = set;
		const { until } = set;
		const month = (n: number) => Date.UTC(until.getUTCFullYear(), until.getUTCMonth() + 1 - MONTHS + n, 1) * 1000;
		this.#months = [...Array.from({ length: MONTHS }, (_, n) => month(n)), until.getTime() * 1000];
		this.rares = {
			closed: this.#plant("closed", MONTHS - 1 - CLOSED_BEFORE_LAST),
			hot: this.#plant("hot", MONTHS - 1),
		};
	}

	/** The numbers of a month's events: from inclusive, to exclusive. */
	ofMonth(n: number): { from: number; to: number } {
		const share = this.set.events / MONTHS;
		return { from: Math.round(n * share), to: Math.round((n + 1) * share) };
	}

	#plant(name: Rare["name"], month: number): Rare {
		const { from, to } = this.ofMonth(month);
		const [starts = 0, ends = 0] = this.#months.slice(month);
		const rare = {
			name,
			actor: `rare-actor-${name}`,
			email: `rare-actor-${name}@example.com`,
			resource: `rare-vault-${name}`,
			resourceType: `vault-${name}`,
			action: `vault.opened-${name}`,
			source: `terminal-${name}`,
			word: `zyzzyva${name}`,
			requestId: `rare-request-${name}`,
			traceId: `rare-trace-${name}`,
			from: BigInt(starts) as Micros,
			to: BigInt(ends) as Micros,
		};
		let id = "";
		for (let n = 0; n < PLANTED; n += 1) {
			const number = from + Math.floor(((n + 0.5) * (to - from)) / PLANTED);
			const place = (n * 7) % PLANTED;
			this.#planted.set(number, { rare, place });
			if (place === PLANTED - 1) id = this.at(number).event.id;
		}
		return { ...rare, id };
	}

	/** @returns the event as its writer states it, and when the service admitted it */
	at(number: number): { event: Event; recordedAt: Micros } {
		const random = randomFrom(number);
		const planted = this.#planted.get(number);
		const tenant = planted || number % 2 === 0 ? 0 : 1 + Math.floor(random() * (TENANTS - 1));
		const occurredAt = BigInt(this.#timeOf(number, random())) as Micros;
		const init = ordinary(tenant, number, random);
		const event = create(EventSchema, {
			...init,
			...(planted && rarity(planted, init)),
			tenantId: tenantName(tenant),
			id: timedId(occurredAt, number),
			occurredAt: timestampOf(occurredAt),
		});
		return { event, recordedAt: (occurredAt + BigInt(5_000 + Math.floor(random() * 50_000))) as Micros };
	}

	/** An event like one of those, but new: it happens when it is written. None has a rare value. */
	newAt(number: number): Event {
		const like = number % this.set.events;
		const { event } = this.at(this.#planted.has(like) ? like + 1 : like);
		const { occurredAt: _, ...rest } = event;
		return { ...rest, id: "" };
	}

	/** Microseconds, ascending with the number. */
	#timeOf(number: number, part: number): number {
		const month = Math.min(MONTHS - 1, Math.floor(((number + 0.5) / this.set.events) * MONTHS));
		const { from, to } = this.ofMonth(month);
		const [starts = 0, ends = 0] = this.#months.slice(month);
		return Math.floor(starts + ((number - from + part) * (ends - starts)) / (to - from));
	}
}

type Init = Exclude<MessageInitShape<typeof EventSchema>, Event>;
type Random = () => number;

function ordinary(tenant: number, number: number, random: Random): Init {
	const { name, category } = ACTIONS[ACTION_AT(random())] ?? { name: "user.viewed", category: Category.AUTH };
	const chance = (share: number) => random() < share;
	return {
		action: name,
		category,
		severity: severityBy(random()),
		outcome: chance(1 / 500) ? Outcome.DENIED : chance(0.02) ? Outcome.FAILURE : Outcome.SUCCESS,
		actor: actorOf(tenant, random),
		...(chance(1 / 20) && { onBehalfOf: [personOf(tenant, random)] }),
		...(!chance(1 / 20) && { primaryResource: resourceOf(tenant, random) }),
		...(chance(1 / 10) && { relatedResources: relatedOf(tenant, random) }),
		source: pick(SOURCES, random()),
		description: sentence(random),
		metadata: { ip: addressOf(random), plan: chance(0.5) ? "team" : "business", attempt: 1 + Math.floor(random() * 3) },
		...(!chance(1 / 10) && {
			context: {
				ipAddress: addressOf(random),
				userAgent: AGENTS[Math.floor(random() * AGENTS.length)] ?? "",
				requestId: uuidOf(`request ${number}`),
				...(chance(0.5) && { traceId: uuidOf(`trace ${number >> 2}`).replaceAll("-", "") }),
			},
		}),
		...(chance(1 / 4) && {
			changes: {
				oldValue: { role: "editor", active: true },
				newValue: { role: "admin", active: true },
				changedFields: ["role"],
			},
		}),
		...(chance(1 / 30) && { reason: `ticket OPS-${Math.floor(random() * 100_000)}` }),
	};
}

function rarity({ rare, place }: Planted, init: Init): Init {
	if (place < 17) {
		const actor = { type: ActorType.USER, id: rare.actor, displayName: "Rare Actor", email: rare.email };
		return { actor, source: rare.source };
	}
	if (place === PLANTED - 1) return { context: { requestId: rare.requestId, traceId: rare.traceId } };
	const resource = { type: rare.resourceType, id: rare.resource, displayName: "Rare Vault" };
	return {
		action: rare.action,
		description: `${init.description} ${rare.word}`,
		...(place < 25 ? { primaryResource: resource } : { relatedResources: [resource] }),
		...(place < 21 && { onBehalfOf: [{ type: ActorType.USER, id: rare.actor }] }),
	};
}

function severityBy(part: number): Severity {
	if (part < 1 / 1000) return Severity.CRITICAL;
	if (part < 0.01) return Severity.ERROR;
	if (part < 0.03) return Severity.WARNING;
	return part < 0.1 ? Severity.NOTICE : Severity.INFO;
}

function actorOf(tenant: number, random: Random): Init["actor"] {
	let part = random();
	for (const [n, id] of SERVICES.entries()) {
		part -= SERVICE_SHARES[n] ?? 0;
		if (part < 0) return { type: ActorType.SERVICE, id: `svc-${id}`, displayName: id };
	}
	return personOf(tenant, random);
}

/** Few are busy, most are seldom seen. */
function personOf(tenant: number, random: Random) {
	const n = Math.floor(PEOPLE * random() ** 2);
	const [first, last] = [FIRST_NAMES[n % FIRST_NAMES.length], LAST_NAMES[n % LAST_NAMES.length]];
	const id = `user-${tenant * PEOPLE + n}`;
	return {
		type: ActorType.USER,
		id,
		displayName: `${first} ${last}`,
		...(n % 3 !== 0 && { email: `${id}@tenant-${tenant}.example` }),
	};
}

function resourceOf(tenant: number, random: Random): MessageInitShape<typeof ResourceRefSchema> {
	const type = pick(RESOURCE_TYPES, random());
	const n = Math.floor(RESOURCES * random() ** 2);
	return { type, id: `${type}-${tenant * RESOURCES + n}`, displayName: `${type} number ${n}` };
}

function relatedOf(tenant: number, random: Random) {
	return Array.from({ length: 1 + Math.floor(random() * 3) }, () => ({
		...resourceOf(tenant, random),
		role: "parent",
	}));
}

function sentence(random: Random): string {
	const count = 4 + Math.floor(random() * 9);
	return Array.from({ length: count }, () => WORDS[Math.floor(random() * WORDS.length)]).join(" ");
}

function addressOf(random: Random): string {
	return `192.0.${Math.floor(random() * 256)}.${Math.floor(random() * 256)}`;
}

function pick<Name extends string>(shares: Record<Name, number>, part: number): Name {
	const names = Object.keys(shares) as Name[];
	let left = part;
	for (const name of names) {
		left -= shares[name];
		if (left < 0) return name;
	}
	return names[0] as Name;
}

/** @returns what finds the place whose weight a number from 0 to 1 falls in */
function cumulated(weights: readonly number[]): (part: number) => number {
	const all = weights.reduce((sum, weight) => sum + weight, 0);
	let sum = 0;
	const ends = weights.map((weight) => (sum += weight) / all);
	return (part) => {
		const at = ends.findIndex((end) => part < end);
		return at === -1 ? 0 : at;
	};
}

/** A UUIDv7 of the event's millisecond, as the service makes one. */
function timedId(occurredAt: Micros, number: number): string {
	const millis = (occurredAt / 1000n).toString(16).padStart(12, "0");
	return `${millis.slice(0, 8)}-${millis.slice(8)}-7${uuidOf(`id ${number}`).slice(15)}`;
}

function uuidOf(name: string): string {
	const hex = createHash("md5").update(name).digest("hex");
	return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-4${hex.slice(13, 16)}-a${hex.slice(17, 20)}-${hex.slice(20)}`;
}

/** mulberry32: each number begins a sequence of its own. */
function randomFrom(number: number): Random {
	let state = Math.imul(number + 1, 0x9e3779b1);
	return () => {
		state = (state + 0x6d2b79f5) | 0;
		let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
		mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
		return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
	};
}
