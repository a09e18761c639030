import { demoApiKey, formatApiKey } from "../auth/api-keys.ts";
import type { Rights } from "../auth/grant.ts";
import { COMMAND_LINE, KeyChanges } from "../auth/key-changes.ts";
import { deriveKeys } from "../auth/secret.ts";
import type { TenantId } from "../event/event.ts";
import type { Logger } from "../logger.ts";
import { openDatabase } from "../storage/db.ts";
import { Partitions } from "../storage/partitions.ts";
import { ServiceLog } from "../storage/service-log.ts";
import { Tenants } from "../storage/tenants.ts";

/** A tenant to try things out with, and the keys of its backend (writer) and of its auditor (reader). */
export interface DemoTenant {
	readonly id: string;
	readonly name: string;
	readonly writerKey: string;
	readonly readerKey: string;
}

export interface Demo {
	/** An operator's, good for every tenant. */
	readonly adminKey: string;
	readonly tenants: readonly [DemoTenant, DemoTenant];
}

const ACME = { id: "7e4e4e93-94ec-45bd-87ce-88ce3f689e3c" as TenantId, name: "Acme" };
const GLOBEX = { id: "globex" as TenantId, name: "Globex" };

/** Makes the demo tenants and their keys, the same at every start with the same secret. */
export async function seedDemoTenants(databaseUrl: string, secret: string, logger: Logger): Promise<Demo> {
	const keys = deriveKeys(secret);
	const db = openDatabase({ databaseUrl, keys, logger });
	try {
		const hashing = { manifestKey: keys.manifests, contentMacKey: keys.contentMacs };
		const log = new ServiceLog({ db, partitions: new Partitions(db), ...hashing, onAppended: () => {} });
		const tenants = new Tenants({ db, log });
		const changes = new KeyChanges({ log, keys, tenants, logger });
		/** What is there already is left as it is: one that was revoked stays so. */
		const makeKey = async (of: string, role: Rights["role"], bound: Rights["tenants"]): Promise<string> => {
			const key = demoApiKey(keys, of);
			const spec = { key, name: `demo: ${of}`, role, tenants: bound, maskedUnits: [], expiresAt: undefined };
			await changes.create(spec, COMMAND_LINE);
			return formatApiKey(key);
		};
		const seed = async ({ id, name }: { id: TenantId; name: string }): Promise<DemoTenant> => {
			await tenants.ensure(id, name);
			const writerKey = await makeKey(`${name} writer`, "writer", new Set([id]));
			return { id, name, writerKey, readerKey: await makeKey(`${name} reader`, "reader", new Set([id])) };
		};
		return { tenants: [await seed(ACME), await seed(GLOBEX)], adminKey: await makeKey("operator", "operator", "all") };
	} finally {
		await db.close();
	}
}
