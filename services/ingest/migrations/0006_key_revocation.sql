-- +goose Up
-- A key is revoked by whoever may act for its customer, and for good: no row goes back.
GRANT UPDATE (revoked_at) ON ingest.api_keys TO galley_ingest_reader;
CREATE POLICY revoked_for_good ON ingest.api_keys AS RESTRICTIVE FOR UPDATE TO galley_ingest_reader
    USING (revoked_at IS NULL) WITH CHECK (revoked_at IS NOT NULL);

-- +goose Down
DROP POLICY revoked_for_good ON ingest.api_keys;
REVOKE UPDATE (revoked_at) ON ingest.api_keys FROM galley_ingest_reader;
