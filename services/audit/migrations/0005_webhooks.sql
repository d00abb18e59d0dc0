-- +goose Up

-- Where customers want tree heads delivered. nonce and the key of the log make the key that deliveries are signed with: nothing in here signs
-- anything by itself. The second half belongs to whoever delivers: what was delivered last, how often it failed since, and from when on it may
-- be tried again.
CREATE TABLE audit.webhooks (
    customer_id      text COLLATE "C" PRIMARY KEY,
    url              text        NOT NULL,
    interval_seconds bigint      NOT NULL CHECK (interval_seconds >= 60),
    nonce            bytea       NOT NULL CHECK (octet_length(nonce) = 16),
    created_at       timestamptz NOT NULL,
    updated_at       timestamptz NOT NULL,

    origin           text        NOT NULL DEFAULT '',
    delivered_size   bigint      NOT NULL DEFAULT 0,
    delivered_at     timestamptz,
    failures         integer     NOT NULL DEFAULT 0,
    last_error       text        NOT NULL DEFAULT '',
    failed_at        timestamptz,
    due_at           timestamptz NOT NULL
);

ALTER TABLE audit.webhooks ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY own_rows ON audit.webhooks TO galley_audit_webhook
    USING (customer_id = current_setting('app.customer', true)) WITH CHECK (customer_id = current_setting('app.customer', true));
CREATE POLICY every_row ON audit.webhooks TO galley_audit USING (true) WITH CHECK (true);

GRANT USAGE ON SCHEMA audit TO galley_audit_webhook;
GRANT SELECT, INSERT, DELETE ON audit.webhooks TO galley_audit_webhook;
GRANT UPDATE (url, interval_seconds, nonce, updated_at, failures, last_error, failed_at, due_at) ON audit.webhooks TO galley_audit_webhook;
GRANT INSERT ON audit.outbox TO galley_audit_webhook;
GRANT SELECT, UPDATE (origin, delivered_size, delivered_at, failures, last_error, failed_at, due_at) ON audit.webhooks TO galley_audit;
