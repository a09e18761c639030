import type { NatsConnection } from "nats";
import { canSyncFirst } from "./nats-features.ts";

/**
 * When the server writes to disk. `always`: before it acknowledges, so a PubAck survives a power cut. `periodic`:
 * every few minutes, so it does not. `unknown`: the server does not say.
 */
export type SyncMode = "always" | "periodic" | "unknown";

/**
 * Asks the server how it syncs. NATS tells a client nothing of it, so this works in three cases only: the server is too old
 * to have a choice, the account imports the system account's VARZ service, or the address of the server's monitoring port
 * is known. Never throws.
 */
export async function detectSync(nc: NatsConnection, monitorUrl: string | undefined): Promise<SyncMode> {
	if (!canSyncFirst(nc.info?.version)) return "periodic";
	const answers = [
		() => fromSystemAccount(nc),
		async () => (monitorUrl === undefined ? undefined : await fromMonitor(monitorUrl)),
	];
	for (const ask of answers) {
		const varz = await ask().catch(() => undefined);
		const config = varz?.jetstream?.config;
		if (config) return config.sync_always === true ? "always" : "periodic";
	}
	return "unknown";
}

/** The part of the server's VARZ that is read. */
interface Varz {
	readonly jetstream?: { readonly config?: { readonly sync_always?: boolean } };
}

/** A server without that import answers at once that nobody listens. */
async function fromSystemAccount(nc: NatsConnection): Promise<Varz | undefined> {
	const reply = await nc.request(`$SYS.REQ.SERVER.${nc.info?.server_id}.VARZ`, "", { timeout: 2_000 });
	return reply.json<{ data?: Varz }>().data;
}

async function fromMonitor(monitorUrl: string): Promise<Varz | undefined> {
	const reply = await fetch(new URL("/varz", monitorUrl), { signal: AbortSignal.timeout(2_000) });
	return reply.ok ? ((await reply.json()) as Varz) : undefined;
}
