import type { Route } from "./call.ts";
import { sendJson } from "./rest-response.ts";

/** Whether writes can commit, and what else is not as it should be. */
export interface Readiness {
	readonly ready: boolean;
	/** Each a short text such as `nats: away`. */
	readonly degraded: readonly string[];
}

/** Probes come every few seconds and must get an answer before they give up. */
const READINESS_MS = 5_000;

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
		return bounded(readiness()).then(({ ready, degraded }) =>
			sendJson(request, response, ready ? 200 : 503, { ready, degraded: [...degraded] }),
		);
	};
}

/** A check that fails or hangs is an answer too. */
async function bounded(check: Promise<Readiness>): Promise<Readiness> {
	let timer: NodeJS.Timeout | undefined;
	const late = new Promise<Readiness>((resolve) => {
		timer = setTimeout(() => resolve({ ready: false, degraded: ["readiness: not known in time"] }), READINESS_MS);
	});
	try {
		return await Promise.race([check, late]);
	} catch {
		return { ready: false, degraded: ["readiness: cannot be checked"] };
	} finally {
		clearTimeout(timer);
	}
}
