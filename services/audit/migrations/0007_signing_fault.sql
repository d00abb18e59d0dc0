-- +goose Up

-- Why nothing is signed, in the words of the process that signs: the others, which stand by, know it from here. It counts for the log that it
-- was said of, and only for a while, since a process that has died takes nothing back.
CREATE TABLE audit.signing_fault (
    only_row boolean     PRIMARY KEY DEFAULT true CHECK (only_row),
    origin   text        NOT NULL DEFAULT '',
    fault    text        NOT NULL DEFAULT '' CHECK (fault IN ('', 'rewound', 'unanswered', 'failing')),
    told_at  timestamptz NOT NULL DEFAULT now()
);
INSERT INTO audit.signing_fault DEFAULT VALUES;

GRANT SELECT, UPDATE (origin, fault, told_at) ON audit.signing_fault TO galley_audit;
GRANT SELECT ON audit.signing_fault TO galley_audit_reader;
