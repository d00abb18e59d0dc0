-- +goose Up

-- What the subscription allows, as it is told on galley.limits.<customer>. limits_revision is that of the last time it changed, 0 before the
-- first one.
ALTER TABLE billing.subscriptions
    ADD COLUMN max_concurrency int CHECK (max_concurrency BETWEEN 1 AND 1000),
    ADD COLUMN limits_revision bigint NOT NULL DEFAULT 0 CHECK (limits_revision >= 0);

-- Subscriptions that are there allow what their plans say, from now on. The owner of the tables sees every row, for as long as this migration
-- lasts.
ALTER TABLE billing.subscriptions NO FORCE ROW LEVEL SECURITY;
ALTER TABLE billing.plans         NO FORCE ROW LEVEL SECURITY;
UPDATE billing.subscriptions
    SET max_concurrency = (terms -> 'limits' ->> 'max_concurrency')::int, limits_revision = (extract(epoch FROM now()) * 1000000)::bigint
    FROM billing.plans
    WHERE status = 'active' AND plans.plan_id = subscriptions.plan AND plans.version = subscriptions.version
        AND terms -> 'limits' ->> 'max_concurrency' IS NOT NULL;
ALTER TABLE billing.subscriptions FORCE ROW LEVEL SECURITY;
ALTER TABLE billing.plans         FORCE ROW LEVEL SECURITY;

GRANT UPDATE (max_concurrency, limits_revision) ON billing.subscriptions TO galley_billing;
