import { isTenantId } from "../../event/admit.ts";
import type { TenantId } from "../../event/event.ts";
import { LIMITS } from "../../event/limits.ts";
import { faultOfTenantName } from "../../event/tenant-name.ts";
import { faultOfText } from "../../event/text.ts";
import { UsageError } from "../command-line.ts";

export function parseTenantId(id: string): TenantId {
	if (isTenantId(id)) return id;
	throw new UsageError("a tenant id is 1 to 128 of A-Z a-z 0-9 . _ : -");
}

/** @param what the option or argument it is */
export function parseName(what: string, name: string): string {
	const fault = faultOfTenantName(name);
	if (fault) throw new UsageError(`${what} ${fault}`);
	return name;
}

export function parseReason(reason: string): string {
	const fault = reason.trim() === "" ? "must not be empty" : faultOfText(reason, LIMITS.textBytes);
	if (fault) throw new UsageError(`--reason ${fault}`);
	return reason;
}
