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
	), missing AS (
		SELECT * FROM used
		EXCEPT
		SELECT tenant_id, month, action, category, actor_type, source, resource_type, related_type FROM audit.vocabulary
	)
	SELECT m.tenant_id, to_char(m.month, 'YYYY-MM') AS month, count(*) AS n
	FROM missing m
	WHERE NOT EXISTS (
		SELECT FROM audit.vocabulary v WHERE v.tenant_id = m.tenant_id AND v.month = m.month AND v.action = '*')
	GROUP BY m.tenant_id, m.month ORDER BY m.tenant_id, m.month`;
