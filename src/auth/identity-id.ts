import { createHmac } from "node:crypto";
import type { DerivedKeys } from "./secret.ts";

/**
 * The id of somebody who is known by a name of others' making. Ids stay in the log for ever, names must not: without the
 * root secret nobody can tell, or guess and try, whose it is.
 */
export function identityId(keys: DerivedKeys, kind: "jwt" | "mtls", names: readonly string[]): string {
	const digest = createHmac("sha256", keys.identities)
		.update([kind, ...names].join("\0"))
		.digest("hex");
	return `${kind}_${digest.slice(0, 12)}`;
}
