import { createLogger } from "../logger.ts";
import { type Database, openDatabase } from "../storage/db.ts";
import { Partitions } from "../storage/partitions.ts";
import { ServiceLog } from "../storage/service-log.ts";
import type { CommandLine } from "./command-line.ts";
import type { Owner } from "./owner.ts";
import { type AddressOptions, givenUrl } from "./service-address.ts";

/** For the help of commands that work through the service or on the database itself. */
export const EITHER_WAY = `With --url or --key, or with both AUDIT_URL and AUDIT_KEY set, this goes through the service, as whoever the key belongs
to. Else it goes straight to the database, as the first key and tenant have to: with DATABASE_URL and AUDIT_SECRET, or those
of the \`make run\` that runs here.`;

/** Whether it is said where the service is and who is asking; else it is whoever has the database. */
export function goesByService({ env }: CommandLine, options: AddressOptions): boolean {
	const isNamed = options.url !== undefined || options.key !== undefined;
	return isNamed || (givenUrl(env, options) !== undefined && Boolean(env.AUDIT_KEY));
}

/** The database as the service's own roles have it, which alone may write the events that tell of a change. */
export async function asService<T>(
	{ databaseUrl, keys }: Owner,
	use: (service: { db: Database; log: ServiceLog }) => Promise<T>,
): Promise<T> {
	const db = openDatabase({ databaseUrl, keys, logger: createLogger("silent") });
	try {
		const hashing = { manifestKey: keys.manifests, contentMacKey: keys.contentMacs };
		// The chain's head reaches NATS with the next batch of the service.
		return await use({
			db,
			log: new ServiceLog({ db, partitions: new Partitions(db), ...hashing, onAppended: () => {} }),
		});
	} finally {
		await db.close();
	}
}
