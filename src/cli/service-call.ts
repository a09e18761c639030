import { toAuditError } from "../client/index.ts";

/** Calls the service; what it refuses comes as an AuditError with every violation. */
export async function asAuditErrors<T>(call: () => Promise<T>): Promise<T> {
	try {
		return await call();
	} catch (error) {
		throw toAuditError(error);
	}
}
