import type { Client } from "pg";

/**
 * Everything there is in a migrated database, and who may do what with it: one line each. What a migration adds is added
 * here, or `test/integration/database-wall-catalogue.test.ts` names it.
 */

/** Tables, and what guards them. The partitions of `audit.events` are not listed: each is as `LEAF`. */
export const TABLES = [
	"audit.api_keys: of audit_owner, row security, trigger CREATE TRIGGER few_changes BEFORE UPDATE ON audit.api_keys FOR EACH ROW EXECUTE FUNCTION audit.refuse_key_change() O, trigger CREATE TRIGGER immutable BEFORE DELETE OR TRUNCATE ON audit.api_keys FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_change() O",
	"audit.dead_letter_actions: of audit_owner, row security, immutable",
	"audit.dead_letters: of audit_owner, row security, immutable",
	"audit.events: of audit_owner, row security forced, immutable",
	"audit.manifests: of audit_owner, row security, immutable",
	"audit.tenant_changes: of audit_owner, row security, immutable",
	"audit.tenants: of audit_owner, row security, immutable",
	"audit.vocabulary: of audit_owner, row security, immutable",
	// No tenant's: which migrations were applied, by whoever applies them.
	"audit_migrations.kysely_migration: of whoever migrates, open",
	"audit_migrations.kysely_migration_lock: of whoever migrates, open",
];
export const LEAF = "of audit_owner, row security forced, immutable";

/** Who but the owner may do what. With columns: with these alone. Nobody may do anything with a leaf. */
export const GRANTS = [
	"audit_finder: EXECUTE on audit.links_of(text,text,text)",
	"audit_finder: SELECT on audit.events(actor_email, ctid, id, occurred_at, request_id, tenant_id, trace_id, u_actor, u_resources)",
	"audit_finder: USAGE on schema audit",
	"audit_maintainer: INSERT on audit.vocabulary",
	"audit_reader: EXECUTE on audit.find_hashed(text,text[],timestamp with time zone,integer)",
	"audit_reader: EXECUTE on audit.find_linked(text[],text[],timestamp with time zone,integer)",
	"audit_reader: SELECT on audit.vocabulary",
	"audit_verifier: SELECT on audit.vocabulary",
	"audit_writer: EXECUTE on audit.links_of(text,text,text)",
	"audit_reader: EXECUTE on audit.batches_after(bigint,bigint[])",
	"audit_reader: EXECUTE on audit.newest_batch()",
	"audit_reader: EXECUTE on audit.disabled_tenants()",
	"audit_reader: EXECUTE on audit.folded(text)",
	"audit_reader: EXECUTE on audit.folding()",
	"audit_reader: EXECUTE on audit.runs_marked(text)",
	"audit_reader: EXECUTE on audit.text_patterns(text)",
	"audit_reader: EXECUTE on audit.text_query(text)",
	"audit_reader: EXECUTE on audit.text_words(text,text,text,text)",
	"audit_reader: EXECUTE on audit.words(text)",
	"audit_reader: SELECT on audit.api_keys(created_at, created_by, expires_at, id, identity, last_used_at, masked_units, name, revoked_at, role, tenant_ids)",
	"audit_reader: SELECT on audit.tenant_changes",
	"audit_verifier: SELECT on audit.tenant_changes",
	"audit_writer: EXECUTE on audit.change_tenant(text,text,boolean)",
	"audit_writer: EXECUTE on audit.folded(text)",
	"audit_writer: EXECUTE on audit.runs_marked(text)",
	"audit_writer: EXECUTE on audit.text_words(text,text,text,text)",
	"audit_writer: EXECUTE on audit.words(text)",
	"audit_writer: EXECUTE on audit.create_api_key(text,bytea,text,text,text[],text[],timestamp with time zone,text)",
	"audit_writer: EXECUTE on audit.lock_api_keys(text)",
	"audit_writer: EXECUTE on audit.revoke_api_key(text)",
	"audit_writer: EXECUTE on audit.rotate_api_key(text,text,bytea,timestamp with time zone,timestamp with time zone,text)",
	"audit_writer: EXECUTE on audit.touch_api_keys(text[],timestamp with time zone[])",
	"audit_maintainer: EXECUTE on audit.ensure_partition(timestamp with time zone)",
	"audit_maintainer: EXECUTE on audit.partitions()",
	"audit_maintainer: USAGE on schema audit",
	"audit_reader: EXECUTE on audit.find_api_key(text)",
	"audit_reader: EXECUTE on audit.partitions()",
	"audit_reader: SELECT on audit.dead_letter_actions",
	"audit_reader: SELECT on audit.dead_letters",
	"audit_reader: SELECT on audit.events",
	"audit_reader: SELECT on audit.tenants",
	"audit_reader: USAGE on schema audit",
	"audit_verifier: SELECT on audit.dead_letter_actions",
	"audit_verifier: SELECT on audit.dead_letters",
	"audit_verifier: SELECT on audit.events",
	"audit_verifier: SELECT on audit.manifests",
	"audit_verifier: SELECT on audit.tenants",
	"audit_verifier: USAGE on schema audit",
	"audit_writer: EXECUTE on audit.append_batch(bigint,bigint,integer,bytea,bytea,bytea,bytea)",
	"audit_writer: EXECUTE on audit.create_tenant(text,text)",
	"audit_writer: EXECUTE on audit.lock_chain()",
	"audit_writer: EXECUTE on audit.lock_dead_letter(timestamp with time zone,bigint,integer)",
	"audit_writer: EXECUTE on audit.settle_dead_letter(timestamp with time zone,bigint,integer,text,text,text,bigint,jsonb)",
	"audit_writer: INSERT on audit.dead_letters",
	"audit_writer: INSERT on audit.events",
	"audit_writer: SELECT on audit.dead_letters(position, stream_created, stream_seq)",
	"audit_writer: SELECT on audit.events(batch_id, content_mac, id, leaf_hash, occurred_at, ord, recorded_at, tenant_id)",
	"audit_writer: SELECT on audit.manifests(batch_id, batch_no, chain)",
	"audit_writer: SELECT on audit.tenants(id, slot)",
	"audit_writer: SELECT on audit_migrations.kysely_migration",
	"audit_writer: USAGE on schema audit",
	"audit_writer: USAGE on schema audit_migrations",
	// PostgreSQL's own: everybody may connect, and look into `public`, where nothing is.
	"everybody: CONNECT on the database",
	"everybody: USAGE on schema public",
];

/** Functions; whose rights they have; who may call them is in `GRANTS`. */
export const FUNCTIONS = [
	"audit.find_hashed(text,text[],timestamp with time zone,integer): as audit_finder",
	"audit.find_linked(text[],text[],timestamp with time zone,integer): as audit_finder",
	"audit.links_of(text,text,text): as its caller",
	"audit.batches_after(bigint,bigint[]): as audit_owner",
	"audit.newest_batch(): as audit_owner",
	"audit.change_tenant(text,text,boolean): as audit_owner",
	"audit.create_api_key(text,bytea,text,text,text[],text[],timestamp with time zone,text): as audit_owner",
	"audit.disabled_tenants(): as audit_owner",
	"audit.folded(text): as its caller",
	"audit.folding(): as its caller",
	"audit.runs_marked(text): as its caller",
	"audit.text_patterns(text): as its caller",
	"audit.text_query(text): as its caller",
	"audit.text_words(text,text,text,text): as its caller",
	"audit.words(text): as its caller",
	"audit.lock_api_keys(text): as audit_owner",
	"audit.refuse_key_change(): as its caller",
	"audit.revoke_api_key(text): as audit_owner",
	"audit.rotate_api_key(text,text,bytea,timestamp with time zone,timestamp with time zone,text): as audit_owner",
	"audit.touch_api_keys(text[],timestamp with time zone[]): as audit_owner",
	"audit.append_batch(bigint,bigint,integer,bytea,bytea,bytea,bytea): as audit_owner",
	"audit.create_tenant(text,text): as audit_owner",
	"audit.ensure_partition(timestamp with time zone): as audit_owner",
	"audit.find_api_key(text): as audit_owner",
	"audit.lock_chain(): as audit_owner",
	"audit.lock_dead_letter(timestamp with time zone,bigint,integer): as audit_owner",
	"audit.partitions(): as audit_owner",
	"audit.refuse_change(): as its caller",
	"audit.settle_dead_letter(timestamp with time zone,bigint,integer,text,text,text,bigint,jsonb): as audit_owner",
];

/** Which rows which role sees or adds. A table without one shows nobody anything but its owner. */
export const POLICIES = [
	"finder_finds on audit.events: SELECT for audit_finder, every row",
	"maintainer_adds on audit.vocabulary: INSERT for audit_maintainer, every row",
	"one_tenant on audit.vocabulary: SELECT for audit_reader, some rows",
	"verifier_reads on audit.vocabulary: SELECT for audit_verifier, every row",
	"seen_tenants on audit.api_keys: SELECT for audit_reader, some rows",
	"some_tenants on audit.tenant_changes: SELECT for audit_reader, some rows",
	"some_tenants on audit.tenants: SELECT for audit_reader, some rows",
	"verifier_reads on audit.tenant_changes: SELECT for audit_verifier, every row",
	"of_seen_letters on audit.dead_letter_actions: SELECT for audit_reader, some rows",
	"verifier_reads on audit.dead_letter_actions: SELECT for audit_verifier, every row",
	"some_tenants on audit.dead_letters: SELECT for audit_reader, some rows",
	"verifier_reads on audit.dead_letters: SELECT for audit_verifier, every row",
	"writer_appends on audit.dead_letters: INSERT for audit_writer, every row",
	"writer_finds_keys on audit.dead_letters: SELECT for audit_writer, every row",
	"one_tenant on audit.events: SELECT for audit_reader, some rows",
	"verifier_reads on audit.events: SELECT for audit_verifier, every row",
	"writer_appends on audit.events: INSERT for audit_writer, every row",
	"writer_finds_keys on audit.events: SELECT for audit_writer, every row",
	"verifier_reads on audit.manifests: SELECT for audit_verifier, every row",
	"writer_finds_links on audit.manifests: SELECT for audit_writer, every row",
	"one_tenant on audit.tenants: SELECT for audit_reader, some rows",
	"verifier_reads on audit.tenants: SELECT for audit_verifier, every row",
	"writer_finds_slots on audit.tenants: SELECT for audit_writer, every row",
];

const OUR_SCHEMAS = "('audit', 'audit_migrations', 'public')";
/** What a migration by a superuser, and one by an owner without such powers, leave alike. */
const owner = (column: string) =>
	`CASE WHEN starts_with(pg_get_userbyid(${column}), 'audit_') THEN pg_get_userbyid(${column}) ELSE 'whoever migrates' END`;

/** As `TABLES`, with everything else that is a relation: views, sequences, foreign tables. Indexes are their tables'. */
export function tablesOf(admin: Client): Promise<string[]> {
	return lines(
		admin,
		`SELECT format('%s: of %s, %s%s%s', c.oid::regclass, ${owner("c.relowner")},
		        CASE WHEN c.relkind NOT IN ('r', 'p') THEN 'of the kind ' || c.relkind::text || ' ' || coalesce(c.reloptions::text, '')
		             WHEN NOT c.relrowsecurity THEN 'open'
		             WHEN c.relforcerowsecurity THEN 'row security forced' ELSE 'row security' END,
		        (SELECT string_agg(', ' || CASE WHEN t.tgname = 'immutable' AND t.tgfoid = 'audit.refuse_change'::regproc
		                AND t.tgenabled = 'O' AND t.tgtype = ${IMMUTABLE} AND t.tgqual IS NULL AND t.tgattr = ''
		                THEN 'immutable' ELSE 'trigger ' || pg_get_triggerdef(t.oid) || ' ' || t.tgenabled::text END, '' ORDER BY t.tgname)
		         FROM pg_trigger t WHERE t.tgrelid = c.oid AND NOT t.tgisinternal),
		        (SELECT string_agg(', rule ' || r.rulename, '') FROM pg_rewrite r WHERE r.ev_class = c.oid AND r.rulename <> '_RETURN'))
		 FROM pg_class c WHERE c.relnamespace::regnamespace::text IN ${OUR_SCHEMAS} AND c.relkind NOT IN ('i', 'I', 't')`,
	);
}

/** BEFORE (2) DELETE (8), UPDATE (16) and TRUNCATE (32), once for each statement. */
const IMMUTABLE = 58;

/** As `GRANTS`: of relations, columns, functions, schemas and the database, as their access lists have them. */
export function grantsOf(admin: Client): Promise<string[]> {
	return lines(
		admin,
		`WITH object (name, owner, acl, columns) AS (
		   SELECT c.oid::regclass::text, c.relowner, c.relacl, NULL FROM pg_class c
		   WHERE c.relnamespace::regnamespace::text IN ${OUR_SCHEMAS} AND c.relkind NOT IN ('i', 'I', 't')
		   UNION ALL
		   SELECT c.oid::regclass::text, c.relowner, a.attacl, a.attname FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
		   WHERE c.relnamespace::regnamespace::text IN ${OUR_SCHEMAS} AND a.attacl IS NOT NULL
		   UNION ALL
		   SELECT p.oid::regprocedure::text, p.proowner, coalesce(p.proacl, acldefault('f', p.proowner)), NULL FROM pg_proc p
		   WHERE p.pronamespace::regnamespace::text IN ${OUR_SCHEMAS}
		   UNION ALL
		   SELECT 'schema ' || n.nspname, n.nspowner, coalesce(n.nspacl, acldefault('n', n.nspowner)), NULL FROM pg_namespace n
		   WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
		   UNION ALL
		   SELECT 'the database', d.datdba, coalesce(d.datacl, acldefault('d', d.datdba)), NULL FROM pg_database d
		   WHERE d.datname = current_database()
		   UNION ALL
		   SELECT 'whatever ' || pg_get_userbyid(defaclrole) || ' makes', defaclrole, defaclacl, NULL FROM pg_default_acl)
		 SELECT format('%s: %s on %s%s%s', CASE g.grantee WHEN 0 THEN 'everybody' ELSE pg_get_userbyid(g.grantee) END,
		        g.privilege_type, o.name, '(' || string_agg(o.columns, ', ' ORDER BY o.columns) || ')',
		        CASE WHEN bool_or(g.is_grantable) THEN ', and may hand it on' END)
		 FROM object o, aclexplode(o.acl) g WHERE g.grantee <> o.owner
		 GROUP BY g.grantee, g.privilege_type, o.name, o.columns IS NULL`,
	);
}

/** As `FUNCTIONS`; one whose search path is not pinned, with temporary schemas last, is told. */
export function functionsOf(admin: Client): Promise<string[]> {
	return lines(
		admin,
		`SELECT format('%s: as %s%s', p.oid::regprocedure, CASE WHEN p.prosecdef THEN ${owner("p.proowner")} ELSE 'its caller' END,
		        CASE WHEN 'search_path=pg_catalog, pg_temp' = ANY (p.proconfig) THEN '' ELSE ', with the search path of its caller' END)
		 FROM pg_proc p WHERE p.pronamespace::regnamespace::text IN ${OUR_SCHEMAS}`,
	);
}

/** As `POLICIES`. */
export function policiesOf(admin: Client): Promise<string[]> {
	return lines(
		admin,
		`SELECT format('%s on %s.%s: %s for %s, %s%s', policyname, schemaname, tablename, cmd, array_to_string(roles, ', '),
		        CASE WHEN coalesce(qual, 'true') = 'true' AND coalesce(with_check, 'true') = 'true' THEN 'every row' ELSE 'some rows' END,
		        CASE permissive WHEN 'PERMISSIVE' THEN '' ELSE ', restrictive' END)
		 FROM pg_policies`,
	);
}

/** Everything in our schemas that is neither a table nor a function, and everything that is in no schema and not PostgreSQL's. */
export function otherObjectsOf(admin: Client): Promise<string[]> {
	return lines(
		admin,
		`SELECT o.type || ' ' || o.identity FROM pg_depend d, pg_identify_object(d.classid, d.objid, d.objsubid) o
		 WHERE d.refclassid = 'pg_namespace'::regclass AND d.refobjid::regnamespace::text IN ${OUR_SCHEMAS}
		   AND d.classid NOT IN ('pg_class'::regclass, 'pg_proc'::regclass)
		 UNION ALL SELECT 'schema ' || nspname FROM pg_namespace
		   WHERE nspname !~ '^pg_' AND nspname NOT IN ('information_schema', 'audit', 'audit_migrations', 'public')
		 UNION ALL SELECT 'extension ' || extname FROM pg_extension WHERE extname <> 'plpgsql'
		 UNION ALL SELECT 'publication ' || pubname FROM pg_publication
		 UNION ALL SELECT 'event trigger ' || evtname FROM pg_event_trigger
		 UNION ALL SELECT 'foreign server ' || srvname FROM pg_foreign_server
		 UNION ALL SELECT 'language ' || lanname FROM pg_language WHERE lanname NOT IN ('internal', 'c', 'sql', 'plpgsql')
		 UNION ALL SELECT 'large object ' || oid FROM pg_largeobject_metadata`,
	);
}

/** Whatever anywhere in the database is a service role's, or names one in its access list, beside what `GRANTS` has. */
export function reachOf(admin: Client): Promise<string[]> {
	return lines(
		admin,
		`SELECT DISTINCT format('%s: %s %s', pg_get_userbyid(s.refobjid), o.type, o.identity)
		 FROM pg_shdepend s, pg_identify_object(s.classid, s.objid, s.objsubid) o
		 WHERE s.refclassid = 'pg_authid'::regclass AND pg_get_userbyid(s.refobjid) LIKE 'audit\\_%'
		   AND s.dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
		   AND s.deptype IN ('o', 'a') AND NOT (s.deptype = 'o' AND pg_get_userbyid(s.refobjid) = 'audit_owner')
		   AND coalesce(o.schema, CASE o.type WHEN 'schema' THEN o.name ELSE split_part(o.identity, '.', 1) END) NOT IN ${OUR_SCHEMAS}`,
	);
}

async function lines(admin: Client, sql: string): Promise<string[]> {
	// Names are printed whole, whoever asks.
	await admin.query("SET search_path = pg_catalog, pg_temp");
	const { rows } = await admin.query({ text: sql, rowMode: "array" });
	return rows.map(([line]) => line as string).sort();
}
