-- Purpose: the writer and the verifier get along without BYPASSRLS, which only a superuser (from PostgreSQL 16 on also a
-- role that has it) can give.
-- Locks: ACCESS EXCLUSIVE on three tables, for the moment CREATE POLICY takes. Old code can run on it.
--
-- The policies let every row pass: the writer's batches hold many tenants' events, and what keeps it from reading what it
-- wrote is that it has SELECT on keys and hashes alone. A writer that bypasses row-level security has the very same.
SET ROLE audit_owner;

CREATE POLICY writer_appends ON audit.events FOR INSERT TO audit_writer WITH CHECK (true);
CREATE POLICY writer_finds_keys ON audit.events FOR SELECT TO audit_writer USING (true);
CREATE POLICY writer_appends ON audit.dead_letters FOR INSERT TO audit_writer WITH CHECK (true);
CREATE POLICY writer_finds_keys ON audit.dead_letters FOR SELECT TO audit_writer USING (true);
CREATE POLICY writer_finds_slots ON audit.tenants FOR SELECT TO audit_writer USING (true);

CREATE POLICY verifier_reads ON audit.events FOR SELECT TO audit_verifier USING (true);
CREATE POLICY verifier_reads ON audit.dead_letters FOR SELECT TO audit_verifier USING (true);
CREATE POLICY verifier_reads ON audit.tenants FOR SELECT TO audit_verifier USING (true);

RESET ROLE;
