import type pg from "pg";
import type { TenantId } from "../event/event.ts";

/** A tenant's month whose vocabulary lacks what its events have: searches for that would not find them. */
export interface VocabularyFault {
	readonly tenantId: TenantId;
	readonly message: string;
}

/** Compares the vocabulary with the events. @param client the verifier's, in its snapshot */
export async function vocabularyFaults(client: pg.ClientBase): Promise<VocabularyFault[]> {
	const { rows } = await client.query<{ tenant_id: TenantId; month: string; n: string }>(MISSING);
	return rows.map(({ tenant_id: tenantId, month, n }) => ({
		tenantId,
		message: `the vocabulary of ${month} lacks ${n} of the shapes its events have: searches would not find them`,
	}));
}

const MISSING = `
	WITH used AS (
		SELECT DISTINCT e.tenant_id, date_trunc('month', e.occurred_at AT TIME ZONE 'UTC')::date AS month,
		       e.action, e.category, e.actor_type, e.source, e.resource_type, t.type
		FROM audit.events e CROSS JOIN LATERAL (
			SELECT NULL UNION ALL
			SELECT r ->> 'type' FROM jsonb_array_elements(
				CASE WHEN strpos(e.u_resources, '"related_resources":') > 0 THEN e.u_resources::jsonb -> 'related_resources' END) AS r
		) AS t (type)
		WHERE isfinite(e.occurred_at)
	)
	SELECT u.tenant_id, to_char(u.month, 'YYYY-MM') AS month, count(*) AS n
	FROM used u
	WHERE NOT EXISTS (
		SELECT FROM audit.vocabulary v
		WHERE v.tenant_id = u.tenant_id AND v.month = u.month
		  AND (v.action = '*' OR (v.action, v.category, v.actor_type) = (u.action, u.category, u.actor_type)
		       AND v.source IS NOT DISTINCT FROM u.source AND v.resource_type IS NOT DISTINCT FROM u.resource_type
		       AND v.related_type IS NOT DISTINCT FROM u.type))
	GROUP BY u.tenant_id, u.month ORDER BY u.tenant_id, u.month`;
