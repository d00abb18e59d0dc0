-- +goose Up
-- How many executions of the customer may be under way at the same time; null: no limit.
ALTER TABLE ingest.customers ADD COLUMN max_concurrency integer CHECK (max_concurrency BETWEEN 1 AND 1000);
GRANT UPDATE (max_concurrency) ON ingest.customers TO galley_ingest_reader;

-- +goose Down
ALTER TABLE ingest.customers DROP COLUMN max_concurrency;
