import { cors } from "@connectrpc/connect";
import { AuditError } from "../errors.ts";
import type { NodeRequest, NodeResponse } from "./call.ts";
import { isEncrypted } from "./security-headers.ts";

/**
 * Which web pages may call: those of the origins the operator listed, and those the service itself may come to serve.
 * Browsers say where a page is from (`Origin`) and ask before they send anything unusual; other clients do neither and
 * are not concerned. No cookies, no `Access-Control-Allow-Credentials`: keys travel in headers.
 */
export class Origins {
	readonly #allowed: ReadonlySet<string>;

	/** @param allowed exact origins */
	constructor(allowed: readonly string[]) {
		this.#allowed = new Set(allowed);
	}

	/** Lets pages of an allowed origin read the answer, errors included. */
	share({ headers }: NodeRequest, response: NodeResponse): void {
		const { origin } = headers;
		if (origin === undefined || !this.#allowed.has(origin)) return;
		response.setHeader("access-control-allow-origin", origin);
		response.setHeader("access-control-expose-headers", EXPOSED);
	}

	/** @throws AuditError `permission_denied` for a page of another origin */
	require(request: NodeRequest, authority: string): void {
		const { origin } = request.headers;
		if (origin === undefined || this.#allowed.has(origin) || isOwn(origin, request, authority)) return;
		throw new AuditError("permission_denied", "pages of this origin may not call; see AUDIT_CORS_ORIGINS", {
			reason: "ORIGIN_NOT_ALLOWED",
		});
	}

	/** Answers a browser that asks whether it may send a request. @returns whether it was one */
	answerPreflight({ method, headers }: NodeRequest, response: NodeResponse): boolean {
		if (method !== "OPTIONS" || headers["access-control-request-method"] === undefined) return false;
		if (headers.origin === undefined || !this.#allowed.has(headers.origin)) return false;
		response.writeHead(204, {
			"access-control-allow-methods": METHODS,
			"access-control-allow-headers": ALLOWED,
			"access-control-max-age": String(REMEMBERED_SECONDS),
		});
		response.end();
		return true;
	}
}

/** What REST uses; Connect's are among them. */
const METHODS = "GET, HEAD, POST";
const ALLOWED = [
	...cors.allowedHeaders,
	"Authorization",
	"X-Api-Key",
	"X-Request-Id",
	"Traceparent",
	"Tracestate",
].join();
const EXPOSED = [...cors.exposedHeaders, "Retry-After", "WWW-Authenticate", "X-Request-Id"].join();
/** The most that browsers keep. */
const REMEMBERED_SECONDS = 7_200;

/** Whether a page is from where it calls. A proxy that ends TLS hides the scheme. */
function isOwn(origin: string, request: NodeRequest, authority: string): boolean {
	const { protocol, host } = URL.parse(origin) ?? {};
	if (protocol !== "https:" && (protocol !== "http:" || isEncrypted(request))) return false;
	return host === URL.parse(`${protocol}//${authority}`)?.host;
}
