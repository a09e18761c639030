-- Purpose: API keys that expire, are rotated and revoked, and are denied units; every role there is.
-- Locks: ACCESS EXCLUSIVE on audit.api_keys, a small table, while its constraint is checked. An old service can run on it: it
-- reads of a key what it did. An old command line can neither make nor revoke keys on it.
SET ROLE audit_owner;

ALTER TABLE audit.api_keys
  DROP CONSTRAINT api_keys_role_check,
  ADD CONSTRAINT api_keys_role_check
    CHECK (role IN ('writer', 'reader', 'exporter', 'auditor', 'tenant_admin', 'operator')),
  ADD CHECK (cardinality(tenant_ids) > 0),  -- a key of no tenant would be seen by everybody
  ADD COLUMN identity text,                 -- the id of the key that was made first for the same identity
  ADD COLUMN masked_units text[] NOT NULL DEFAULT '{}'
    CHECK (masked_units <@ '{actor,changes,context,description,metadata,reason,resources}'::text[]),
  ADD COLUMN expires_at timestamptz,        -- NULL: never
  ADD COLUMN last_used_at timestamptz,      -- to about a minute; NULL: never
  ADD COLUMN revoked_at timestamptz,        -- NULL: it was not
  ADD COLUMN created_by text NOT NULL DEFAULT 'cli';
UPDATE audit.api_keys SET identity = id;
ALTER TABLE audit.api_keys ALTER identity SET NOT NULL;

-- One API key by its id, if it is not revoked. A function, so that no role can list them.
DROP FUNCTION audit.find_api_key(text);
CREATE FUNCTION audit.find_api_key(key_id text)
RETURNS TABLE (secret_hash bytea, identity text, name text, role text, tenant_ids text[], masked_units text[], expires_at timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT k.secret_hash, k.identity, k.name, k.role, k.tenant_ids, k.masked_units, k.expires_at
  FROM audit.api_keys k WHERE k.id = key_id AND k.revoked_at IS NULL
$$;

REVOKE EXECUTE ON FUNCTION audit.find_api_key(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION audit.find_api_key(text) TO audit_reader;


-- What may become of a key, whoever asks, the owner included: it is used, expires earlier, is revoked. Nothing else of it
-- changes, nothing is taken back, and it is never removed.
CREATE FUNCTION audit.refuse_key_change() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF (NEW.id, NEW.identity, NEW.secret_hash, NEW.name, NEW.role, NEW.tenant_ids, NEW.masked_units, NEW.created_at, NEW.created_by)
     IS DISTINCT FROM
     (OLD.id, OLD.identity, OLD.secret_hash, OLD.name, OLD.role, OLD.tenant_ids, OLD.masked_units, OLD.created_at, OLD.created_by)
     OR coalesce(NEW.expires_at, 'infinity') > coalesce(OLD.expires_at, 'infinity')
     OR coalesce(NEW.last_used_at, '-infinity') < coalesce(OLD.last_used_at, '-infinity')
     OR (OLD.revoked_at IS NOT NULL AND NEW.revoked_at IS DISTINCT FROM OLD.revoked_at) THEN
    RAISE EXCEPTION 'API keys are used, expire earlier or are revoked, and change in no other way'
      USING ERRCODE = 'insufficient_privilege';
  END IF;
  RETURN NEW;
END $$;

CREATE TRIGGER few_changes BEFORE UPDATE ON audit.api_keys
  FOR EACH ROW EXECUTE FUNCTION audit.refuse_key_change();
CREATE TRIGGER immutable BEFORE DELETE OR TRUNCATE ON audit.api_keys
  FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_change();

-- The pages of a list, the newest key first; and the keys of an identity.
CREATE INDEX api_keys_by_age ON audit.api_keys (created_at, id);
CREATE INDEX api_keys_of_identity ON audit.api_keys (identity);

-- The reader sees the keys all of whose tenants are set for the transaction, separated by commas, which tenant ids cannot
-- hold; with '*', which is no tenant id, every key, also those that are good for every tenant. Never a hash.
CREATE POLICY seen_tenants ON audit.api_keys FOR SELECT TO audit_reader
  USING (current_setting('audit.keys_of', true) = '*'
         OR tenant_ids <@ string_to_array(nullif(current_setting('audit.keys_of', true), ''), ','));
GRANT SELECT (id, identity, name, role, tenant_ids, masked_units, created_at, created_by, expires_at, last_used_at, revoked_at)
  ON audit.api_keys TO audit_reader;

-- Makes a key, the first of its identity, and returns when; NULL if its id is taken: then nothing is changed.
CREATE FUNCTION audit.create_api_key(key_id text, hash bytea, key_name text, key_role text, of_tenants text[], masked text[],
                                     expires timestamptz, by text)
RETURNS timestamptz LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  INSERT INTO audit.api_keys (id, identity, secret_hash, name, role, tenant_ids, masked_units, expires_at, created_by)
  VALUES (key_id, key_id, hash, key_name, key_role, of_tenants, masked, expires, by)
  ON CONFLICT (id) DO NOTHING RETURNING created_at
$$;

-- Locks the identity of a key until the transaction ends and tells which keys it has; none if there is no such key. Whoever
-- else wants to rotate or revoke one of them waits here, and then sees what was done. Rows are locked in one order
-- everywhere, so nobody waits for each other.
CREATE FUNCTION audit.lock_api_keys(of_key text)
RETURNS TABLE (id text, identity text, name text, role text, tenant_ids text[], masked_units text[], created_at timestamptz,
               created_by text, expires_at timestamptz, last_used_at timestamptz, revoked_at timestamptz)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  whose text;
BEGIN
  IF current_setting('transaction_isolation') <> 'read committed' THEN
    RAISE EXCEPTION 'lock_api_keys needs READ COMMITTED, or the keys are seen as they were before the lock was had';
  END IF;
  SELECT k.identity INTO whose FROM audit.api_keys k WHERE k.id = of_key;
  -- A lock of the identity itself: a row that somebody is just adding to it cannot be locked.
  PERFORM pg_advisory_xact_lock(7302, hashtext(whose));
  PERFORM FROM audit.api_keys k WHERE k.identity = whose ORDER BY k.id FOR UPDATE;
  RETURN QUERY SELECT k.id, k.identity, k.name, k.role, k.tenant_ids, k.masked_units, k.created_at,
                      k.created_by, k.expires_at, k.last_used_at, k.revoked_at
  FROM audit.api_keys k WHERE k.identity = whose ORDER BY k.created_at, k.id;
END $$;

-- Makes another key for the identity of a locked one, with the rights of that one and no others; those of the identity that
-- work now expire at `until`, unless they do so earlier. Returns when the key was made; NULL if its id is taken.
CREATE FUNCTION audit.rotate_api_key(of_key text, key_id text, hash bytea, expires timestamptz, until timestamptz, by text)
RETURNS timestamptz LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  made timestamptz;
BEGIN
  INSERT INTO audit.api_keys (id, identity, secret_hash, name, role, tenant_ids, masked_units, expires_at, created_by)
  SELECT key_id, k.identity, hash, k.name, k.role, k.tenant_ids, k.masked_units, expires, by
  FROM audit.api_keys k WHERE k.id = of_key AND k.revoked_at IS NULL
  ON CONFLICT (id) DO NOTHING RETURNING created_at INTO made;
  IF made IS NOT NULL THEN
    UPDATE audit.api_keys k SET expires_at = until
    WHERE k.identity = (SELECT o.identity FROM audit.api_keys o WHERE o.id = of_key) AND k.id <> key_id
      AND k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > until);
  END IF;
  RETURN made;
END $$;

-- Takes a key away and returns when that was; one that had been revoked stays so from then on.
CREATE FUNCTION audit.revoke_api_key(key_id text) RETURNS timestamptz
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  UPDATE audit.api_keys k SET revoked_at = coalesce(k.revoked_at, clock_timestamp()) WHERE k.id = key_id
  RETURNING k.revoked_at
$$;

-- Notes when keys were last used, all in one statement. Another replica may have noted a later use.
CREATE FUNCTION audit.touch_api_keys(key_ids text[], used timestamptz[]) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  WITH uses AS (
    SELECT k.id, u.at FROM audit.api_keys k JOIN unnest(key_ids, used) AS u (id, at) USING (id)
    WHERE k.last_used_at IS NULL OR k.last_used_at < u.at ORDER BY k.id FOR UPDATE OF k
  )
  UPDATE audit.api_keys k SET last_used_at = uses.at FROM uses WHERE k.id = uses.id AND coalesce(k.last_used_at < uses.at, true)
$$;

REVOKE EXECUTE ON FUNCTION audit.refuse_key_change() FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION audit.create_api_key(text, bytea, text, text, text[], text[], timestamptz, text) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION audit.lock_api_keys(text) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION audit.rotate_api_key(text, text, bytea, timestamptz, timestamptz, text) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION audit.revoke_api_key(text) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION audit.touch_api_keys(text[], timestamptz[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION audit.create_api_key(text, bytea, text, text, text[], text[], timestamptz, text) TO audit_writer;
GRANT EXECUTE ON FUNCTION audit.lock_api_keys(text) TO audit_writer;
GRANT EXECUTE ON FUNCTION audit.rotate_api_key(text, text, bytea, timestamptz, timestamptz, text) TO audit_writer;
GRANT EXECUTE ON FUNCTION audit.revoke_api_key(text) TO audit_writer;
GRANT EXECUTE ON FUNCTION audit.touch_api_keys(text[], timestamptz[]) TO audit_writer;

RESET ROLE;
