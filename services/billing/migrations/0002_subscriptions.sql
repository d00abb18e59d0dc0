-- +goose Up

-- What a customer has subscribed to, as it is now; its history is in the audit log. A customer without a row has never had one.
CREATE TABLE billing.subscriptions (
    customer_id text COLLATE "C" PRIMARY KEY,
    plan        text COLLATE "C" NOT NULL CHECK (plan <> ''),
    status      text COLLATE "C" NOT NULL CHECK (status IN ('active', 'cancelled')),
    features    text[]      NOT NULL,
    created_at  timestamptz NOT NULL,
    updated_at  timestamptz NOT NULL
);

ALTER TABLE billing.subscriptions ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;

CREATE POLICY every_row ON billing.subscriptions TO galley_billing USING (true) WITH CHECK (true);
CREATE POLICY own_rows ON billing.subscriptions FOR SELECT TO galley_billing_reader
    USING (customer_id = current_setting('app.customer', true) OR current_setting('app.customer', true) = '*');

GRANT SELECT, INSERT, UPDATE (plan, status, features, updated_at) ON billing.subscriptions TO galley_billing;
GRANT SELECT ON billing.subscriptions TO galley_billing_reader;
