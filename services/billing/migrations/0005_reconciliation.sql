-- +goose Up

-- What the last reconciliation found, for the operator. Those before it are in the audit log.
CREATE TABLE billing.reconciliation (
    only_row boolean     PRIMARY KEY DEFAULT true CHECK (only_row),
    ended_at timestamptz NOT NULL,
    result   jsonb       NOT NULL
);

ALTER TABLE billing.reconciliation ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;

CREATE POLICY every_row ON billing.reconciliation TO galley_billing USING (true) WITH CHECK (true);
CREATE POLICY operator_reads ON billing.reconciliation FOR SELECT TO galley_billing_reader
    USING (current_setting('app.customer', true) = '*');

GRANT SELECT, INSERT, UPDATE (ended_at, result) ON billing.reconciliation TO galley_billing;
GRANT SELECT ON billing.reconciliation TO galley_billing_reader;
