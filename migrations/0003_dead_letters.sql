-- Purpose: what people do with dead letters: redrive or discard them. A letter's row never changes; what was done is a row
-- beside it, one at most, so a letter is open until it has one.
-- Locks: ACCESS EXCLUSIVE on audit.dead_letters for the moment it takes to add an empty column; no row is rewritten. Old
-- code can run on it: its letters leave the new column empty.
SET ROLE audit_owner;

-- Whether the body is one event of a batch rather than the whole message: what the headers say of the body holds for the
-- message. NULL for letters stored before this column was there.
ALTER TABLE audit.dead_letters ADD COLUMN is_part boolean;

COMMENT ON COLUMN audit.dead_letters.tenant_id IS
  'the tenant the subject names, else the one the event names, if it could be read; it need not exist';

CREATE TABLE audit.dead_letter_actions (
  stream_created timestamptz NOT NULL,
  stream_seq bigint NOT NULL,
  position integer NOT NULL,
  state text NOT NULL CHECK (state IN ('REDRIVEN', 'DISCARDED')),
  acted_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  key_id text NOT NULL,                     -- the API key that did it
  reason text,                              -- why it was discarded
  batch_id bigint,                          -- the batch of its events, or of the event that tells; NULL: nobody to tell
  events jsonb NOT NULL DEFAULT '[]',       -- what it became: tenant_id, event_id, occurred_us, duplicate
  PRIMARY KEY (stream_created, stream_seq, position),
  FOREIGN KEY (stream_created, stream_seq, position) REFERENCES audit.dead_letters,
  CHECK (state <> 'DISCARDED' OR (reason <> '' AND reason IS NOT NULL AND events = '[]')),
  CHECK (state <> 'REDRIVEN' OR (reason IS NULL AND batch_id IS NOT NULL AND events <> '[]'))
);

CREATE TRIGGER immutable BEFORE UPDATE OR DELETE OR TRUNCATE ON audit.dead_letter_actions
  FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_change();

-- The reader sees the letters of the tenants set for the transaction, separated by commas, which tenant ids cannot hold;
-- '*', which is no tenant id, stands for every letter, also those of no known tenant.
CREATE POLICY some_tenants ON audit.dead_letters FOR SELECT TO audit_reader
  USING (current_setting('audit.dead_letters_of', true) = '*'
         OR tenant_id = ANY (string_to_array(nullif(current_setting('audit.dead_letters_of', true), ''), ',')));
ALTER TABLE audit.dead_letter_actions ENABLE ROW LEVEL SECURITY;
CREATE POLICY of_seen_letters ON audit.dead_letter_actions FOR SELECT TO audit_reader
  USING (EXISTS (SELECT FROM audit.dead_letters l
                 WHERE (l.stream_created, l.stream_seq, l.position)
                       = (dead_letter_actions.stream_created, dead_letter_actions.stream_seq, dead_letter_actions.position)));
CREATE POLICY verifier_reads ON audit.dead_letter_actions FOR SELECT TO audit_verifier USING (true);

-- Locks a letter until the transaction ends and tells what it is: OPEN, REDRIVEN or DISCARDED; NULL if there is no such
-- letter. Whoever else wants to do something with it waits here, and then sees what was done.
CREATE FUNCTION audit.lock_dead_letter(of_stream timestamptz, seq bigint, place integer)
RETURNS TABLE (state text, batch_id bigint, events jsonb)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF current_setting('transaction_isolation') <> 'read committed' THEN
    RAISE EXCEPTION 'lock_dead_letter needs READ COMMITTED, or the letter is seen as it was before the lock was had';
  END IF;
  PERFORM FROM audit.dead_letters l
  WHERE l.stream_created = of_stream AND l.stream_seq = seq AND l.position = place FOR UPDATE;
  IF NOT FOUND THEN
    RETURN;
  END IF;
  RETURN QUERY SELECT a.state, a.batch_id, a.events FROM audit.dead_letter_actions a
  WHERE a.stream_created = of_stream AND a.stream_seq = seq AND a.position = place;
  IF NOT FOUND THEN
    RETURN QUERY SELECT 'OPEN', NULL::bigint, '[]'::jsonb;
  END IF;
END $$;

-- Records what was done with a letter: once, for ever.
CREATE FUNCTION audit.settle_dead_letter(of_stream timestamptz, seq bigint, place integer, new_state text,
                                         by_key text, why text, in_batch bigint, became jsonb)
RETURNS void LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  INSERT INTO audit.dead_letter_actions (stream_created, stream_seq, position, state, key_id, reason, batch_id, events)
  VALUES (of_stream, seq, place, new_state, by_key, why, in_batch, became)
$$;

REVOKE EXECUTE ON FUNCTION audit.lock_dead_letter(timestamptz, bigint, integer) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION audit.settle_dead_letter(timestamptz, bigint, integer, text, text, text, bigint, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION audit.lock_dead_letter(timestamptz, bigint, integer) TO audit_writer;
GRANT EXECUTE ON FUNCTION audit.settle_dead_letter(timestamptz, bigint, integer, text, text, text, bigint, jsonb) TO audit_writer;
GRANT SELECT ON audit.dead_letters, audit.dead_letter_actions TO audit_reader;
GRANT SELECT ON audit.dead_letter_actions TO audit_verifier;

RESET ROLE;
