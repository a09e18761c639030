import { type Timestamp, timestampMs } from "@bufbuild/protobuf/wkt";
import type { AuditClient } from "../../client/index.ts";
import { type ExportResponse, Order } from "../../gen/audit/v1/audit_service_pb.ts";
import type { Terminal } from "../command-line.ts";
import { Progress } from "../progress.ts";
import type { Target, Watcher } from "./receive-export.ts";

/**
 * Says how far an export is, on a terminal. How many events there will be nobody knows; how much of the time between the first
 * of them and the last has been gone through, is known.
 */
export class ExportProgress implements Watcher {
	readonly #progress: Progress;
	readonly #target: Target;
	readonly #startedAt = performance.now();
	readonly #eventsBefore: bigint;
	#events: bigint;
	/** Milliseconds since 1970 of the first event that came, and of the one that will come last. */
	#first: number | undefined;
	#last: number | undefined;

	constructor(stderr: Terminal, client: AuditClient, target: Target) {
		this.#progress = new Progress(stderr);
		this.#target = target;
		this.#eventsBefore = target.events;
		this.#events = target.events;
		if (stderr.isTTY) void this.#findLast(client);
	}

	sees({ part }: ExportResponse): void {
		if (part.case !== "chunk") return;
		this.#events = part.value.events;
		const { reached } = part.value;
		if (reached) this.#first ??= timestampMs(reached);
		this.#show("exporting", reached);
	}

	waits(): void {
		this.#show("waiting for the service", undefined);
	}

	clear(): void {
		this.#progress.clear();
	}

	#show(what: string, reached: Timestamp | undefined): void {
		const share = this.#shareAt(reached);
		this.#progress.show(what, share ?? 0, share === undefined ? undefined : 1, () => {
			const seconds = (performance.now() - this.#startedAt) / 1000;
			const rate = Math.round(Number(this.#events - this.#eventsBefore) / seconds);
			const megabytes = (this.#target.bytes / 1e6).toFixed(1);
			return `${this.#events.toLocaleString("en")} events, ${rate.toLocaleString("en")}/s, ${megabytes} MB`;
		});
	}

	#shareAt(reached: Timestamp | undefined): number | undefined {
		if (!reached || this.#first === undefined || this.#last === undefined || this.#first === this.#last)
			return undefined;
		return Math.min(1, (timestampMs(reached) - this.#first) / (this.#last - this.#first));
	}

	/** The first event of the opposite order. Not to be had at once, or not at all: then there is no share. */
	async #findLast(client: AuditClient): Promise<void> {
		const { query } = this.#target.request;
		if (!query) return;
		const order = query.order === Order.OLDEST_FIRST ? Order.NEWEST_FIRST : Order.OLDEST_FIRST;
		const page = await client.query({ ...query, order, pageSize: 1 }).catch(() => undefined);
		const occurredAt = page?.events[0]?.occurredAt;
		if (occurredAt) this.#last = timestampMs(occurredAt);
	}
}
