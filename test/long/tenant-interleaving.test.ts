import { test } from "vitest";
import { interleaveTenants } from "../support/tenant-interleaving.ts";

test("10,000 requests of five tenants over two connections, some of which break half way, each see their own tenant's rows", async () => {
	await interleaveTenants(10_000);
});
