// Reads everything a search finds, page by page, in constant memory.
// Prints: \d+ events
import { createAuditClient, Order } from "auditlog/client";

const audit = createAuditClient({ url: process.env["AUDIT_URL"]!, key: process.env["AUDIT_KEY"]! });

let count = 0;
let pageToken = "";
do {
	const page = await audit.query({ tenantId: "examples", order: Order.OLDEST_FIRST, pageSize: 500, pageToken });
	count += page.events.length;
	// A page with fewer events than asked for is not the last: an empty token is.
	pageToken = page.nextPageToken;
} while (pageToken !== "");
console.log(`${count} events`);
