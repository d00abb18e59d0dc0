-- +goose Up
-- What the watch over stuck executions reads: those that have not ended, the oldest first. An execution that ends in the batch in which it
-- was accepted, as most do, never gets into it.
CREATE INDEX executions_under_way ON ingest.executions (accepted_at, execution_id) WHERE completed_at IS NULL;

-- +goose Down
DROP INDEX ingest.executions_under_way;
