-- +goose Up
-- The projection of the journal. fillfactor leaves room for the one update that every execution gets, so that it stays on its
-- page and touches no index (no indexed column changes).
CREATE TABLE ingest.executions (
    execution_id   uuid        PRIMARY KEY,
    customer_id    text        NOT NULL,
    agent_id       text        NOT NULL,
    recipe_id      text        NOT NULL,
    recipe_version integer     NOT NULL,
    status         text        NOT NULL CHECK (status IN ('accepted', 'success', 'partial', 'failed')),
    accepted_at    timestamptz NOT NULL,
    completed_at   timestamptz,
    duration_ms    bigint,
    charged        bigint      NOT NULL DEFAULT 0,
    error_code     text        NOT NULL DEFAULT '',
    response       bytea,
    CHECK ((status = 'accepted') = (completed_at IS NULL))
) WITH (fillfactor = 70);

CREATE INDEX executions_by_customer ON ingest.executions (customer_id, accepted_at, execution_id);

CREATE TABLE ingest.positions (
    name     text   PRIMARY KEY,
    sequence bigint NOT NULL
);

ALTER TABLE ingest.executions ENABLE ROW LEVEL SECURITY;
ALTER TABLE ingest.executions FORCE ROW LEVEL SECURITY;
CREATE POLICY every_row ON ingest.executions TO galley_ingest USING (true) WITH CHECK (true);
CREATE POLICY own_rows ON ingest.executions FOR SELECT TO galley_ingest_reader
    USING (customer_id = current_setting('app.customer', true) OR current_setting('app.customer', true) = '*');

GRANT USAGE ON SCHEMA ingest TO galley_ingest, galley_ingest_reader;
GRANT SELECT, INSERT, UPDATE, DELETE ON ingest.executions TO galley_ingest;
GRANT SELECT ON ingest.executions TO galley_ingest_reader;
GRANT SELECT, INSERT, UPDATE ON ingest.positions TO galley_ingest;

-- +goose Down
DROP TABLE ingest.executions, ingest.positions;
