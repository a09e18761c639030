-- Purpose: the service's database roles. Run by `auditlog migrate`, which gives the login roles their passwords: as a
-- superuser, or as a role with CREATEROLE that may create in the database.
-- Locks: none on data. Old code can run on it: there is none.
--
-- audit_owner       owns everything, logs in never: a compromised service cannot become it
-- audit_writer      appends. Bypasses row-level security, where that can be had, because COPY is refused under it (0A000);
--                   therefore has INSERT on the event tables, SELECT on key and hash columns, and nothing else
-- audit_reader      reads events of the one tenant set for the transaction (row-level security)
-- audit_maintainer  makes partitions, through one function
-- audit_verifier    reads everything, for `auditlog verify`
DO $$
DECLARE
  r text;
BEGIN
  -- Roles belong to the cluster, not to the database: another database of the service may have made them already.
  FOREACH r IN ARRAY ARRAY['audit_owner', 'audit_writer', 'audit_reader', 'audit_maintainer', 'audit_verifier'] LOOP
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = r) THEN
      BEGIN
        EXECUTE format('CREATE ROLE %I NOLOGIN', r);
      EXCEPTION WHEN duplicate_object OR unique_violation THEN
        NULL; -- made by another migration at this moment
      END;
    END IF;
  END LOOP;
END $$;

-- Whoever is no superuser (PostgreSQL run by somebody else) is not yet a member of the roles it has made, and may not let
-- them bypass row-level security: then the writer does without, by the policies of 0004, and by INSERT.
DO $$
BEGIN
  IF current_setting('is_superuser') = 'off' THEN
    GRANT audit_owner TO CURRENT_USER;
  END IF;
  BEGIN
    ALTER ROLE audit_writer BYPASSRLS;
  EXCEPTION WHEN insufficient_privilege THEN
    NULL; -- `auditlog migrate` says so
  END;
END $$;
ALTER ROLE audit_reader SET default_transaction_read_only = on;
ALTER ROLE audit_verifier SET default_transaction_read_only = on;

CREATE SCHEMA audit AUTHORIZATION audit_owner;
SET ROLE audit_owner;
GRANT USAGE ON SCHEMA audit TO audit_writer, audit_reader, audit_maintainer, audit_verifier;
RESET ROLE;

-- Nothing of the service's lives in `public`, and its roles may put nothing there, nor into temporary schemas.
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
DO $$
BEGIN
  EXECUTE format('REVOKE TEMPORARY ON DATABASE %I FROM PUBLIC', current_database());
END $$;
