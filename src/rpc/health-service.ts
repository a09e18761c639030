import { setTimeout as sleep } from "node:timers/promises";
import type { HandlerContext, ServiceImpl } from "@connectrpc/connect";
import { AuditError } from "../errors.ts";
import { type Health, HealthCheckResponse_ServingStatus as Status } from "../gen/grpc/health/v1/health_pb.ts";
import { callOf } from "./call.ts";
import { sourceOf } from "./connections.ts";
import { Quota } from "./quota.ts";
import type { Readiness } from "./route-health.ts";

export interface HealthServiceOptions {
	/** The same answer as `/readyz`. Asked often: it keeps its answer for a while. */
	readonly readiness: () => Promise<Readiness>;
	/** The full names of the services there are: they are well together or not at all. */
	readonly services: () => ReadonlySet<string>;
}

const POLL_MS = 1_000;
/** Watching needs no key, and each watcher keeps a stream: so many may, and so many of one address. */
const WATCHERS = 1_000;
const WATCHERS_PER_ADDRESS = 100;

/**
 * grpc.health.v1.Health: SERVING while writes can commit.
 *
 * Nobody watches → somebody does: readiness is asked for once a second, for all watchers together; each is told of every
 * change → the last one left: nobody asks any more. Closing, from anywhere: NOT_SERVING for good, the watchers are told
 * and their streams end.
 */
export class HealthService implements Pick<ServiceImpl<typeof Health>, "check" | "list" | "watch"> {
	readonly #options: HealthServiceOptions;
	/** What the watchers are to know; undefined while nobody has asked. */
	#ready: boolean | undefined;
	#changed = Promise.withResolvers<void>();
	readonly #watchers = new Quota(WATCHERS, WATCHERS_PER_ADDRESS);
	#polling = false;
	#closed = false;

	constructor(options: HealthServiceOptions) {
		this.#options = options;
	}

	/** @throws AuditError `not_found` */
	check = async ({ service }: { service: string }): Promise<{ status: Status }> => {
		if (!this.#knows(service)) {
			throw new AuditError("not_found", "there is no such service", { reason: "SERVICE_NOT_FOUND" });
		}
		return { status: statusOf(await this.#isReady()) };
	};

	list = async (): Promise<{ statuses: Record<string, { status: Status }> }> => {
		const status = statusOf(await this.#isReady());
		return { statuses: Object.fromEntries(["", ...this.#options.services()].map((name) => [name, { status }])) };
	};

	/** The status now and whenever it changes, until the caller leaves or the service ends. */
	watch = ({ service }: { service: string }, { signal, values }: HandlerContext): AsyncIterable<{ status: Status }> =>
		this.#watch(service, signal, sourceOf(callOf(values).address));

	/** NOT_SERVING from now on; ends the watchers' streams. */
	close(): void {
		this.#closed = true;
		this.#tell(false);
	}

	async *#watch(service: string, signal: AbortSignal, source: string): AsyncIterable<{ status: Status }> {
		if (!this.#watchers.take(source, 1)) {
			throw new AuditError("resource_exhausted", "too many callers watch; use Check", { reason: "TOO_MANY_WATCHERS" });
		}
		const left = new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
		if (!this.#polling) void this.#poll();
		try {
			for (let told: Status | undefined; !signal.aborted; ) {
				const changed = this.#changed.promise;
				const status = this.#statusFor(service);
				if (status !== undefined && status !== told) yield { status };
				told = status ?? told;
				if (this.#closed) return;
				// What changed while the caller took the last one is not waited for.
				if (changed === this.#changed.promise) await Promise.race([changed, left]);
			}
		} finally {
			this.#watchers.giveBack(source, 1);
		}
	}

	async #poll(): Promise<void> {
		this.#polling = true;
		while (this.#watchers.taken > 0 && !this.#closed) {
			this.#tell(await this.#isReady());
			await sleep(POLL_MS, undefined, { ref: false });
		}
		this.#polling = false;
		this.#ready = undefined;
	}

	#tell(ready: boolean): void {
		const isNews = ready !== this.#ready || this.#closed;
		this.#ready = this.#closed ? false : ready;
		if (!isNews) return;
		this.#changed.resolve();
		this.#changed = Promise.withResolvers();
	}

	async #isReady(): Promise<boolean> {
		return !this.#closed && (await this.#options.readiness()).ready && !this.#closed;
	}

	/** @returns undefined while it is not known yet */
	#statusFor(service: string): Status | undefined {
		if (this.#closed) return Status.NOT_SERVING;
		if (!this.#knows(service)) return Status.SERVICE_UNKNOWN;
		return this.#ready === undefined ? undefined : statusOf(this.#ready);
	}

	#knows(service: string): boolean {
		return service === "" || this.#options.services().has(service);
	}
}

function statusOf(ready: boolean): Status {
	return ready ? Status.SERVING : Status.NOT_SERVING;
}
