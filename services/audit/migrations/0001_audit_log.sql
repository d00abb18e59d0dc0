-- +goose Up

-- The log. leaf is the canonical form of the row, verbatim: it is what the log vouches for, the other columns are there to find
-- it and repeat what it says. sequence is given out by the writer from 1, without a gap.
CREATE TABLE audit.events (
    sequence      bigint      PRIMARY KEY CHECK (sequence > 0),
    occurred_at   timestamptz NOT NULL,
    recorded_at   timestamptz NOT NULL,
    event_id      text COLLATE "C" NOT NULL,
    customer_id   text COLLATE "C" NOT NULL,
    action_type   text COLLATE "C" NOT NULL,
    resource_type text COLLATE "C" NOT NULL,
    resource_id   text COLLATE "C" NOT NULL,
    actor_type    text COLLATE "C" NOT NULL,
    actor_id      text COLLATE "C" NOT NULL,
    outcome       text COLLATE "C" NOT NULL,
    trace_id      text COLLATE "C" NOT NULL,
    leaf          bytea       NOT NULL
);

-- Once by event id. It also finds the rows of an execution, whose event ids all start with "<execution>/": in collation "C" they
-- are one range, so executions need no index by resource. Everything else is rare and has one.
CREATE UNIQUE INDEX events_event_id ON audit.events (event_id);
CREATE INDEX events_customer ON audit.events (customer_id, sequence);
CREATE INDEX events_resource ON audit.events (customer_id, resource_id, sequence) WHERE resource_type <> 'execution';

-- The sequence of the last row. Whoever appends locks it first, so the log has one order and one end.
CREATE TABLE audit.head (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    sequence bigint  NOT NULL
);
INSERT INTO audit.head (sequence) VALUES (0);

-- How far each stream was read, moved on in the transaction that stores the rows.
CREATE TABLE audit.positions (
    name     text COLLATE "C" PRIMARY KEY,
    sequence bigint NOT NULL
);

-- Nobody changes what is in the log, the owner of the table and a replica included. A statement that finds no row is refused too.
-- +goose StatementBegin
CREATE FUNCTION audit.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'audit.% is append-only: % refused', TG_TABLE_NAME, TG_OP USING ERRCODE = 'insufficient_privilege';
END
$$;
-- +goose StatementEnd
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit.events
    FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_change();
ALTER TABLE audit.events ENABLE ALWAYS TRIGGER append_only;

ALTER TABLE audit.events ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY every_row ON audit.events TO galley_audit USING (true) WITH CHECK (true);
CREATE POLICY own_rows ON audit.events FOR SELECT TO galley_audit_reader
    USING (customer_id = current_setting('app.customer', true) OR current_setting('app.customer', true) = '*');

GRANT USAGE ON SCHEMA audit TO galley_audit, galley_audit_reader;
GRANT SELECT, INSERT ON audit.events TO galley_audit;
GRANT SELECT, UPDATE (sequence) ON audit.head TO galley_audit;
GRANT SELECT, INSERT, UPDATE (sequence) ON audit.positions TO galley_audit;
GRANT SELECT ON audit.events TO galley_audit_reader;
