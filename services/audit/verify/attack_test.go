package verify_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/clock"
	"github.com/galley-engine/galley/pkg/testkit"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/subject"
	"github.com/galley-engine/galley/services/audit/internal/audittest"
	"github.com/galley-engine/galley/services/audit/internal/publish"
	"github.com/galley-engine/galley/services/audit/internal/writer"
	"github.com/galley-engine/galley/services/audit/migrations"
	"github.com/galley-engine/galley/services/audit/verify"
)

const (
	patience = 60 * time.Second
	tick     = 5 * time.Millisecond
)

func TestMain(m *testing.M) { testkit.Main(m) }

// written is a log of the real writer, with signed heads that were published.
type written struct {
	*audittest.Env
	rows int
}

func run(tb testing.TB, e *audittest.Env) (stop func()) {
	tb.Helper()
	pool := e.Pool(tb, migrations.Role)
	signer := writer.NewSigner(pool, e.Key, publish.NewNATS(e.Bus), clock.System, zerolog.Nop())
	return audittest.Start(tb, writer.New(pool, e.Bus, signer, clock.System, zerolog.Nop()).Run)
}

// grow has the writer log executions of three customers, three rows each, and twenty activities of cust_004, and waits for the signed head.
func (w *written) grow(tb testing.TB, first, executions int) {
	tb.Helper()
	for customer := range 3 {
		w.rows += len(w.Execute(tb, fmt.Sprintf("cust_%03d", customer), first, executions))
	}
	w.Await(tb, w.rows)
	for i := range 20 {
		w.Activity(tb, "cust_004", fmt.Sprintf("activity-%d-%d", first, i))
	}
	w.rows += 20
	w.Await(tb, w.rows)
	require.Eventually(tb, func() bool {
		head, err := publish.NewNATS(w.Bus).Published(tb.Context())
		return err == nil && head.Size == int64(w.rows)
	}, patience, tick)
}

// write gives a log of 654 rows, the writer stopped: two complete tiles and 142 leaves in the edge, with signed heads of 110, 220 and 654
// rows among others. Rows 91 to 110, 201 to 220 and 635 to 654 are the activities.
func write(tb testing.TB) *written {
	tb.Helper()
	w := &written{Env: audittest.New(tb)}
	stop := run(tb, w.Env)
	w.grow(tb, 0, 10)
	w.grow(tb, 10, 10)
	w.grow(tb, 20, 46)
	stop()
	require.Equal(tb, 654, w.rows)
	return w
}

// clone copies the log, whose writer is stopped, to another database.
func (w *written) clone(tb testing.TB) *written {
	tb.Helper()
	address, err := url.Parse(w.URL)
	require.NoError(tb, err)
	source := strings.TrimPrefix(address.Path, "/")
	name := source + "_" + strings.ToLower(rand.Text())
	address.Path = "/postgres"
	server, err := pgxpool.New(tb.Context(), address.String())
	require.NoError(tb, err)
	_, err = server.Exec(tb.Context(), `SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE datname = $1`, source)
	require.NoError(tb, err)
	_, err = server.Exec(tb.Context(), `CREATE DATABASE `+name+` TEMPLATE `+source)
	require.NoError(tb, err)
	copied := *w.Env
	address.Path = "/" + name
	copied.URL = address.String()
	copied.DB, err = pgxpool.New(tb.Context(), copied.URL)
	require.NoError(tb, err)
	tb.Cleanup(func() {
		copied.DB.Close()
		_, err = server.Exec(context.Background(), `DROP DATABASE `+name+` WITH (FORCE)`)
		assert.NoError(tb, err)
		server.Close()
	})
	return &written{Env: &copied, rows: w.rows}
}

// outside gives all heads that were published.
func (w *written) outside(tb testing.TB) []string {
	tb.Helper()
	stream, err := w.Bus.JS.Stream(tb.Context(), subject.StreamTreeHeads)
	require.NoError(tb, err)
	info, err := stream.Info(tb.Context())
	require.NoError(tb, err)
	var notes []string
	for sequence := max(1, info.State.FirstSeq); sequence <= info.State.LastSeq; sequence++ {
		message, err := stream.GetMsg(tb.Context(), sequence)
		if err == jetstream.ErrMsgNotFound { //nolint:errorlint // it is returned as it is
			continue
		}
		require.NoError(tb, err)
		var head event.TreeHead
		require.NoError(tb, json.Unmarshal(message.Data, &head))
		notes = append(notes, head.Note)
	}
	return notes
}

// do lets the owner of the tables do something, with the triggers off, and switch them on again.
func (w *written) do(tb testing.TB, attack string) {
	tb.Helper()
	for _, statement := range []string{
		`ALTER TABLE audit.events DISABLE TRIGGER ALL`, `ALTER TABLE audit.payloads DISABLE TRIGGER ALL`,
		`ALTER TABLE audit.tiles DISABLE TRIGGER ALL`, `ALTER TABLE audit.tree_heads DISABLE TRIGGER ALL`, attack,
		`ALTER TABLE audit.events ENABLE ALWAYS TRIGGER append_only`, `ALTER TABLE audit.payloads ENABLE ALWAYS TRIGGER append_only`,
		`ALTER TABLE audit.tiles ENABLE ALWAYS TRIGGER append_only`, `ALTER TABLE audit.tree_heads ENABLE ALWAYS TRIGGER append_only`,
	} {
		_, err := w.DB.Exec(tb.Context(), statement)
		require.NoError(tb, err, statement)
	}
}

func (w *written) verify(tb testing.TB, outside []string, skip ...verify.Rows) *verify.Report {
	tb.Helper()
	report, err := verify.Database(tb.Context(), w.DB, verify.Options{Key: w.Key.Public, Published: outside, Skip: skip})
	require.NoError(tb, err)
	return report
}

// place is a finding without its sentence.
type place struct {
	code     verify.Code
	sequence int64
	to       int64
	size     int64
	tile     string
	columns  string
}

func places(tb testing.TB, report *verify.Report) []place {
	tb.Helper()
	var found []place
	for _, f := range report.Findings {
		tb.Log(f)
		p := place{code: f.Code, sequence: f.Sequence, to: f.To, size: f.Size}
		if f.Tile != nil {
			p.tile = fmt.Sprintf("%d/%d", f.Tile.Level, f.Tile.Index)
		}
		for _, column := range f.Columns {
			p.columns += column + " "
		}
		found = append(found, p)
	}
	return found
}

func TestWholeLog(t *testing.T) {
	t.Parallel()
	w := write(t)
	outside := w.outside(t)
	require.GreaterOrEqual(t, len(outside), 3)
	for name, db := range map[string]verify.DB{"superuser": w.DB, "writer": w.Pool(t, migrations.Role)} {
		report, err := verify.Database(t.Context(), db, verify.Options{Key: w.Key.Public, Published: outside})
		require.NoError(t, err)
		require.Empty(t, places(t, report), name)
		assert.True(t, report.Whole())
		assert.EqualValues(t, 654, report.Leaves)
		assert.EqualValues(t, 654, report.Size)
		assert.EqualValues(t, 654, report.SignedSize)
		assert.Equal(t, 4, report.Customers)
		assert.EqualValues(t, len(outside), report.Published)
		assert.EqualValues(t, len(outside), report.Heads)
		assert.EqualValues(t, 60, report.PayloadsChecked)
		assert.EqualValues(t, 594, report.PayloadsElsewhere)
		assert.NotZero(t, report.Root)
		assert.Positive(t, report.Duration)
	}
}

// TestAttacks is what the owner of the tables may do. The log has 654 rows: two complete tiles and 142 leaves in the edge, and signed heads
// of 110, 220 and 654 rows among others.
func TestAttacks(t *testing.T) {
	t.Parallel()
	log := write(t)
	outside := log.outside(t)
	// moved gives rows other sequences, and their payloads.
	moved := func(from, to int, by int) string {
		const statements = `
			UPDATE audit.events SET sequence = sequence + 1000000 WHERE sequence BETWEEN %[1]d AND %[2]d;
			UPDATE audit.events SET sequence = sequence - 1000000 + %[3]d WHERE sequence > 1000000;
			UPDATE audit.payloads SET sequence = sequence + 1000000 WHERE sequence BETWEEN %[1]d AND %[2]d;
			UPDATE audit.payloads SET sequence = sequence - 1000000 + %[3]d WHERE sequence > 1000000;`
		return fmt.Sprintf(statements, from, to, by)
	}
	for name, attack := range map[string]struct {
		do   string
		want []place
	}{
		"edit a leaf": {
			`UPDATE audit.events SET leaf = convert_to(replace(convert_from(leaf, 'UTF8'), 'success', 'failed'), 'UTF8') WHERE sequence = 40`,
			[]place{{code: verify.RowChanged, sequence: 40, columns: "outcome "}},
		},
		"edit a leaf and its columns": {
			`UPDATE audit.events SET leaf = convert_to(replace(convert_from(leaf, 'UTF8'), 'success', 'failed'), 'UTF8'), outcome = 'failed'
				WHERE sequence = 600`,
			[]place{{code: verify.RowChanged, sequence: 600}},
		},
		"give a row to another customer": {
			`UPDATE audit.events SET leaf = convert_to(replace(convert_from(leaf, 'UTF8'), customer_id, 'cust_009'), 'UTF8'),
				customer_id = 'cust_009' WHERE sequence = 40; UPDATE audit.payloads SET customer_id = 'cust_009' WHERE sequence = 40`,
			[]place{{code: verify.RowChanged, sequence: 40, columns: "event_id resource_id "}},
		},
		"spoil a leaf": {
			`UPDATE audit.events SET leaf = leaf || ' ' WHERE sequence = 40`,
			[]place{{code: verify.RowChanged, sequence: 40}},
		},
		"edit columns": {
			`UPDATE audit.events SET outcome = 'failed', occurred_at = occurred_at + interval '1 second' WHERE sequence = 40`,
			[]place{{code: verify.ColumnDiffers, sequence: 40, columns: "outcome occurred_at "}},
		},
		"edit the customer's sequence": {
			`UPDATE audit.events SET customer_sequence = NULL WHERE sequence = 40`,
			[]place{{code: verify.ColumnDiffers, sequence: 40, columns: "customer_sequence "}},
		},
		"delete the last rows": {
			`DELETE FROM audit.events WHERE sequence > 650; DELETE FROM audit.payloads WHERE sequence > 650`,
			[]place{{code: verify.LogTruncated, sequence: 651, to: 654}},
		},
		"delete the last row, and leave its payload": {
			`DELETE FROM audit.events WHERE sequence > 653`,
			[]place{{code: verify.LogTruncated, sequence: 654}},
		},
		"delete a row": {
			`DELETE FROM audit.events WHERE sequence = 300; DELETE FROM audit.payloads WHERE sequence = 300`,
			[]place{{code: verify.RowMissing, sequence: 300}},
		},
		"delete a row, and close the gap": {
			`DELETE FROM audit.events WHERE sequence = 300; DELETE FROM audit.payloads WHERE sequence = 300;` + moved(301, 654, -1),
			[]place{{code: verify.RowMissing, sequence: 300}},
		},
		"put a row in": {
			moved(300, 654, 1) + `INSERT INTO audit.events SELECT (jsonb_populate_record(e, '{"sequence": 300, "event_id": "x"}')).* FROM audit.events AS e WHERE sequence = 299`,
			[]place{{code: verify.RowAdded, sequence: 300}},
		},
		"add a row": {
			`INSERT INTO audit.events SELECT (jsonb_populate_record(e, '{"sequence": 655, "event_id": "x"}')).* FROM audit.events AS e WHERE sequence = 654`,
			[]place{{code: verify.RowAdded, sequence: 655}},
		},
		"add rows far away": {
			`ALTER TABLE audit.events DROP CONSTRAINT events_sequence_check;
				INSERT INTO audit.events SELECT (jsonb_populate_record(e, jsonb_build_object('sequence', s, 'event_id', s))).*
				FROM audit.events AS e, unnest('{0,9000000000000000000}'::bigint[]) AS s WHERE sequence = 654`,
			[]place{{code: verify.RowAdded}, {code: verify.RowAdded, sequence: 9000000000000000000}},
		},
		"swap two rows": {
			moved(40, 40, 100_000) + moved(300, 300, -260) + moved(100_040, 100_040, -99_740),
			[]place{{code: verify.RowsSwapped, sequence: 40, to: 300}},
		},
		"put rows in another order": {
			moved(40, 40, 100_000) + moved(41, 45, -1) + moved(100_040, 100_040, -99_995),
			[]place{{code: verify.RowsSwapped, sequence: 40, to: 45}},
		},
		"delete a range, as a partition": {
			`DELETE FROM audit.events WHERE sequence BETWEEN 100 AND 600; DELETE FROM audit.payloads WHERE sequence BETWEEN 100 AND 600`,
			[]place{{code: verify.RowMissing, sequence: 100, to: 600}},
		},
		"delete a range with its tile": {
			`DELETE FROM audit.events WHERE sequence BETWEEN 257 AND 512; DELETE FROM audit.payloads WHERE sequence BETWEEN 257 AND 512;
				DELETE FROM audit.tiles WHERE level = 0 AND index = 1`,
			[]place{
				{code: verify.RowMissing, sequence: 257, to: 512},
				{code: verify.ChainBroken, sequence: 513},
			},
		},
		"truncate the log": {
			`TRUNCATE audit.events, audit.payloads`,
			[]place{{code: verify.LogTruncated, sequence: 1, to: 654}},
		},
		"truncate the log, and rewind its end": {
			`TRUNCATE audit.events, audit.payloads, audit.tiles; UPDATE audit.head SET sequence = 0, tree_size = 0, root = sha256(''), edge = ''`,
			[]place{{code: verify.LogTruncated, sequence: 1, to: 654}},
		},
		"drop the tables and make them anew, without triggers": {
			`CREATE TABLE audit.copy AS SELECT * FROM audit.events WHERE sequence < 100; DROP TABLE audit.events; ALTER TABLE audit.copy RENAME TO events;
				CREATE TRIGGER append_only BEFORE UPDATE ON audit.events EXECUTE FUNCTION audit.refuse_change()`,
			[]place{
				{code: verify.TriggerDisabled}, {code: verify.RowSecurityDisabled}, {code: verify.LogTruncated, sequence: 100, to: 654},
			},
		},
		"change a tile": {
			`UPDATE audit.tiles SET hashes = set_byte(hashes, 100, get_byte(hashes, 100) # 1) WHERE index = 1`,
			[]place{{code: verify.TileChanged, tile: "0/1"}},
		},
		"delete a tile": {
			`DELETE FROM audit.tiles WHERE index = 0`,
			[]place{{code: verify.TileMissing, tile: "0/0"}},
		},
		"put in a tile": {
			`INSERT INTO audit.tiles SELECT 0, 2, hashes FROM audit.tiles WHERE index = 0; INSERT INTO audit.tiles SELECT 1, 0, hashes FROM audit.tiles WHERE index = 0`,
			[]place{{code: verify.TileChanged, tile: "1/0"}, {code: verify.TileChanged, tile: "0/2"}},
		},
		"change a row and its tile": {
			`UPDATE audit.events SET leaf = convert_to(replace(convert_from(leaf, 'UTF8'), 'success', 'failed'), 'UTF8'), outcome = 'failed'
				WHERE sequence = 40;
			UPDATE audit.tiles SET hashes = substring(hashes FOR 39 * 32) || (SELECT sha256('\x00' || leaf) FROM audit.events WHERE sequence = 40)
				|| substring(hashes FROM 40 * 32 + 1) WHERE index = 0`,
			[]place{
				{code: verify.LogRewritten, sequence: 1, to: 256, tile: "0/0"}, {code: verify.ChainBroken, sequence: 41},
			},
		},
		"change the edge": {
			`UPDATE audit.head SET edge = set_byte(edge, 100, get_byte(edge, 100) # 1)`,
			[]place{{code: verify.EdgeChanged}},
		},
		"change the edge above the leaves": {
			`UPDATE audit.head SET edge = set_byte(edge, octet_length(edge) - 1, get_byte(edge, octet_length(edge) - 1) # 1)`,
			[]place{{code: verify.EdgeChanged}},
		},
		"change the root":         {`UPDATE audit.head SET root = sha256('x')`, []place{{code: verify.EdgeChanged}}},
		"rewind the end":          {`UPDATE audit.head SET sequence = 512, tree_size = 512`, []place{{code: verify.EdgeChanged}}},
		"rewind the sequence":     {`UPDATE audit.head SET tree_size = 512, edge = substring(edge FROM 142 * 32 + 1)`, []place{{code: verify.EdgeChanged}}},
		"move the end on":         {`UPDATE audit.head SET sequence = 4611686018427387904`, []place{{code: verify.EdgeChanged}}},
		"delete the end":          {`DELETE FROM audit.head`, []place{{code: verify.EdgeChanged}}},
		"delete a payload's data": {`UPDATE audit.payloads SET data = NULL WHERE data IS NOT NULL`, nil}, // as erased
		"change a payload": {
			`UPDATE audit.payloads SET data = data || ' ' WHERE sequence IN (SELECT sequence FROM audit.events WHERE event_id = 'activity-0-3')`,
			[]place{{code: verify.PayloadChanged, sequence: -1}},
		},
		"change a salt": {
			`UPDATE audit.payloads SET salt = sha256(salt) WHERE sequence IN (SELECT sequence FROM audit.events WHERE event_id = 'activity-0-3')`,
			[]place{{code: verify.PayloadChanged, sequence: -1}},
		},
		"add a payload": {
			`INSERT INTO audit.payloads VALUES (655, '', '')`, []place{{code: verify.PayloadStray, sequence: 655}},
		},
		"change a payload's customer": {
			`UPDATE audit.payloads SET customer_id = 'x' WHERE sequence = 40`,
			[]place{{code: verify.ColumnDiffers, sequence: 40, columns: "payloads.customer_id "}},
		},
		"delete a tree head": {
			`DELETE FROM audit.tree_heads WHERE size = 220`, []place{{code: verify.HeadMissing, size: 220}},
		},
		"move a tree head": {
			`UPDATE audit.tree_heads SET size = 100000 WHERE size = 220`,
			[]place{{code: verify.HeadMissing, size: 220}, {code: verify.HeadMalformed, size: 100_000}},
		},
		"change a tree head's time": {
			`UPDATE audit.tree_heads SET signed_at = now() + interval '1 hour' WHERE size = 220`, []place{{code: verify.HeadMalformed, size: 220}},
		},
		"change a tree head": {
			`UPDATE audit.tree_heads SET note = replace(note, '220', '221') WHERE size = 220`, []place{{code: verify.HeadNotSigned, size: 220}},
		},
		"switch a trigger off": {`ALTER TABLE audit.tree_heads DROP CONSTRAINT tree_heads_size_check`, nil},
		"repeat a row": {
			`ALTER TABLE audit.events DROP CONSTRAINT events_pkey; DROP INDEX audit.events_event_id;
				INSERT INTO audit.events SELECT * FROM audit.events WHERE sequence = 40`,
			[]place{{code: verify.RowRepeated, sequence: 40}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := log.clone(t)
			w.do(t, attack.do)
			found := places(t, w.verify(t, outside))
			for i := range found { // where the writer put it is not known in advance
				if found[i].code == verify.PayloadChanged {
					found[i].sequence = -1
				}
			}
			assert.Equal(t, attack.want, found)
		})
	}
}
