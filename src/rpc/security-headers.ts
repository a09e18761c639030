import type { TLSSocket } from "node:tls";
import type { NodeRequest, NodeResponse } from "./call.ts";

/** On every response of both ports: nothing here is a page, and nothing of it is for a cache or for another site. */
export const SECURITY_HEADERS = {
	"cache-control": "no-store",
	"content-security-policy": "default-src 'none'; frame-ancestors 'none'",
	"cross-origin-resource-policy": "same-origin",
	"referrer-policy": "no-referrer",
	"x-content-type-options": "nosniff",
	// Answers differ by who asks from where, also those to requests that are refused for it.
	vary: "origin",
} as const;

/** Two years. Subdomains are their owner's affair. */
const HSTS = "max-age=63072000";

export function setSecurityHeaders(request: NodeRequest, response: NodeResponse): void {
	for (const [name, value] of Object.entries(SECURITY_HEADERS)) response.setHeader(name, value);
	if (isEncrypted(request)) response.setHeader("strict-transport-security", HSTS);
}

/** Whether the connection itself is: behind a proxy that ends TLS it is not, and the proxy's headers are its own. */
export function isEncrypted({ socket }: NodeRequest): boolean {
	return (socket as Partial<TLSSocket>).encrypted === true;
}
