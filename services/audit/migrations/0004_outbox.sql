-- +goose Up

-- Events that belong to a transaction, until they are published (pkg/outbox).
CREATE TABLE audit.outbox (
    id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    subject text  NOT NULL,
    header  jsonb NOT NULL,
    data    bytea NOT NULL
);
GRANT SELECT, UPDATE, DELETE ON audit.outbox TO galley_audit;
-- What is erased is told in the same transaction.
GRANT INSERT ON audit.outbox TO galley_audit_eraser;
