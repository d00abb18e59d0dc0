-- +goose Up

-- How many charges of the customer wait for credits. It is read with the balance, so that nobody looks for those of a customer who has none.
ALTER TABLE billing.accounts ADD COLUMN waiting integer NOT NULL DEFAULT 0 CHECK (waiting >= 0);
CREATE INDEX accounts_waiting ON billing.accounts (customer_id) WHERE waiting > 0;

-- Every row was within the narrower check: there is nothing to validate.
ALTER TABLE billing.charges
    DROP CONSTRAINT charges_state_check,
    ADD CONSTRAINT charges_state_check CHECK (state IN ('debited', 'refused', 'settled', 'waiting')) NOT VALID;

-- What was decided is decided: only a charge that waits may still be debited. Settling, which sets other columns, does not come by here.
CREATE TRIGGER decided_once BEFORE UPDATE OF debited, balance_after, debit_id, allocation ON billing.charges
    FOR EACH ROW WHEN (OLD.state <> 'waiting') EXECUTE FUNCTION billing.refuse_change();
ALTER TABLE billing.charges ENABLE ALWAYS TRIGGER decided_once;

-- What waits for credits, in the order of place, and what has waited and was decided, until the journal has it. place is that of the accepted
-- event in the journal. A row that is not decided belongs to a charge that waits, and the other way round.
CREATE TABLE billing.waits (
    execution_id uuid        NOT NULL,
    place        bigint      NOT NULL,
    amount       bigint      NOT NULL CHECK (amount > 0),
    until        timestamptz NOT NULL,
    since        timestamptz NOT NULL,
    decided_at   timestamptz,
    customer_id  text COLLATE "C" NOT NULL,
    PRIMARY KEY (execution_id, customer_id)
);
CREATE INDEX waits_queue   ON billing.waits (customer_id, place, execution_id) WHERE decided_at IS NULL;
CREATE INDEX waits_over    ON billing.waits (until)                            WHERE decided_at IS NULL;
CREATE INDEX waits_decided ON billing.waits (decided_at, place, execution_id)  WHERE decided_at IS NOT NULL;

ALTER TABLE billing.waits ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;

CREATE POLICY every_row ON billing.waits TO galley_billing USING (true) WITH CHECK (true);
CREATE POLICY own_rows ON billing.waits FOR SELECT TO galley_billing_reader
    USING (customer_id = current_setting('app.customer', true) OR current_setting('app.customer', true) = '*');

GRANT UPDATE (waiting) ON billing.accounts TO galley_billing;
GRANT UPDATE (debited, balance_after, debit_id, allocation) ON billing.charges TO galley_billing;
GRANT SELECT, INSERT, UPDATE (decided_at), DELETE ON billing.waits TO galley_billing;
GRANT SELECT ON billing.waits TO galley_billing_reader;
