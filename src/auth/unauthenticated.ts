import { AuditError } from "../errors.ts";

/** The one answer to whoever is not known, whatever the cause: it tells a guesser nothing. */
export function unauthenticated(): AuditError {
	return new AuditError("unauthenticated", "a valid key or token is required: send Authorization: Bearer <key>", {
		reason: "UNAUTHENTICATED",
	});
}
