-- +goose Up

-- How far debits may bring the balance below 0, below which balance the customer wants to be told, and what was told since a grant
-- last brought the balance back.
ALTER TABLE billing.accounts
    DROP CONSTRAINT accounts_balance_check,
    ADD COLUMN overdraft      bigint  NOT NULL DEFAULT 0 CHECK (overdraft >= 0),
    ADD COLUMN low_balance    bigint  CHECK (low_balance >= 0),
    ADD COLUMN told_low       boolean NOT NULL DEFAULT false,
    ADD COLUMN told_exhausted boolean NOT NULL DEFAULT false;
ALTER TABLE billing.credit_transactions DROP CONSTRAINT credit_transactions_balance_after_check;

-- Which lots a debit took its credits from: lot, amount, lot, amount, and so on, in the order in which they were burnt. The lot 0 is the
-- overdraft, and the last. What a settle gives back is given back from the end, so that what an execution was charged is the beginning.
ALTER TABLE billing.charges ADD COLUMN allocation bigint[] CHECK (cardinality(allocation) % 2 = 0);

-- Grants are lots: what is left of each is burnt down. transaction_id is the number of the lot. repaid went into the overdraft that the
-- customer owed; expired was taken back; unallocated was charged before charges remembered their lots. So, at any time,
-- amount = remaining + repaid + expired + unallocated + what charges hold of the lot.
ALTER TABLE billing.grants
    ADD COLUMN priority    smallint NOT NULL DEFAULT 50 CHECK (priority BETWEEN 0 AND 100),
    ADD COLUMN kind        text COLLATE "C" NOT NULL DEFAULT 'top_up'
        CHECK (kind IN ('monthly', 'top_up', 'promotional', 'rollover', 'proration')),
    ADD COLUMN expires_at  timestamptz,
    ADD COLUMN amount      bigint NOT NULL DEFAULT 0,
    ADD COLUMN remaining   bigint NOT NULL DEFAULT 0,
    ADD COLUMN repaid      bigint NOT NULL DEFAULT 0,
    ADD COLUMN expired     bigint NOT NULL DEFAULT 0,
    ADD COLUMN unallocated bigint NOT NULL DEFAULT 0,
    -- Indexes name this and not remaining, so that burning a lot touches them only when it becomes empty.
    ADD COLUMN open        boolean NOT NULL GENERATED ALWAYS AS (remaining > 0) STORED,
    SET (fillfactor = 50);

-- The owner of the tables sees every row, for as long as this migration lasts.
ALTER TABLE billing.accounts            NO FORCE ROW LEVEL SECURITY;
ALTER TABLE billing.charges             NO FORCE ROW LEVEL SECURITY;
ALTER TABLE billing.credit_transactions NO FORCE ROW LEVEL SECURITY;
ALTER TABLE billing.grants              NO FORCE ROW LEVEL SECURITY;

-- What was granted before becomes lots that never expire and are burnt in the order in which they came: first by the charges that are
-- settled, together, then by each charge whose execution is under way, in the order of the debits. Laid end to end, grants and charges
-- are two lines of credits; a charge holds of a grant what lies beside it.
UPDATE billing.grants SET amount = posted.amount, remaining = posted.amount
    FROM billing.credit_transactions AS posted
    WHERE posted.customer_id = grants.customer_id AND posted.id = grants.transaction_id;

CREATE TEMPORARY TABLE lot ON COMMIT DROP AS
    SELECT customer_id, transaction_id AS id, ends - amount AS begins, ends
    FROM (SELECT *, sum(amount) OVER (PARTITION BY customer_id ORDER BY transaction_id) AS ends FROM billing.grants) AS laid;

CREATE TEMPORARY TABLE settled ON COMMIT DROP AS
    SELECT customer_id, sum(charged) AS total FROM billing.charges WHERE state = 'settled' GROUP BY customer_id;

CREATE TEMPORARY TABLE piece ON COMMIT DROP AS
    SELECT customer_id, execution_id, lot.id AS lot, (LEAST(lot.ends, held.ends) - GREATEST(lot.begins, held.begins))::bigint AS amount
    FROM (SELECT customer_id, execution_id, ends - debited AS begins, ends
        FROM (SELECT customer_id, execution_id, debited, COALESCE(total, 0)
                + sum(debited) OVER (PARTITION BY customer_id ORDER BY debit_id) AS ends
            FROM billing.charges LEFT JOIN settled USING (customer_id)
            WHERE state = 'debited' AND debited > 0) AS laid) AS held
    JOIN lot USING (customer_id)
    WHERE lot.begins < held.ends AND held.begins < lot.ends;

UPDATE billing.grants SET unallocated = LEAST(lot.ends, total) - lot.begins
    FROM lot JOIN settled USING (customer_id)
    WHERE grants.customer_id = lot.customer_id AND grants.transaction_id = lot.id AND lot.begins < total;

UPDATE billing.grants SET remaining = amount - unallocated - COALESCE(
        (SELECT sum(piece.amount) FROM piece WHERE piece.customer_id = grants.customer_id AND piece.lot = grants.transaction_id), 0);

UPDATE billing.charges SET allocation = pieces.allocation
    FROM (SELECT customer_id, execution_id, array_agg(part ORDER BY lot, nth) AS allocation
        FROM piece CROSS JOIN LATERAL (VALUES (1, lot), (2, piece.amount)) AS parts (nth, part)
        GROUP BY customer_id, execution_id) AS pieces
    WHERE charges.customer_id = pieces.customer_id AND charges.execution_id = pieces.execution_id;

ALTER TABLE billing.accounts            FORCE ROW LEVEL SECURITY;
ALTER TABLE billing.charges             FORCE ROW LEVEL SECURITY;
ALTER TABLE billing.credit_transactions FORCE ROW LEVEL SECURITY;
ALTER TABLE billing.grants              FORCE ROW LEVEL SECURITY;

-- A process that knows no lots yet cannot debit any more.
ALTER TABLE billing.charges ADD CHECK (state <> 'debited' OR debited = 0 OR allocation IS NOT NULL);
ALTER TABLE billing.grants
    ALTER COLUMN amount DROP DEFAULT,
    ADD CHECK (remaining >= 0 AND repaid >= 0 AND expired >= 0 AND unallocated >= 0
        AND amount > 0 AND amount >= remaining + repaid + expired + unallocated),
    ADD UNIQUE (customer_id, transaction_id);
CREATE INDEX grants_open ON billing.grants (customer_id) WHERE open;
CREATE INDEX grants_over ON billing.grants (expires_at) WHERE open AND expires_at IS NOT NULL;

GRANT UPDATE (overdraft, low_balance, told_low, told_exhausted) ON billing.accounts TO galley_billing;
GRANT UPDATE (remaining, repaid, expired, expires_at) ON billing.grants TO galley_billing;
