-- Purpose: what a test over the whole catalogue found open though nothing used it: every table is under row-level security,
-- functions are nobody's to call until a migration says whose, and no role of the service can put bytes anywhere else.
-- Locks: ACCESS EXCLUSIVE on audit.manifests for the moment ALTER TABLE and CREATE POLICY take. Old code can run on it.
SET ROLE audit_owner;

-- Manifests hold no tenant's content, but they name every tenant's hashes. The functions that write them run as the owner,
-- who is above row-level security here: see docs/decisions/0014-where-row-level-security-is-forced.md.
ALTER TABLE audit.manifests ENABLE ROW LEVEL SECURITY;
CREATE POLICY writer_finds_links ON audit.manifests FOR SELECT TO audit_writer USING (true);
CREATE POLICY verifier_reads ON audit.manifests FOR SELECT TO audit_verifier USING (true);

-- PostgreSQL lets everybody call a new function: one forgotten REVOKE would have handed out what runs as the owner.
ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;

RESET ROLE;

-- Large objects are outside of every table, policy and trigger, and anybody may make some. These functions are the
-- superuser's: without one they stay as they are (docs/portability.md).
DO $$
DECLARE
  f regprocedure;
BEGIN
  IF current_setting('is_superuser') = 'on' THEN
    FOR f IN SELECT oid FROM pg_proc WHERE pronamespace = 'pg_catalog'::regnamespace
             AND proname IN ('lo_creat', 'lo_create', 'lo_from_bytea', 'lo_open', 'lo_put', 'lowrite') LOOP
      EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', f);
    END LOOP;
  END IF;
END $$;
