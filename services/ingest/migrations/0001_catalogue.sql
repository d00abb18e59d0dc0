-- +goose Up
-- What executions are made of. Two roles: galley_ingest_reader answers the API, always limited to one customer by row-level
-- security (app.customer; '*' reads every row, for authentication, which does not know the customer yet); galley_ingest does
-- batch work and sees nothing of the catalogue but the outbox.
GRANT USAGE ON SCHEMA ingest TO galley_ingest, galley_ingest_reader;

CREATE DOMAIN ingest.id AS text CHECK (VALUE ~ '^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$');

CREATE TABLE ingest.customers (
    customer_id ingest.id   PRIMARY KEY,
    name        text        NOT NULL,
    vars        json        NOT NULL,
    created_at  timestamptz NOT NULL
);

CREATE TABLE ingest.api_keys (
    key_id      ingest.id   PRIMARY KEY,
    customer_id ingest.id   NOT NULL REFERENCES ingest.customers,
    hash        bytea       NOT NULL UNIQUE CHECK (octet_length(hash) = 32),
    name        text        NOT NULL,
    created_at  timestamptz NOT NULL,
    revoked_at  timestamptz
);

CREATE TABLE ingest.agents (
    customer_id ingest.id   NOT NULL REFERENCES ingest.customers,
    agent_id    ingest.id   NOT NULL,
    name        text        NOT NULL,
    description text        NOT NULL,
    created_at  timestamptz NOT NULL,
    PRIMARY KEY (customer_id, agent_id)
);

-- The row is what publications of the recipe lock. latest is 0 only inside the transaction that publishes its first version.
CREATE TABLE ingest.recipes (
    customer_id ingest.id NOT NULL,
    agent_id    ingest.id NOT NULL,
    recipe_id   ingest.id NOT NULL,
    latest      integer   NOT NULL DEFAULT 0 CHECK (latest >= 0),
    PRIMARY KEY (customer_id, agent_id, recipe_id),
    FOREIGN KEY (customer_id, agent_id) REFERENCES ingest.agents
);

-- Immutable: there is no privilege to change or remove a row. document is the canonical JSON that hash was taken of.
CREATE TABLE ingest.recipe_versions (
    customer_id  ingest.id   NOT NULL,
    agent_id     ingest.id   NOT NULL,
    recipe_id    ingest.id   NOT NULL,
    version      integer     NOT NULL CHECK (version > 0),
    hash         bytea       NOT NULL CHECK (octet_length(hash) = 32),
    description  text        NOT NULL,
    document     bytea       NOT NULL,
    published_at timestamptz NOT NULL,
    PRIMARY KEY (customer_id, agent_id, recipe_id, version),
    UNIQUE (customer_id, agent_id, recipe_id, hash),
    FOREIGN KEY (customer_id, agent_id, recipe_id) REFERENCES ingest.recipes
);

CREATE TABLE ingest.outbox (
    id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    subject text  NOT NULL,
    header  jsonb NOT NULL,
    data    bytea NOT NULL
);

-- +goose StatementBegin
DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['customers', 'api_keys', 'agents', 'recipes', 'recipe_versions'] LOOP
        EXECUTE format('ALTER TABLE ingest.%I ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', name);
        EXECUTE format($policy$
            CREATE POLICY own_rows ON ingest.%I TO galley_ingest_reader
            USING (customer_id = current_setting('app.customer', true) OR current_setting('app.customer', true) = '*')
            WITH CHECK (customer_id = current_setting('app.customer', true))$policy$, name);
    END LOOP;
END $$;
-- +goose StatementEnd

GRANT SELECT, INSERT ON ingest.customers, ingest.api_keys, ingest.agents, ingest.recipes, ingest.recipe_versions
   TO galley_ingest_reader;
GRANT UPDATE (vars) ON ingest.customers TO galley_ingest_reader;
GRANT UPDATE (latest) ON ingest.recipes TO galley_ingest_reader;
GRANT INSERT ON ingest.outbox TO galley_ingest_reader;
-- The relay locks the rows that it publishes, which takes the privilege to update them.
GRANT SELECT, UPDATE, DELETE ON ingest.outbox TO galley_ingest;

-- +goose Down
DROP TABLE ingest.outbox, ingest.recipe_versions, ingest.recipes, ingest.agents, ingest.api_keys, ingest.customers;
DROP DOMAIN ingest.id;
