import { createTenantClient } from "../../client/index.ts";
import type { TenantId } from "../../event/event.ts";
import { microsOf } from "../../event/time.ts";
import { ActorType } from "../../gen/audit/v1/event_pb.ts";
import type { DisableTenantResponse, EnableTenantResponse, Tenant } from "../../gen/audit/v1/tenant_service_pb.ts";
import { createLogger } from "../../logger.ts";
import { TenantQuery } from "../../query/tenants.ts";
import { openDatabase } from "../../storage/db.ts";
import { Partitions } from "../../storage/partitions.ts";
import { ServiceLog } from "../../storage/service-log.ts";
import { type TenantChange, type TenantState, Tenants } from "../../storage/tenants.ts";
import type { CommandLine } from "../command-line.ts";
import { asOwner, type Owner } from "../owner.ts";
import { type AddressOptions, findService, givenUrl } from "../service-address.ts";
import { asAuditErrors } from "../service-call.ts";

/** For the help of each command. */
export const WHERE = `With --url, --key or AUDIT_URL it asks the service, as whoever the key belongs to; else it works on the database itself,
with DATABASE_URL and AUDIT_SECRET, or those of the \`make run\` that runs here.`;

/** Where tenants are dealt with: the service, or the database itself. */
export interface TenantDesk {
	/** @param name undefined: the id, or whatever a tenant that exists is called */
	create(id: TenantId, name: string | undefined): Promise<TenantChange>;
	/** @param pageToken empty: the first page */
	list(pageToken: string): Promise<{ tenants: TenantState[]; nextPageToken: string }>;
	rename(id: TenantId, name: string): Promise<TenantChange>;
	setDisabled(id: TenantId, isDisabled: boolean, reason: string): Promise<TenantChange>;
}

/** The service if it is said where that is, else the database. */
export async function atDesk<T>(
	commandLine: CommandLine,
	options: AddressOptions,
	use: (desk: TenantDesk) => Promise<T>,
): Promise<T> {
	if (options.key !== undefined || givenUrl(commandLine.env, options)) {
		return use(serviceDesk(commandLine, options));
	}
	return asOwner(commandLine.env, (owner) => withDatabaseDesk(owner, use));
}

function serviceDesk(commandLine: CommandLine, options: AddressOptions): TenantDesk {
	const client = createTenantClient(findService(commandLine, options));
	const changeOf = ({ tenant }: { tenant?: Tenant | undefined }, changed: boolean) => ({
		tenant: stateOf(tenant),
		changed,
	});
	return {
		async create(id, name = "") {
			const made = await asAuditErrors(() => client.createTenant({ id, name }));
			return changeOf(made, made.created);
		},
		async list(pageToken) {
			const page = await asAuditErrors(() => client.listTenants({ pageSize: PAGE, pageToken }));
			return { tenants: page.tenants.map(stateOf), nextPageToken: page.nextPageToken };
		},
		async rename(id, name) {
			const renamed = await asAuditErrors(() => client.renameTenant({ id, name }));
			return changeOf(renamed, renamed.changed);
		},
		async setDisabled(id, isDisabled, reason) {
			const request = { id, reason };
			const done = await asAuditErrors<DisableTenantResponse | EnableTenantResponse>(() =>
				isDisabled ? client.disableTenant(request) : client.enableTenant(request),
			);
			return changeOf(done, done.changed);
		},
	};
}

const PAGE = 500;

function stateOf(tenant: Tenant | undefined): TenantState {
	if (!tenant?.createdAt) throw new Error("the service answered without the tenant");
	const { id, name, createdAt, disabledAt } = tenant;
	return { id: id as TenantId, name, createdAt: microsOf(createdAt), disabledAt: disabledAt && microsOf(disabledAt) };
}

/** As the service's own roles, which alone may write the events. */
async function withDatabaseDesk<T>({ databaseUrl, keys }: Owner, use: (desk: TenantDesk) => Promise<T>): Promise<T> {
	const db = openDatabase({ databaseUrl, keys, logger: createLogger("silent") });
	try {
		const hashing = { manifestKey: keys.manifests, contentMacKey: keys.contentMacs };
		// The chain's head reaches NATS with the next batch of the service.
		const log = new ServiceLog({ db, partitions: new Partitions(db), ...hashing, onAppended: () => {} });
		const tenants = new Tenants({ db, log });
		const found = new TenantQuery({ db, pageTokenKey: keys.pageTokens });
		return await use({
			create: (id, name) => tenants.create(id, name),
			list: (pageToken) => found.list({ pageSize: PAGE, pageToken }, "all"),
			rename: (id, name) => tenants.rename(id, name, COMMAND),
			setDisabled: (id, isDisabled, reason) => tenants.setDisabled(id, isDisabled, { actor: COMMAND, reason }),
		});
	} finally {
		await db.close();
	}
}

/** Who has the database at hand is known by nothing else. */
const COMMAND = { type: ActorType.SYSTEM, id: "cli", displayName: "auditlog tenant, on the database itself" };
