-- Purpose: tenants are renamed, disabled and enabled. A tenant's row never changes: each change is a row beside it that says
-- all that holds from then on, so the newest one is in force, and what was before can still be read. Why something was
-- changed, and by whom, is told by the event of the same transaction, where it can be erased.
-- Locks: none on data that exists; ACCESS EXCLUSIVE on audit.tenants for the moment CREATE POLICY takes. Old code can run on
-- it: it shows a tenant as it was made, and takes events of disabled ones.
SET ROLE audit_owner;

CREATE TABLE audit.tenant_changes (
  tenant_id text COLLATE "C" NOT NULL REFERENCES audit.tenants (id),
  change_no integer NOT NULL,               -- 1, 2, 3, … without gaps; a tenant that was never changed has none
  name text NOT NULL,
  disabled_at timestamptz,                  -- NULL: it is not disabled
  changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (tenant_id, change_no)
);

CREATE TRIGGER immutable BEFORE UPDATE OR DELETE OR TRUNCATE ON audit.tenant_changes
  FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_change();

-- The reader sees the one tenant set for the transaction, as before, or those set for a listing, separated by commas, which
-- tenant ids cannot hold; '*', which is no tenant id, stands for every tenant. Nothing set: no tenant.
CREATE POLICY some_tenants ON audit.tenants FOR SELECT TO audit_reader
  USING (current_setting('audit.tenants_of', true) = '*'
         OR id = ANY (string_to_array(nullif(current_setting('audit.tenants_of', true), ''), ',')));
ALTER TABLE audit.tenant_changes ENABLE ROW LEVEL SECURITY;
CREATE POLICY some_tenants ON audit.tenant_changes FOR SELECT TO audit_reader
  USING (current_setting('audit.tenants_of', true) = '*'
         OR tenant_id = ANY (string_to_array(nullif(current_setting('audit.tenants_of', true), ''), ',')));
CREATE POLICY verifier_reads ON audit.tenant_changes FOR SELECT TO audit_verifier USING (true);

-- Gives a tenant another name, disables or enables it; NULL leaves that as it is, and with both NULL nothing is changed.
-- Returns what holds now, what was called what before, and whether that is a change; nothing if there is no such tenant.
-- Whoever else wants to change the tenant waits until the transaction ends, and then sees what was done.
CREATE FUNCTION audit.change_tenant(of_tenant text, new_name text, disable boolean)
RETURNS TABLE (changed boolean, old_name text, name text, created_at timestamptz, disabled_at timestamptz)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  was record;
BEGIN
  IF current_setting('transaction_isolation') <> 'read committed' THEN
    RAISE EXCEPTION 'change_tenant needs READ COMMITTED, or the tenant is seen as it was before the lock was had';
  END IF;
  PERFORM FROM audit.tenants t WHERE t.id = of_tenant FOR NO KEY UPDATE;
  SELECT coalesce(c.change_no, 0) AS change_no, coalesce(c.name, t.name) AS name, t.created_at, c.disabled_at INTO was
  FROM audit.tenants t
  LEFT JOIN LATERAL (SELECT * FROM audit.tenant_changes n WHERE n.tenant_id = t.id ORDER BY n.change_no DESC LIMIT 1) c ON true
  WHERE t.id = of_tenant;
  IF NOT FOUND THEN
    RETURN;
  END IF;
  old_name := was.name;
  name := coalesce(new_name, was.name);
  created_at := was.created_at;
  disabled_at := CASE WHEN disable IS NULL THEN was.disabled_at
                      WHEN disable THEN coalesce(was.disabled_at, clock_timestamp()) END;
  changed := (name, disabled_at) IS DISTINCT FROM (was.name, was.disabled_at);
  IF changed THEN
    INSERT INTO audit.tenant_changes (tenant_id, change_no, name, disabled_at)
    VALUES (of_tenant, was.change_no + 1, change_tenant.name, change_tenant.disabled_at);
  END IF;
  RETURN NEXT;
END $$;

-- The tenants that are disabled now. Every replica asks every few seconds, and looks a tenant up in what it was told.
CREATE FUNCTION audit.disabled_tenants() RETURNS SETOF text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT n.tenant_id
  FROM (SELECT DISTINCT ON (c.tenant_id) c.tenant_id, c.disabled_at
        FROM audit.tenant_changes c ORDER BY c.tenant_id, c.change_no DESC) n
  WHERE n.disabled_at IS NOT NULL
$$;

REVOKE EXECUTE ON FUNCTION audit.change_tenant(text, text, boolean) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION audit.disabled_tenants() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION audit.change_tenant(text, text, boolean) TO audit_writer;
GRANT EXECUTE ON FUNCTION audit.disabled_tenants() TO audit_reader;
GRANT SELECT ON audit.tenant_changes TO audit_reader, audit_verifier;

RESET ROLE;
