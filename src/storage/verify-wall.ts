import type pg from "pg";

/** Tables whose rows nobody changes or removes, beside the partitions of the first. */
const IMMUTABLE = [
	"events",
	"manifests",
	"tenants",
	"tenant_changes",
	"dead_letters",
	"dead_letter_actions",
	"vocabulary",
].map((name) => `audit.${name}`);

/**
 * What should keep tenants apart and rows as they are, and does not: somebody with the owner's rights or more has taken it
 * away. The rows themselves may be whole. Policies are not compared with what they were.
 *
 * @returns one sentence each, naming the table or the role
 */
export async function wallFaults(client: pg.ClientBase): Promise<string[]> {
	const { rows } = await client.query<{ fault: string }>(
		`WITH guarded AS (
		   SELECT c.oid, n.nspname || '.' || c.relname AS name, c.relrowsecurity, c.relforcerowsecurity,
		          n.nspname || '.' || c.relname = 'audit.events' OR c.relispartition AS holds_events
		   FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		   WHERE n.nspname = 'audit' AND c.relkind IN ('r', 'p', 'f')),
		 -- FOR EACH ROW (1), BEFORE (2), DELETE (8), UPDATE (16), TRUNCATE (32).
		 needed AS (
		   SELECT oid, name, 58 AS type, to_regprocedure('audit.refuse_change()') AS calls FROM guarded
		   WHERE holds_events OR name = ANY ($1)
		   -- Keys change in few ways; before 0005 they had no such triggers.
		   UNION ALL
		   SELECT oid, name, type, to_regprocedure(function) FROM guarded,
		          (VALUES (42, 'audit.refuse_change()'), (19, 'audit.refuse_key_change()')) AS of_keys (type, function)
		   WHERE name = 'audit.api_keys' AND to_regprocedure('audit.refuse_key_change()') IS NOT NULL)
		 -- Manifests are no tenant's, and were without it before 0007.
		 SELECT name || ' has no row-level security' AS fault FROM guarded
		 WHERE NOT relrowsecurity AND name <> 'audit.manifests'
		 UNION ALL
		 SELECT name || ' does not force row-level security' FROM guarded WHERE holds_events AND NOT relforcerowsecurity
		 UNION ALL
		 SELECT DISTINCT name || ' has no working trigger against changes' FROM needed
		 -- Enabled for sessions as they come.
		 WHERE NOT EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = needed.oid AND t.tgtype = type AND t.tgfoid = calls
		                   AND t.tgenabled IN ('O', 'A') AND t.tgqual IS NULL AND t.tgattr = '')
		 UNION ALL
		 SELECT rolname || CASE WHEN rolsuper THEN ' is a superuser' ELSE ' bypasses row-level security' END FROM pg_roles
		 WHERE rolname LIKE 'audit\\_%' AND (rolsuper OR (rolbypassrls AND rolname <> 'audit_writer'))
		 UNION ALL
		 SELECT m.rolname || ' has the rights of ' || r.rolname
		 FROM pg_auth_members a JOIN pg_roles m ON m.oid = a.member JOIN pg_roles r ON r.oid = a.roleid
		 WHERE m.rolname LIKE 'audit\\_%'
		 ORDER BY 1`,
		[IMMUTABLE],
	);
	return rows.map(({ fault }) => fault);
}
