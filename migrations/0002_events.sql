-- Purpose: tenants, events (partitioned by month), manifests, and the functions that alone may change them.
-- Locks: none on data that exists. Old code can run on it: there is none.
--
-- Functions that run as the owner name pg_temp last in their search path: left out, it is searched first, and a role could
-- put a type or table of its own in the place of one they use.
SET ROLE audit_owner;

-- One row per tenant. `slot` numbers tenants densely: manifests name tenants by it.
CREATE TABLE audit.tenants (
  slot bigint PRIMARY KEY,
  id text COLLATE "C" NOT NULL UNIQUE CHECK (id ~ '^[A-Za-z0-9._:-]{1,128}$'),
  name text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- One row per event. The unit columns hold the exact hashed text (never jsonb, which rewrites it); the filter columns
-- are derived from them and checked against them by `auditlog verify`. Enums are stored by number.
CREATE TABLE audit.events (
  tenant_id text COLLATE "C" NOT NULL,
  occurred_at timestamptz NOT NULL,
  id uuid NOT NULL,
  recorded_at timestamptz NOT NULL,
  batch_id bigint NOT NULL,
  ord integer NOT NULL,                     -- the place in the batch
  kind smallint NOT NULL,                   -- 1 event, 2 made by the service
  hv smallint NOT NULL,                     -- version of the hashed form
  timed boolean NOT NULL,                   -- the id names its own millisecond
  category integer NOT NULL,
  severity integer NOT NULL,
  outcome integer NOT NULL,
  actor_type integer NOT NULL,
  action text COLLATE "C" NOT NULL,
  source text COLLATE "C",
  actor_id text COLLATE "C",
  actor_email text COLLATE "C",
  resource_type text COLLATE "C",
  resource_id text COLLATE "C",
  request_id text COLLATE "C",
  trace_id text COLLATE "C",
  leaf_hash bytea NOT NULL,
  content_mac bytea,                        -- NULL once anything of the event was erased
  salts bytea NOT NULL,                     -- 16 bytes per unit present, in the order of the columns below
  u_actor text,
  u_changes text,
  u_context text,
  u_description text,
  u_facts text NOT NULL,
  u_metadata text,
  u_reason text,
  u_resources text,
  PRIMARY KEY (tenant_id, occurred_at, id)
) PARTITION BY RANGE (occurred_at);

-- Ids that do not name their own millisecond are found by this; it stays small because such ids are rare.
CREATE INDEX events_untimed_id ON audit.events (tenant_id, id) WHERE NOT timed;

-- One row per batch, written in the batch's own transaction: the dense commit order, and the chain over all hashes.
CREATE TABLE audit.manifests (
  batch_no bigint PRIMARY KEY,              -- 0, 1, 2, … without gaps, in commit order
  batch_id bigint NOT NULL UNIQUE,
  n integer NOT NULL,                       -- how many events
  digest bytea NOT NULL,                    -- SHA-256 of the payload and the batch id
  chain bytea NOT NULL,                     -- SHA-256 of number, previous chain and digest
  mac bytea NOT NULL,                       -- HMAC of the chain; its key is not in the database
  payload bytea NOT NULL,                   -- per tenant slot, ascending: u64 slot, u32 count, count leaf hashes
  committed_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
ALTER TABLE audit.manifests ALTER payload SET STORAGE EXTERNAL;

-- Messages that could not become events, each with its reason, kept until somebody deals with them.
CREATE TABLE audit.dead_letters (
  stream_created timestamptz NOT NULL,      -- which incarnation of the stream
  stream_seq bigint NOT NULL,
  position integer NOT NULL,                -- which event of the message
  tenant_id text COLLATE "C",               -- the tenant the subject names, if it names one
  subject text NOT NULL,
  reason text NOT NULL,                     -- a stable UPPER_SNAKE word
  message text NOT NULL,
  violations jsonb NOT NULL DEFAULT '[]',
  headers jsonb NOT NULL DEFAULT '{}',
  body bytea NOT NULL,                      -- the original bytes of this one event, or of the message
  published_at timestamptz NOT NULL,
  received_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (stream_created, stream_seq, position)
);

-- API keys. The secret itself is not stored, only its keyed hash.
CREATE TABLE audit.api_keys (
  id text PRIMARY KEY,
  secret_hash bytea NOT NULL,
  name text NOT NULL,
  role text NOT NULL CHECK (role IN ('writer', 'reader', 'operator')),
  tenant_ids text[],                        -- NULL: every tenant
  created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Says why, to whoever tries. The grants forbid it already; this holds for the owner too.
CREATE FUNCTION audit.refuse_change() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  RAISE EXCEPTION '% of %.% refused: audit records are immutable', TG_OP, TG_TABLE_SCHEMA, TG_TABLE_NAME
    USING ERRCODE = 'insufficient_privilege';
END $$;

CREATE TRIGGER immutable BEFORE UPDATE OR DELETE OR TRUNCATE ON audit.events
  FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_change();
CREATE TRIGGER immutable BEFORE UPDATE OR DELETE OR TRUNCATE ON audit.manifests
  FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_change();
CREATE TRIGGER immutable BEFORE UPDATE OR DELETE OR TRUNCATE ON audit.tenants
  FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_change();
CREATE TRIGGER immutable BEFORE UPDATE OR DELETE OR TRUNCATE ON audit.dead_letters
  FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_change();

-- Row-level security. FORCE: the owner is not above it either.
ALTER TABLE audit.events ENABLE ROW LEVEL SECURITY;
ALTER TABLE audit.events FORCE ROW LEVEL SECURITY;
CREATE POLICY one_tenant ON audit.events FOR SELECT TO audit_reader
  USING (tenant_id = nullif(current_setting('audit.tenant_id', true), ''));
ALTER TABLE audit.tenants ENABLE ROW LEVEL SECURITY;
CREATE POLICY one_tenant ON audit.tenants FOR SELECT TO audit_reader
  USING (id = nullif(current_setting('audit.tenant_id', true), ''));
ALTER TABLE audit.dead_letters ENABLE ROW LEVEL SECURITY;
ALTER TABLE audit.api_keys ENABLE ROW LEVEL SECURITY;

-- Makes the partition of the month that holds `moment`, with row-level security and triggers of its own: the parent's
-- do not protect a leaf that is addressed directly. CREATE then ATTACH blocks neither readers nor writers.
CREATE FUNCTION audit.ensure_partition(moment timestamptz) RETURNS text
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
  EXECUTE format('CREATE TABLE audit.%I (LIKE audit.events INCLUDING ALL)', leaf);
  EXECUTE format('ALTER TABLE audit.%I ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', leaf);
  EXECUTE format('CREATE TRIGGER immutable BEFORE UPDATE OR DELETE OR TRUNCATE ON audit.%I
                  FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_change()', leaf);
  EXECUTE format('ALTER TABLE audit.events ATTACH PARTITION audit.%I FOR VALUES FROM (%L) TO (%L)', leaf, first, next);
  RETURN leaf;
END $$;

-- The partitions there are, oldest first.
CREATE FUNCTION audit.partitions() RETURNS TABLE (starts_at timestamptz, ends_at timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
  SELECT to_date(right(c.relname, 7), 'YYYY_MM')::timestamptz,
         (to_date(right(c.relname, 7), 'YYYY_MM') + interval '1 month')::timestamptz
  FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
  WHERE i.inhparent = 'audit.events'::regclass
  ORDER BY 1
$$;

-- Makes a tenant and returns its slot, or NULL if it exists. Waits for a transaction that is making the same tenant.
CREATE FUNCTION audit.create_tenant(tenant_id text, tenant_name text) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  made bigint;
BEGIN
  PERFORM pg_advisory_xact_lock(7301, 2);
  INSERT INTO audit.tenants (slot, id, name)
  SELECT coalesce(max(t.slot) + 1, 0), tenant_id, tenant_name FROM audit.tenants t
  ON CONFLICT (id) DO NOTHING RETURNING slot INTO made;
  RETURN made;
END $$;

-- Takes the lock that orders commits and tells where the chain stands: the next number and the link before it. The lock
-- is held until the commit is visible, so batch numbers are dense in commit order: whoever sees number k sees all before.
CREATE FUNCTION audit.lock_chain() RETURNS TABLE (next_no bigint, previous_chain bytea)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF current_setting('transaction_isolation') <> 'read committed' THEN
    RAISE EXCEPTION 'lock_chain needs READ COMMITTED, or the chain is read as it was before the lock was had';
  END IF;
  PERFORM pg_advisory_xact_lock(7301, 0);
  RETURN QUERY SELECT m.batch_no + 1, m.chain FROM audit.manifests m ORDER BY m.batch_no DESC LIMIT 1;
  IF NOT FOUND THEN
    RETURN QUERY SELECT 0::bigint, decode(repeat('00', 32), 'hex');
  END IF;
END $$;

-- Writes a batch's manifest at the place lock_chain gave: the last statement before COMMIT. The link is computed here
-- too: a writer in error cannot break the chain.
CREATE FUNCTION audit.append_batch(no bigint, batch_id bigint, n integer, digest bytea, chain bytea, mac bytea, payload bytea)
RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  place record;
BEGIN
  SELECT * INTO place FROM audit.lock_chain();
  IF no <> place.next_no
     OR chain <> sha256('AL1c'::bytea || int2send(0::int2) || int8send(no) || place.previous_chain || digest) THEN
    RAISE EXCEPTION 'the manifest does not continue the chain';
  END IF;
  INSERT INTO audit.manifests (batch_no, batch_id, n, digest, chain, mac, payload)
  VALUES (no, append_batch.batch_id, append_batch.n, append_batch.digest, append_batch.chain, append_batch.mac, append_batch.payload);
END $$;

-- One API key by its id. A function, so that no role can list them.
CREATE FUNCTION audit.find_api_key(key_id text)
RETURNS TABLE (secret_hash bytea, role text, tenant_ids text[])
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT k.secret_hash, k.role, k.tenant_ids FROM audit.api_keys k WHERE k.id = key_id
$$;

REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA audit FROM PUBLIC;
GRANT EXECUTE ON FUNCTION audit.ensure_partition(timestamptz) TO audit_maintainer;
GRANT EXECUTE ON FUNCTION audit.partitions() TO audit_reader, audit_maintainer;
GRANT EXECUTE ON FUNCTION audit.create_tenant(text, text) TO audit_writer;
GRANT EXECUTE ON FUNCTION audit.lock_chain() TO audit_writer;
GRANT EXECUTE ON FUNCTION audit.append_batch(bigint, bigint, integer, bytea, bytea, bytea, bytea) TO audit_writer;
GRANT EXECUTE ON FUNCTION audit.find_api_key(text) TO audit_reader;

GRANT INSERT ON audit.events, audit.dead_letters TO audit_writer;
GRANT SELECT (tenant_id, occurred_at, id, recorded_at, batch_id, ord, leaf_hash, content_mac) ON audit.events TO audit_writer;
GRANT SELECT (batch_id, batch_no, chain) ON audit.manifests TO audit_writer;
GRANT SELECT (slot, id) ON audit.tenants TO audit_writer;
GRANT SELECT (stream_created, stream_seq, position) ON audit.dead_letters TO audit_writer;
GRANT SELECT ON audit.events, audit.tenants TO audit_reader;
GRANT SELECT ON audit.events, audit.tenants, audit.manifests, audit.dead_letters TO audit_verifier;

RESET ROLE;
