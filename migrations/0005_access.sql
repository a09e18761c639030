-- Purpose: API keys that expire, are rotated and revoked, and are denied units; every role there is.
-- Locks: ACCESS EXCLUSIVE on audit.api_keys, a small table, while its constraint is checked. Old code can run on it: it reads
-- of a key what it did.
SET ROLE audit_owner;

ALTER TABLE audit.api_keys
  DROP CONSTRAINT api_keys_role_check,
  ADD CONSTRAINT api_keys_role_check
    CHECK (role IN ('writer', 'reader', 'exporter', 'auditor', 'tenant_admin', 'operator')),
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

RESET ROLE;
