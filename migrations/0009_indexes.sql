-- Purpose: rare values are found without walking a tenant's months. Why these indexes and no others, and what they cost, is in
-- docs/decisions/0024-indexes.md.
-- Locks: ACCESS EXCLUSIVE on audit.events while every partition is written anew and indexed, in proportion to what is
-- stored. Old code must not run on it: it leaves the vocabulary unfilled, which `auditlog verify` tells.
DO $$
BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'audit_finder') THEN
    BEGIN
      CREATE ROLE audit_finder NOLOGIN;
    EXCEPTION WHEN duplicate_object OR unique_violation THEN
      NULL; -- made by another migration at this moment
    END;
  END IF;
  IF current_setting('is_superuser') = 'off' THEN
    GRANT audit_finder TO CURRENT_USER;
  END IF;
END $$;

SET ROLE audit_owner;

-- What an event is, as one number: equal for the same action, category, source and types. Two may share a number by accident.
ALTER TABLE audit.events ADD COLUMN shape bigint GENERATED ALWAYS AS (hashtextextended(action, hashtextextended(
  coalesce(source, ' '), hashtextextended(coalesce(resource_type, ' '), (category::bigint << 32) # actor_type::bigint)))) STORED;

-- Each gives a tenant's events with one value in the order of a search, so that a page costs a page however many there are.
CREATE INDEX events_by_actor ON audit.events (tenant_id, actor_id, occurred_at);
CREATE INDEX events_by_resource ON audit.events (tenant_id, resource_id, occurred_at);
CREATE INDEX events_by_shape ON audit.events (tenant_id, shape, occurred_at);
-- SUCCESS (1) and INFO (2) are what most events are, and what most are needs no index.
CREATE INDEX events_by_outcome ON audit.events (tenant_id, outcome, occurred_at) WHERE outcome <> 1;
CREATE INDEX events_by_severity ON audit.events (tenant_id, severity, occurred_at) WHERE severity <> 2;
-- A third as dear as a b-tree, and without order: few events have the same value. As numbers that differ from tenant to tenant:
-- what one tenant has many of is not gone through for another.
CREATE INDEX events_by_request ON audit.events USING hash (hashtextextended(request_id, hashtextextended(tenant_id, 0)));
CREATE INDEX events_by_trace ON audit.events USING hash (hashtextextended(trace_id, hashtextextended(tenant_id, 0)));
CREATE INDEX events_by_email ON audit.events USING hash (hashtextextended(actor_email, hashtextextended(tenant_id, 0)));

-- The ids of whomever the actor acted for and of related resources, as numbers that differ from tenant to tenant and an actor's from
-- a resource's.
CREATE FUNCTION audit.links_of(tenant_id text, u_actor text, u_resources text) RETURNS bigint[]
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  links bigint[] := '{}';
  item jsonb;
BEGIN
  IF strpos(u_actor, '"on_behalf_of":') > 0 THEN
    FOR item IN SELECT jsonb_array_elements(u_actor::jsonb -> 'on_behalf_of') LOOP
      links := links || hashtextextended(item ->> 'id', hashtextextended(tenant_id, 1));
    END LOOP;
  END IF;
  IF strpos(u_resources, '"related_resources":') > 0 THEN
    FOR item IN SELECT jsonb_array_elements(u_resources::jsonb -> 'related_resources') LOOP
      links := links || hashtextextended(item ->> 'id', hashtextextended(tenant_id, 2));
    END LOOP;
  END IF;
  RETURN links;
END $$;
-- Few events have links. Without a list of what is pending: a search would have to go through it.
CREATE INDEX events_by_link ON audit.events USING gin (audit.links_of(tenant_id, u_actor, u_resources))
  WITH (fastupdate = off)
  WHERE strpos(u_actor, '"on_behalf_of":') > 0 OR strpos(u_resources, '"related_resources":') > 0;

-- Which shapes of events occur in which of a tenant's months: what has none there need not be looked for, and what has few is
-- found by these. A related resource's type makes a row of its own, with the shape of the event. The action '*' says that there are
-- too many to be listed. What is here may be more than there is, never less.
CREATE TABLE audit.vocabulary (
  tenant_id text COLLATE "C" NOT NULL,
  month date NOT NULL,                      -- its first day, UTC
  action text COLLATE "C" NOT NULL,
  category integer NOT NULL,
  actor_type integer NOT NULL,
  source text COLLATE "C",
  resource_type text COLLATE "C",
  related_type text COLLATE "C",
  shape bigint GENERATED ALWAYS AS (hashtextextended(action, hashtextextended(
    coalesce(source, ' '), hashtextextended(coalesce(resource_type, ' '), (category::bigint << 32) # actor_type::bigint)))) STORED,
  UNIQUE NULLS NOT DISTINCT (tenant_id, month, action, category, actor_type, source, resource_type, related_type) INCLUDE (shape)
);
CREATE INDEX ON audit.vocabulary (tenant_id, month, category);
CREATE INDEX ON audit.vocabulary (tenant_id, month, actor_type);
CREATE INDEX ON audit.vocabulary (tenant_id, month, source);
CREATE INDEX ON audit.vocabulary (tenant_id, month, resource_type);
CREATE INDEX ON audit.vocabulary (tenant_id, month, related_type) WHERE related_type IS NOT NULL;
CREATE TRIGGER immutable BEFORE UPDATE OR DELETE OR TRUNCATE ON audit.vocabulary
  FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_change();
ALTER TABLE audit.vocabulary ENABLE ROW LEVEL SECURITY;
CREATE POLICY one_tenant ON audit.vocabulary FOR SELECT TO audit_reader
  USING (tenant_id = nullif(current_setting('audit.tenant_id', true), ''));
CREATE POLICY verifier_reads ON audit.vocabulary FOR SELECT TO audit_verifier USING (true);
CREATE POLICY maintainer_adds ON audit.vocabulary FOR INSERT TO audit_maintainer WITH CHECK (true);
GRANT SELECT ON audit.vocabulary TO audit_reader, audit_verifier;
GRANT INSERT ON audit.vocabulary TO audit_maintainer;

-- That of the events there are. The owner is under row-level security, but for this statement.
ALTER TABLE audit.events NO FORCE ROW LEVEL SECURITY;
INSERT INTO audit.vocabulary
SELECT DISTINCT e.tenant_id, date_trunc('month', e.occurred_at AT TIME ZONE 'UTC')::date, e.action, e.category, e.actor_type, e.source,
       e.resource_type, t.type
FROM audit.events e CROSS JOIN LATERAL (
  SELECT NULL UNION ALL
  SELECT r ->> 'type' FROM jsonb_array_elements(
    CASE WHEN strpos(e.u_resources, '"related_resources":') > 0 THEN e.u_resources::jsonb -> 'related_resources' END) AS r
) AS t (type)
ORDER BY 1, 2;
ALTER TABLE audit.events FORCE ROW LEVEL SECURITY;

-- A month is never changed once its events are there, so PostgreSQL's autovacuum closes it as it grows: after each twentieth of it
-- the new pages are frozen at once, for ever, marked as seen by all, which counts without opening them need, and analysed.
CREATE OR REPLACE FUNCTION audit.ensure_partition(moment timestamptz) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
DECLARE
  first timestamptz := date_trunc('month', moment);
  next timestamptz := date_trunc('month', moment) + interval '1 month';
  leaf text := 'events_' || to_char(first, 'YYYY_MM');
BEGIN
  IF moment < now() - interval '10 years 2 days' OR moment > now() + interval '2 months' THEN
    RAISE EXCEPTION 'no partition is made for a time so far away' USING ERRCODE = 'invalid_parameter_value';
  END IF;
  PERFORM pg_advisory_xact_lock(7301, 1);
  IF EXISTS (SELECT FROM pg_inherits WHERE inhparent = 'audit.events'::regclass
             AND inhrelid = to_regclass(format('audit.%I', leaf))) THEN
    RETURN leaf;
  END IF;
  EXECUTE format('CREATE TABLE audit.%I (LIKE audit.events INCLUDING ALL) WITH (autovacuum_freeze_min_age = 0,
                  autovacuum_vacuum_insert_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05)', leaf);
  EXECUTE format('ALTER TABLE audit.%I ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', leaf);
  EXECUTE format('CREATE TRIGGER immutable BEFORE UPDATE OR DELETE OR TRUNCATE ON audit.%I
                  FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_change()', leaf);
  EXECUTE format('ALTER TABLE audit.events ATTACH PARTITION audit.%I FOR VALUES FROM (%L) TO (%L)', leaf, first, next);
  RETURN leaf;
END $$;
DO $$
DECLARE
  leaf regclass;
BEGIN
  FOR leaf IN SELECT inhrelid FROM pg_inherits WHERE inhparent = 'audit.events'::regclass LOOP
    EXECUTE format('ALTER TABLE %s SET (autovacuum_freeze_min_age = 0, autovacuum_vacuum_insert_scale_factor = 0.05,
                    autovacuum_analyze_scale_factor = 0.05)', leaf);
  END LOOP;
END $$;

-- PostgreSQL uses no index for operators and functions that are not leakproof where row-level security holds, and neither those of
-- arrays are nor those that hash. audit_finder, which logs in never, is the one role whose policy lets every row pass, and these
-- functions all it is for: of the tenant set for the transaction, as the readers' policy has it, the places of at most so many
-- events of the month with any of these values.
CREATE POLICY finder_finds ON audit.events FOR SELECT TO audit_finder USING (true);
GRANT SELECT (ctid, tenant_id, occurred_at, id, request_id, trace_id, actor_email, u_actor, u_resources) ON audit.events TO audit_finder;
GRANT EXECUTE ON FUNCTION audit.links_of(text, text, text) TO audit_finder, audit_writer;
GRANT USAGE, CREATE ON SCHEMA audit TO audit_finder;
RESET ROLE;

SET ROLE audit_finder;
CREATE FUNCTION audit.find_linked(actors text[], resources text[], month_of timestamptz, most integer)
RETURNS TABLE (tid tid, occurred_at timestamptz, id uuid)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC'
SET enable_bitmapscan = on SET enable_indexscan = off SET enable_seqscan = off AS $$
DECLARE
  of_tenant text := nullif(current_setting('audit.tenant_id', true), '');
  links bigint[] := ARRAY(
    SELECT hashtextextended(a, hashtextextended(of_tenant, 1)) FROM unnest(actors) AS a
    UNION ALL SELECT hashtextextended(r, hashtextextended(of_tenant, 2)) FROM unnest(resources) AS r);
BEGIN
  RETURN QUERY EXECUTE format(
    'SELECT e.ctid, e.occurred_at, e.id FROM audit.events e
     WHERE audit.links_of(e.tenant_id, e.u_actor, e.u_resources) && $1
       AND (strpos(e.u_actor, ''"on_behalf_of":'') > 0 OR strpos(e.u_resources, ''"related_resources":'') > 0)
       AND e.tenant_id = $2 AND e.occurred_at >= %L AND e.occurred_at < %L
     LIMIT $3', date_trunc('month', month_of), date_trunc('month', month_of) + interval '1 month')
  USING links, of_tenant, most;
END $$;
CREATE FUNCTION audit.find_hashed(field text, sought text[], month_of timestamptz, most integer)
RETURNS TABLE (tid tid, occurred_at timestamptz, id uuid)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC'
SET enable_bitmapscan = on SET enable_indexscan = off SET enable_seqscan = off AS $$
DECLARE
  of_tenant text := nullif(current_setting('audit.tenant_id', true), '');
  value text;
BEGIN
  IF field NOT IN ('request_id', 'trace_id', 'actor_email') THEN
    RAISE EXCEPTION 'no such field' USING ERRCODE = 'invalid_parameter_value';
  END IF;
  FOREACH value IN ARRAY sought LOOP
    RETURN QUERY EXECUTE format(
      'SELECT e.ctid, e.occurred_at, e.id FROM audit.events e
       WHERE hashtextextended(e.%1$I, hashtextextended(e.tenant_id, 0)) = $1
         AND e.%1$I = $2 AND e.tenant_id = $3 AND e.occurred_at >= %2$L AND e.occurred_at < %3$L
       LIMIT $4', field, date_trunc('month', month_of), date_trunc('month', month_of) + interval '1 month')
    USING hashtextextended(value, hashtextextended(of_tenant, 0)), value, of_tenant, most;
  END LOOP;
END $$;
REVOKE EXECUTE ON FUNCTION audit.find_linked(text[], text[], timestamptz, integer) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION audit.find_hashed(text, text[], timestamptz, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION audit.find_linked(text[], text[], timestamptz, integer) TO audit_reader;
GRANT EXECUTE ON FUNCTION audit.find_hashed(text, text[], timestamptz, integer) TO audit_reader;
RESET ROLE;

SET ROLE audit_owner;
REVOKE CREATE ON SCHEMA audit FROM audit_finder;
RESET ROLE;
