import { randomBytes } from "node:crypto";
import type { AuditClient } from "../../src/client/index.ts";

/** How many events `fillLargeTenant` writes. */
export const LARGE = 300;

/** Writes a log of 30 MB that does not compress: more than lies in sockets and windows between the service and who does not read. */
export async function fillLargeTenant(
	client: Pick<AuditClient, "batchWrite">,
	tenantId: string,
	{ events: wanted = LARGE, bytes = 100_000 } = {},
): Promise<void> {
	for (let written = 0; written < wanted; written += 30) {
		const events = Array.from({ length: 30 }, () => ({
			tenantId,
			action: "file.read",
			actor: { id: "jane" },
			metadata: { noise: randomBytes(bytes / 2).toString("hex") },
		}));
		await client.batchWrite({ events });
	}
}
