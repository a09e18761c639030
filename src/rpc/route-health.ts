import { AuditError } from "../errors.ts";
import type { Route } from "./call.ts";
import { within } from "./deadline.ts";
import { sendJson } from "./rest-response.ts";

/** Whether writes can commit, and what else is not as it should be. */
export interface Readiness {
	readonly ready: boolean;
	/** Each a short text such as `nats: away`. */
	readonly degraded: readonly string[];
}

/** Probes come every few seconds and must get an answer before they give up. */
const READINESS_MS = 5_000;
const KEPT_MS = 1_000;

/** `/livez`: this process answers. `/readyz`: send it work. Neither needs a key. */
export function routeHealth(readiness: () => Promise<Readiness>): Route {
	return (request, response, call) => {
		const path = request.url?.split("?", 1)[0];
		if (path !== "/livez" && path !== "/readyz") return undefined;
		call.name = path;
		if (request.method !== "GET" && request.method !== "HEAD") {
			return sendJson(request, response, 405, {}, { allow: "GET, HEAD" });
		}
		if (path === "/livez") return sendJson(request, response, 200, { live: true });
		return readiness().then(({ ready, degraded }) =>
			sendJson(request, response, ready ? 200 : 503, { ready, degraded: [...degraded] }),
		);
	};
}

/**
 * Whoever asks while a check is under way, or within a second after it, gets its result: asking needs no key, and a check
 * takes a connection to the database.
 */
export function shareCheck(check: () => Promise<Readiness>): () => Promise<Readiness> {
	let shared: Promise<Readiness> | undefined;
	const forget = () => {
		shared = undefined;
	};
	return () => {
		if (!shared) {
			shared = checkInTime(check);
			void shared.then(() => setTimeout(forget, KEPT_MS).unref());
		}
		return shared;
	};
}

/** A check that fails or hangs is an answer too. */
async function checkInTime(check: () => Promise<Readiness>): Promise<Readiness> {
	try {
		return await within(READINESS_MS, check());
	} catch (error) {
		const why =
			error instanceof AuditError && error.code === "deadline_exceeded" ? "not known in time" : "cannot be checked";
		return { ready: false, degraded: [`readiness: ${why}`] };
	}
}
