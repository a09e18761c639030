-- Purpose: an export is of the log as it was at one point: the reader may know which batch is the newest, and which of the
-- batches it sees events of came later.
-- Locks: none. Old code can run on it: it does not call these.
SET ROLE audit_owner;

-- The newest batch there is: its number, when it was committed, and its link of the chain; nothing in an empty log. Functions,
-- and no right to read manifests, so that a reader learns of other tenants no more than that something was written.
CREATE FUNCTION audit.newest_batch() RETURNS TABLE (batch_no bigint, committed_at timestamptz, chain bytea)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT m.batch_no, m.committed_at, m.chain FROM audit.manifests m ORDER BY m.batch_no DESC LIMIT 1
$$;

-- Which of some batches came after the one with that number. Who asks has their ids from events it may see.
CREATE FUNCTION audit.batches_after(point bigint, batch_ids bigint[]) RETURNS SETOF bigint
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT m.batch_id FROM audit.manifests m WHERE m.batch_id = ANY (batch_ids) AND m.batch_no > point
$$;

REVOKE EXECUTE ON FUNCTION audit.newest_batch() FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION audit.batches_after(bigint, bigint[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION audit.newest_batch() TO audit_reader;
GRANT EXECUTE ON FUNCTION audit.batches_after(bigint, bigint[]) TO audit_reader;

RESET ROLE;
