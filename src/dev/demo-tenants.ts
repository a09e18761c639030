import pg from "pg";
import { type ApiKeySpec, createApiKey, demoApiKey } from "../auth/api-keys.ts";
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
	const admin = new pg.Client({ connectionString: databaseUrl });
	try {
		const hashing = { manifestKey: keys.manifests, contentMacKey: keys.contentMacs };
		const tenants = new Tenants({
			db,
			log: new ServiceLog({ db, partitions: new Partitions(db), ...hashing, onAppended: () => {} }),
		});
		await admin.connect();
		const makeKey = (name: string, role: ApiKeySpec["role"], bound: ApiKeySpec["tenants"]) =>
			createApiKey(admin, keys, { key: demoApiKey(keys, name), name: `demo: ${name}`, role, tenants: bound });
		const seed = async ({ id, name }: { id: TenantId; name: string }): Promise<DemoTenant> => {
			await tenants.ensure(id, name);
			const writerKey = await makeKey(`${name} writer`, "writer", [id]);
			return { id, name, writerKey, readerKey: await makeKey(`${name} reader`, "reader", [id]) };
		};
		return { tenants: [await seed(ACME), await seed(GLOBEX)], adminKey: await makeKey("operator", "operator", "all") };
	} finally {
		await admin.end();
		await db.close();
	}
}
