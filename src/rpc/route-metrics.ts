import type { Telemetry } from "../telemetry.ts";
import type { Route } from "./call.ts";
import { sendJson } from "./rest-response.ts";
import { SECURITY_HEADERS } from "./security-headers.ts";

/** `/metrics`: for Prometheus, without a key. Nothing in it tells of any tenant. */
export function routeMetrics(telemetry: Telemetry): Route {
	return (request, response, call) => {
		const path = request.url?.split("?", 1)[0];
		if (path !== "/metrics") return undefined;
		call.name = path;
		if (request.method !== "GET" && request.method !== "HEAD") {
			return sendJson(request, response, 405, {}, { allow: "GET, HEAD" });
		}
		const openMetrics = /application\/openmetrics-text(?!\s*;[^,]*q=0(\.0*)?\s*(,|$))/i.test(
			request.headers.accept ?? "",
		);
		return telemetry.render(openMetrics ? "openmetrics" : "prometheus").then(({ contentType, text }) => {
			const body = Buffer.from(text);
			response.writeHead(200, {
				"content-type": contentType,
				"content-length": body.byteLength,
				vary: `${SECURITY_HEADERS.vary}, accept`,
			});
			if (request.method === "HEAD") response.end();
			else response.end(body);
		});
	};
}
