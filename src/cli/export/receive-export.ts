import { type AuditClient, toAuditError } from "../../client/index.ts";
import { AuditError } from "../../errors.ts";
import type { ExportManifest, ExportRequest, ExportResponse } from "../../gen/audit/v1/audit_service_pb.ts";

/** Where an export is written to. */
export interface Target {
	/** What is exported. */
	readonly request: ExportRequest;
	/** The bytes it has, and the events in those that are sure. */
	readonly bytes: number;
	readonly events: bigint;
	/** Goes on from here; empty: at the beginning. */
	readonly resumeToken: string;
	/**
	 * Goes back to where it can be gone on from: to the last mark, or to the beginning if there is none.
	 *
	 * @throws CommandError if somebody has had the bytes since
	 */
	goBack(): Promise<void>;
	/** Adds bytes, and waits for whoever is slow. */
	write(bytes: Uint8Array): Promise<void>;
	/** What is there now, with so many events, can be gone on from. */
	mark(resumeToken: string, events: bigint): Promise<void>;
	/** All of it is there, with so many events. @throws CommandError if it is not what the manifest says */
	finish(manifest: ExportManifest, events: bigint): Promise<void>;
	/** No more comes: what is there is kept to be gone on with, where that can be. */
	keep(): Promise<void>;
	/** For a person: what to do once it broke off; undefined if nothing came before. */
	howToGoOn(): string | undefined;
}

/** Told of all that comes. */
export interface Watcher {
	sees(response: ExportResponse): void;
	/** The connection broke, or was refused: it will be tried again. */
	waits(): void;
}

/** Tries in a row that bring nothing: as other commands before the first byte; then a service may take its time to start. */
const TRIES = { before: 6, after: 12 } as const;
const FIRST_DELAY_MS = 100;
const LONGEST_DELAY_MS = 5_000;

/**
 * Receives a whole export, checks it, and goes on by itself where it breaks off because the service is away or full.
 *
 * @throws AuditError what the service refuses, or what keeps it from being reached; whatever the target throws
 */
export async function receiveExport(
	client: AuditClient,
	target: Target,
	watcher: Watcher,
	signal: AbortSignal,
): Promise<ExportManifest> {
	for (let [tries, hasBegun] = [0, false]; ; ) {
		// What came after the last token comes again, and not always with the same bytes.
		await target.goBack();
		const before = target.bytes;
		const received = await receiveOnce(client, target, watcher, signal);
		if (!(received instanceof AuditError)) return received;
		if (target.bytes > before) [tries, hasBegun] = [0, true];
		tries += 1;
		const delayMs = tries < TRIES[hasBegun ? "after" : "before"] ? delayBefore(tries, received) : undefined;
		if (delayMs === undefined || signal.aborted) throw received;
		watcher.waits();
		await wait(delayMs, signal);
	}
}

/** @returns the manifest, or what the call failed by; what the target throws is thrown */
async function receiveOnce(
	client: AuditClient,
	target: Target,
	watcher: Watcher,
	signal: AbortSignal,
): Promise<ExportManifest | AuditError> {
	const request = { ...target.request, resumeToken: target.resumeToken };
	// As long as it takes: a connection that died without a word is noticed by the client's pings.
	const over = new AbortController();
	const options = { signal: AbortSignal.any([signal, over.signal]), timeoutMs: 0 };
	const responses = client.export(request, options)[Symbol.asyncIterator]();
	let { events } = target;
	try {
		for (;;) {
			const next = await responses.next().catch(toAuditError);
			if (next instanceof AuditError) return next;
			if (next.done) return brokeOff("the export ended without its manifest");
			const { part } = next.value;
			if (part.case === "start") {
				if (Number(part.value.offset) !== target.bytes) return brokeOff("the service goes on elsewhere", "internal");
				if (part.value.resumeToken !== "") await target.mark(part.value.resumeToken, events);
			} else if (part.case === "chunk") {
				await target.write(part.value.data);
				events = part.value.events;
				if (part.value.resumeToken !== "") await target.mark(part.value.resumeToken, events);
			} else if (part.case === "manifest") {
				await target.finish(part.value, events);
				return part.value;
			}
			watcher.sees(next.value);
		}
	} finally {
		over.abort();
	}
}

function brokeOff(message: string, code: "unavailable" | "internal" = "unavailable"): AuditError {
	return new AuditError(code, message, { reason: "EXPORT_BROKE_OFF" });
}

/** How long to wait before the next try; undefined if there should be none. */
function delayBefore(tries: number, { code, retryAfterMs }: AuditError): number | undefined {
	if (code !== "unavailable" && !(code === "resource_exhausted" && retryAfterMs !== undefined)) return undefined;
	return Math.max(Math.min(FIRST_DELAY_MS * 2 ** (tries - 1), LONGEST_DELAY_MS), retryAfterMs ?? 0);
}

/** Until it is time, or the signal comes. */
function wait(delayMs: number, signal: AbortSignal): Promise<void> {
	return new Promise((resolve) => {
		const timer = setTimeout(done, delayMs);
		function done() {
			clearTimeout(timer);
			signal.removeEventListener("abort", done);
			resolve();
		}
		if (signal.aborted) done();
		else signal.addEventListener("abort", done, { once: true });
	});
}
