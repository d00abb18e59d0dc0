-- +goose Up
-- What customers' plans allow, as billing told it last: a copy of the stream LIMITS. A customer may be told of before it is made here.
CREATE TABLE ingest.plan_limits (
    customer_id     ingest.id PRIMARY KEY,
    max_concurrency integer   CHECK (max_concurrency BETWEEN 1 AND 1000),
    revision        bigint    NOT NULL
);

ALTER TABLE ingest.plan_limits ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY every_row ON ingest.plan_limits TO galley_ingest USING (true) WITH CHECK (true);
CREATE POLICY own_rows ON ingest.plan_limits FOR SELECT TO galley_ingest_reader
    USING (customer_id = current_setting('app.customer', true) OR current_setting('app.customer', true) = '*');

GRANT SELECT, INSERT, UPDATE ON ingest.plan_limits TO galley_ingest;
GRANT SELECT ON ingest.plan_limits TO galley_ingest_reader;

-- +goose Down
DROP TABLE ingest.plan_limits;
