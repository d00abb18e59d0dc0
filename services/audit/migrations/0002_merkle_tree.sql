-- +goose Up

-- The customer's own count of leaves, as the leaf has it. Rows from before the tree have none.
ALTER TABLE audit.events ADD COLUMN customer_sequence bigint CHECK (customer_sequence > 0);

-- What a leaf commits to and does not hold: the salt of its digest and, for events that are not in the journal, the data. This is the
-- part that can be erased. The log is whole without it.
CREATE TABLE audit.payloads (
    sequence    bigint PRIMARY KEY,
    customer_id text COLLATE "C" NOT NULL,
    salt        bytea  NOT NULL,
    data        bytea
);

-- Complete tiles of the tree, each 256 hashes; see package tree.
CREATE TABLE audit.tiles (
    level  smallint NOT NULL,
    index  bigint   NOT NULL,
    hashes bytea    NOT NULL CHECK (octet_length(hashes) = 8192),
    PRIMARY KEY (level, index)
);
ALTER TABLE audit.tiles ALTER COLUMN hashes SET STORAGE EXTERNAL; -- hashes cannot be compressed

-- Signed tree heads.
CREATE TABLE audit.tree_heads (
    size      bigint      PRIMARY KEY CHECK (size > 0),
    signed_at timestamptz NOT NULL,
    note      text        NOT NULL
);

-- The tree: how many rows are in it, its root, and the hashes of the tiles that are not complete. It holds all rows, but for a moment
-- after this migration.
ALTER TABLE audit.head
    ADD COLUMN tree_size bigint NOT NULL DEFAULT 0,
    ADD COLUMN root      bytea  NOT NULL DEFAULT sha256(''),
    ADD COLUMN edge      bytea  NOT NULL DEFAULT '',
    ADD CHECK (tree_size <= sequence);
ALTER TABLE audit.head ALTER COLUMN edge SET STORAGE EXTERNAL;

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit.tiles
    FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_change();
ALTER TABLE audit.tiles ENABLE ALWAYS TRIGGER append_only;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit.tree_heads
    FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_change();
ALTER TABLE audit.tree_heads ENABLE ALWAYS TRIGGER append_only;
-- What is erased is deleted, row by row; nothing is put in its place.
CREATE TRIGGER append_only BEFORE UPDATE OR TRUNCATE ON audit.payloads
    FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_change();
ALTER TABLE audit.payloads ENABLE ALWAYS TRIGGER append_only;

ALTER TABLE audit.payloads ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY every_row ON audit.payloads TO galley_audit USING (true) WITH CHECK (true);
CREATE POLICY own_rows ON audit.payloads FOR SELECT TO galley_audit_reader
    USING (customer_id = current_setting('app.customer', true) OR current_setting('app.customer', true) = '*');
CREATE POLICY own_rows_to_see ON audit.payloads FOR SELECT TO galley_audit_eraser
    USING (customer_id = current_setting('app.customer', true));
CREATE POLICY own_rows_to_erase ON audit.payloads FOR DELETE TO galley_audit_eraser
    USING (customer_id = current_setting('app.customer', true));
CREATE POLICY own_rows_to_find ON audit.events FOR SELECT TO galley_audit_eraser
    USING (customer_id = current_setting('app.customer', true));

GRANT USAGE ON SCHEMA audit TO galley_audit_eraser;
GRANT SELECT ON audit.events TO galley_audit_eraser;
GRANT SELECT, DELETE ON audit.payloads TO galley_audit_eraser;
GRANT SELECT, INSERT ON audit.payloads, audit.tiles, audit.tree_heads TO galley_audit;
GRANT UPDATE (tree_size, root, edge) ON audit.head TO galley_audit;
GRANT SELECT ON audit.payloads, audit.tiles, audit.tree_heads, audit.head TO galley_audit_reader;
