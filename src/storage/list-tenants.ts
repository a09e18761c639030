import type pg from "pg";

export interface TenantInfo {
	readonly id: string;
	readonly name: string;
	readonly createdAt: Date;
}

/**
 * Every tenant, the oldest first.
 *
 * @param admin connected as somebody who may become `audit_owner`: the service's own roles see one tenant at a time
 */
export async function listTenants(admin: pg.ClientBase): Promise<TenantInfo[]> {
	await admin.query("BEGIN READ ONLY");
	try {
		await admin.query("SET LOCAL ROLE audit_owner");
		const { rows } = await admin.query<TenantInfo>(
			'SELECT id, name, created_at AS "createdAt" FROM audit.tenants ORDER BY slot',
		);
		return rows;
	} finally {
		await admin.query("ROLLBACK");
	}
}
