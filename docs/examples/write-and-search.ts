// Writes an event with the typed client, safe to retry, and finds it again.
// Prints: stored .{36}\n.*order\.refunded by clerk-7
import { ActorType, createAuditClient, Outcome, Severity, toAuditError } from "auditlog/client";

const audit = createAuditClient({ url: process.env["AUDIT_URL"]!, key: process.env["AUDIT_KEY"]! });
const tenantId = "examples";

try {
	// The client gives every event an id before it is sent, and repeats the call while the service is away or full:
	// whatever happens on the way, it is stored once.
	const { eventId } = await audit.writeEvent({
		event: {
			tenantId,
			action: "order.refunded",
			severity: Severity.NOTICE,
			outcome: Outcome.SUCCESS,
			actor: { id: "clerk-7", type: ActorType.USER, displayName: "Kim" },
			primaryResource: { type: "order", id: "4711" },
			relatedResources: [{ type: "customer", id: "c-12", role: "owner" }],
			changes: { oldValue: { refunded: false }, newValue: { refunded: true }, changedFields: ["refunded"] },
			reason: "TICKET-88",
		},
	});
	console.log("stored", eventId);
} catch (error) {
	// What to change, and every field that is wrong.
	const { code, reason, message, violations } = toAuditError(error);
	console.error(code, reason, message, violations);
	process.exitCode = 1;
}

const { events } = await audit.query({ tenantId, actions: ["order.*"], resourceId: "4711", pageSize: 1 });
for (const { action, actor } of events) console.log(`found ${action} by ${actor?.id}`);
