-- +goose Up

-- What a customer has. The ledger is the truth; this is its sum, kept in the same transactions. The row is also the lock under
-- which everything of the customer happens: debits, settles and grants.
CREATE TABLE billing.accounts (
    customer_id text COLLATE "C" PRIMARY KEY,
    balance     bigint      NOT NULL CHECK (balance >= 0),
    created_at  timestamptz NOT NULL
) WITH (fillfactor = 50);

-- What was decided about an execution, once and for all. balance_after is the balance after the decision: what was left by the
-- debit, or what did not cover it. fillfactor leaves room for the one update that a charge gets, so that it touches no index.
CREATE TABLE billing.charges (
    execution_id  uuid        NOT NULL,
    debited       bigint      NOT NULL,
    charged       bigint      NOT NULL,
    balance_after bigint      NOT NULL,
    debit_id      bigint,
    refund_id     bigint,
    created_at    timestamptz NOT NULL,
    settled_at    timestamptz,
    customer_id   text COLLATE "C" NOT NULL,
    state         text COLLATE "C" NOT NULL CHECK (state IN ('debited', 'refused', 'settled')),
    PRIMARY KEY (execution_id, customer_id),
    CHECK (charged >= 0 AND charged <= debited)
) WITH (fillfactor = 50);

-- The ledger. Rows of a customer are written under the lock of the account, so their ids ascend in the order in which they
-- took effect. The key begins with the customer because every query does; ids are unique by their sequence.
CREATE TABLE billing.credit_transactions (
    id            bigint GENERATED ALWAYS AS IDENTITY,
    amount        bigint      NOT NULL,
    balance_after bigint      NOT NULL CHECK (balance_after >= 0),
    created_at    timestamptz NOT NULL,
    execution_id  uuid,
    customer_id   text COLLATE "C" NOT NULL,
    kind          text COLLATE "C" NOT NULL,
    grant_id      text,
    reason        text,
    PRIMARY KEY (customer_id, id),
    CHECK (CASE kind
        WHEN 'debit'  THEN amount < 0 AND execution_id IS NOT NULL
        WHEN 'refund' THEN amount > 0 AND execution_id IS NOT NULL
        WHEN 'grant'  THEN amount > 0 AND grant_id IS NOT NULL
        WHEN 'expire' THEN amount < 0
        WHEN 'adjust' THEN amount <> 0
        ELSE false
    END)
);

-- Which grants were made. A table of its own, so that debits and refunds do not pay for an index of grants.
CREATE TABLE billing.grants (
    customer_id    text COLLATE "C" NOT NULL,
    grant_id       text   NOT NULL,
    transaction_id bigint NOT NULL,
    PRIMARY KEY (customer_id, grant_id)
);

CREATE TABLE billing.outbox (
    id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    subject text  NOT NULL,
    header  jsonb NOT NULL,
    data    bytea NOT NULL
);

-- Nobody changes what is in the ledger, the owner of the table and a replica included.
-- +goose StatementBegin
CREATE FUNCTION billing.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'billing.% is append-only: % refused', TG_TABLE_NAME, TG_OP USING ERRCODE = 'insufficient_privilege';
END
$$;
-- +goose StatementEnd
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON billing.credit_transactions
    FOR EACH ROW EXECUTE FUNCTION billing.refuse_change();
CREATE TRIGGER append_only_truncate BEFORE TRUNCATE ON billing.credit_transactions
    FOR EACH STATEMENT EXECUTE FUNCTION billing.refuse_change();
ALTER TABLE billing.credit_transactions
    ENABLE ALWAYS TRIGGER append_only,
    ENABLE ALWAYS TRIGGER append_only_truncate;

ALTER TABLE billing.accounts            ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE billing.charges             ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE billing.credit_transactions ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE billing.grants              ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;

CREATE POLICY every_row ON billing.accounts            TO galley_billing USING (true) WITH CHECK (true);
CREATE POLICY every_row ON billing.charges             TO galley_billing USING (true) WITH CHECK (true);
CREATE POLICY every_row ON billing.credit_transactions TO galley_billing USING (true) WITH CHECK (true);
CREATE POLICY every_row ON billing.grants              TO galley_billing USING (true) WITH CHECK (true);

CREATE POLICY own_rows ON billing.accounts FOR SELECT TO galley_billing_reader
    USING (customer_id = current_setting('app.customer', true) OR current_setting('app.customer', true) = '*');
CREATE POLICY own_rows ON billing.charges FOR SELECT TO galley_billing_reader
    USING (customer_id = current_setting('app.customer', true) OR current_setting('app.customer', true) = '*');
CREATE POLICY own_rows ON billing.credit_transactions FOR SELECT TO galley_billing_reader
    USING (customer_id = current_setting('app.customer', true) OR current_setting('app.customer', true) = '*');
CREATE POLICY own_rows ON billing.grants FOR SELECT TO galley_billing_reader
    USING (customer_id = current_setting('app.customer', true) OR current_setting('app.customer', true) = '*');

GRANT USAGE ON SCHEMA billing TO galley_billing, galley_billing_reader;
GRANT SELECT, INSERT, UPDATE (balance) ON billing.accounts TO galley_billing;
GRANT SELECT, INSERT, UPDATE (state, charged, refund_id, settled_at) ON billing.charges TO galley_billing;
GRANT SELECT, INSERT ON billing.credit_transactions, billing.grants TO galley_billing;
GRANT USAGE ON SEQUENCE billing.credit_transactions_id_seq TO galley_billing;
GRANT SELECT, INSERT, UPDATE, DELETE ON billing.outbox TO galley_billing;
GRANT SELECT ON billing.accounts, billing.charges, billing.credit_transactions, billing.grants TO galley_billing_reader;
