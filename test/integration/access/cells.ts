import { expect } from "vitest";
import { PERMISSIONS } from "../../../src/auth/permissions.ts";
import type { Role } from "../../../src/auth/principal.ts";
import { type Holdings, PROBES, type Probe, restRequests } from "./probes.ts";
import { type Answer, type Door, sendHttp } from "./send.ts";
import type { Caller, World } from "./world.ts";

/** One caller asks one thing at one door: for what a tenant has, and for the same of a tenant that does not exist. */
export interface Cell {
	readonly name: string;
	readonly probe: Probe;
	readonly caller: Caller;
	readonly expected: "stranger" | "narrow" | "foreign" | "right";
	ask(of: Holdings): Promise<Answer>;
}

/** Every distinct cell. */
export function everyCell(world: World, doors: readonly Door[]): Cell[] {
	return PROBES.flatMap((probe) =>
		// What the closing tenant's own callers are shown changes while it is closed and opened: they ask for that alone.
		world.callers
			.filter(({ is }) => is?.tenant !== "closing" || probe.of === "closing")
			.flatMap((caller) => cellsOf(world, doors, probe, caller)),
	);
}

function cellsOf({ service }: World, doors: readonly Door[], probe: Probe, caller: Caller): Cell[] {
	const common = { probe, caller, expected: expectedOf(probe, caller) };
	const asked = (of: Holdings) => probe.request(of, caller.name);
	const rpcs = doors.map((door) => ({
		...common,
		name: `${probe.rpc} over ${door.name} by ${caller.name}`,
		ask: (of: Holdings) => door.send({ rpc: probe.rpc, body: asked(of), credential: caller.headers }),
	}));
	const routes = restRequests(probe, asked(counterpart)).map(({ method }, i) => ({
		...common,
		name: `${method} ${probe.localName} over REST by ${caller.name}`,
		ask: (of: Holdings) => {
			const { path, ...init } = restRequests(probe, asked(of))[i] as ReturnType<typeof restRequests>[number];
			const headers = { "content-type": "application/json", ...caller.headers };
			return sendHttp(`${service.httpUrl}${path}`, { method: init.method, body: init.body ?? null, headers });
		},
	}));
	return [...rpcs, ...routes];
}

const counterpart: Holdings = {
	tenantId: "",
	eventId: "",
	letterId: "",
	discardedLetterId: "",
	keyId: "",
	revokedKeyId: "",
	canary: "",
};

function expectedOf(probe: Probe, { is }: Caller): Cell["expected"] {
	if (!is) return "stranger";
	const allowed: readonly Role[] = PERMISSIONS[probe.localName];
	if (!allowed.includes(is.role)) return "narrow";
	return is.tenant === probe.of ? "right" : "foreign";
}

/** Asks, and requires what the caller may expect: no more than one that asks for what nobody has. */
export async function checkCell(cell: Cell, { holdings }: World): Promise<void> {
	const { probe, expected, name } = cell;
	const of = holdings[probe.of];
	const answer = await cell.ask(of);
	if (expected === "right") {
		expect(answer.code, `${name}: ${answer.text}`).toBe("ok");
		if (probe.shows !== "nothing" && !isMasked(cell)) expect(answer.text, name).toContain(of[probe.shows]);
		return;
	}
	if (expected === "stranger") expect(answer.code, name).toBe("unauthenticated");
	if (expected === "narrow") expect(answer.code, name).toBe("permission_denied");
	const asked = JSON.stringify(probe.request(of, cell.caller.name));
	for (const secret of [of.canary, of.eventId, of.letterId, of.discardedLetterId, of.keyId, of.revokedKeyId]) {
		if (!asked.includes(secret)) expect(answer.text, name).not.toContain(secret);
	}
	const forNobody = await cell.ask(holdings.nobody);
	expect(answer.text, name).toBe(forNobody.text);
}

/** An auditor is shown the event, with what the canary stands in masked. */
function isMasked({ caller, probe }: Cell): boolean {
	return caller.is?.role === "auditor" && probe.rpc.startsWith("audit.v1.AuditService/");
}

/** Several at once, on the connections they all share, so that answers could get mixed up. */
export async function inTurns<T>(items: readonly T[], work: (item: T) => Promise<void>): Promise<void> {
	const left = [...items];
	const worker = async () => {
		for (let item = left.shift(); item !== undefined; item = left.shift()) await work(item);
	};
	await Promise.all(Array.from({ length: 8 }, worker));
}
