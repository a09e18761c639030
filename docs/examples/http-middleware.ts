// A web service that answers only when what it did is on record.
// Prints: 204\n.*profile\.updated from 127\.0\.0\.1
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { createAuditClient } from "auditlog/client";

const audit = createAuditClient({ url: process.env["AUDIT_URL"]!, key: process.env["AUDIT_KEY"]! });

const server = createServer((request, response) => {
	updateProfile()
		.then(() =>
			audit.writeEvent({
				event: {
					tenantId: "examples",
					action: "profile.updated",
					source: "api",
					actor: { id: "user-5" },
					// The caller's address, not yours: the service never fills it in.
					context: { ipAddress: request.socket.remoteAddress ?? "", userAgent: request.headers["user-agent"] ?? "" },
				},
			}),
		)
		.then(() => response.writeHead(204).end())
		.catch(() => response.writeHead(503).end());
});
async function updateProfile(): Promise<void> {}

await once(server.listen(0, "127.0.0.1"), "listening");
const answer = await fetch(`http://127.0.0.1:${(server.address() as AddressInfo).port}/profile`, { method: "PUT" });
console.log(answer.status);
server.close();

const { events } = await audit.query({ tenantId: "examples", actions: ["profile.updated"], pageSize: 1 });
for (const event of events) console.log(`${event.action} from ${event.context?.ipAddress}`);
