// What a web page does: Connect over fetch, with any bundler. Runs in Node as well.
// Prints: \d+ events on the first page
import { createClient } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-web";
import { AuditService } from "auditlog/client";

const transport = createConnectTransport({
	baseUrl: process.env["AUDIT_URL"]!,
	interceptors: [
		(next) => (request) => {
			// A reader key of one tenant at most: whoever has the page has the key.
			request.header.set("authorization", `Bearer ${process.env["AUDIT_KEY"]}`);
			return next(request);
		},
	],
});
const audit = createClient(AuditService, transport);
const { events } = await audit.query({ tenantId: "examples", pageSize: 20 });
console.log(`${events.length} events on the first page`);
