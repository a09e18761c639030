import { expect, test } from "vitest";
import { refuseOldServer } from "../../../src/storage/migrate.ts";

test.each(["15.18", "15.18 (Debian 15.18-0+deb12u1)", "18.4", "19beta1"])("PostgreSQL %s is new enough", (version) => {
	expect(() => refuseOldServer(version)).not.toThrow();
});

test.each(["14.22", "9.6.24", "14.22 (Ubuntu 14.22-1)", ""])("PostgreSQL %s is refused, and told why", (version) => {
	expect(() => refuseOldServer(version)).toThrow(`PostgreSQL 15 or newer is needed; this is ${version}`);
});
