import { test } from "vitest";
import { interleaveTenants } from "../support/tenant-interleaving.ts";

/** `test/long` makes ten times as many. */
test("requests of five tenants over two connections, some of which break half way, each see their own tenant's rows", async () => {
	await interleaveTenants(1_000);
});
