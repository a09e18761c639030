import { faultOfId } from "./text.ts";

const NAME_BYTES = 256;

/** What is wrong with the name of a tenant, which is for people; undefined: nothing. */
export function faultOfTenantName(name: string): string | undefined {
	return name.trim() === "" ? "must not be empty" : faultOfId(name, NAME_BYTES);
}
