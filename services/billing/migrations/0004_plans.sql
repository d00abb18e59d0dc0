-- +goose Up

-- What the operator offers. A version is never changed: subscriptions name it. terms is its content as it was published, digest the
-- SHA-256 of that, by which the same content is known again.
CREATE TABLE billing.plans (
    plan_id      text COLLATE "C" NOT NULL CHECK (plan_id <> ''),
    version      int         NOT NULL CHECK (version >= 1),
    terms        jsonb       NOT NULL,
    digest       bytea       NOT NULL,
    published_at timestamptz NOT NULL,
    PRIMARY KEY (plan_id, version),
    UNIQUE (plan_id, digest)
);

-- Plans that are closed to new subscriptions, for good.
CREATE TABLE billing.retired_plans (
    plan_id    text COLLATE "C" PRIMARY KEY,
    retired_at timestamptz NOT NULL
);

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON billing.plans
    FOR EACH ROW EXECUTE FUNCTION billing.refuse_change();
CREATE TRIGGER append_only_truncate BEFORE TRUNCATE ON billing.plans
    FOR EACH STATEMENT EXECUTE FUNCTION billing.refuse_change();
ALTER TABLE billing.plans
    ENABLE ALWAYS TRIGGER append_only,
    ENABLE ALWAYS TRIGGER append_only_truncate;

-- A subscription to a published plan has a version and a period; one without is a note, as all of those are that were there before.
-- number counts the subscriptions of the customer that had periods, period the periods of this one. grants are those of the period that goes
-- on: [{"id": ..., "expires": ...}].
ALTER TABLE billing.subscriptions
    ADD COLUMN version       int,
    ADD COLUMN number        int NOT NULL DEFAULT 0 CHECK (number >= 0),
    ADD COLUMN period        int CHECK (period >= 1),
    ADD COLUMN period_start  timestamptz,
    ADD COLUMN period_end    timestamptz,
    ADD COLUMN anchor_day    smallint CHECK (anchor_day BETWEEN 1 AND 31),
    ADD COLUMN time_zone     text COLLATE "C",
    ADD COLUMN grants        jsonb NOT NULL DEFAULT '[]',
    ADD COLUMN cancel_at_end boolean NOT NULL DEFAULT false,
    ADD COLUMN next_plan     text COLLATE "C",
    ADD COLUMN next_version  int,
    ADD FOREIGN KEY (plan, version) REFERENCES billing.plans (plan_id, version),
    ADD FOREIGN KEY (next_plan, next_version) REFERENCES billing.plans (plan_id, version),
    ADD CHECK (CASE WHEN version IS NULL
        THEN num_nonnulls(period, period_start, period_end, anchor_day, time_zone, next_plan, next_version) = 0 AND NOT cancel_at_end
        ELSE num_nulls(period, period_start, period_end, anchor_day, time_zone) = 0 AND period_start < period_end AND number >= 1 END),
    ADD CHECK (num_nulls(next_plan, next_version) IN (0, 2)),
    ADD CHECK (num_nonnulls(next_plan) = 0 OR NOT cancel_at_end);

CREATE INDEX subscriptions_by_end ON billing.subscriptions (period_end, customer_id) WHERE status = 'active' AND version IS NOT NULL;

ALTER TABLE billing.plans         ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE billing.retired_plans ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;

CREATE POLICY every_row ON billing.plans         TO galley_billing USING (true) WITH CHECK (true);
CREATE POLICY every_row ON billing.retired_plans TO galley_billing USING (true) WITH CHECK (true);
-- Plans are nobody's secret.
CREATE POLICY every_row_read ON billing.plans         FOR SELECT TO galley_billing_reader USING (true);
CREATE POLICY every_row_read ON billing.retired_plans FOR SELECT TO galley_billing_reader USING (true);

GRANT SELECT, INSERT ON billing.plans, billing.retired_plans TO galley_billing;
GRANT SELECT ON billing.plans, billing.retired_plans TO galley_billing_reader;
GRANT UPDATE (version, number, period, period_start, period_end, anchor_day, time_zone, grants, cancel_at_end, next_plan, next_version)
    ON billing.subscriptions TO galley_billing;
