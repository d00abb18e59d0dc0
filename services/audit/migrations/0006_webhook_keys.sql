-- +goose Up

-- The name of the log's key under which the secret was shown: no other key gives it again. Of the rows from before, those to which something
-- was delivered since they were set last have a secret of the key that signed that. Of the others nothing is known ('', see webhook.adopt).
ALTER TABLE audit.webhooks ADD COLUMN key_name text NOT NULL DEFAULT '';
UPDATE audit.webhooks SET key_name = origin WHERE delivered_at >= updated_at;

GRANT UPDATE (key_name) ON audit.webhooks TO galley_audit, galley_audit_webhook;
