package actionsql_test

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/outbound"
	"github.com/galley-engine/galley/pkg/testkit"
	"github.com/galley-engine/galley/schemas/problem"
)

func TestValues(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	_, err := d.admin.Exec(t.Context(), `CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE DOMAIN positive AS int CHECK (VALUE > 0);
		DO $$ DECLARE setting text;
		BEGIN -- what the server would write otherwise
			FOREACH setting IN ARRAY ARRAY['timezone = ''Asia/Tokyo''', 'datestyle = German', 'intervalstyle = sql_standard', 'bytea_output = escape']
			LOOP EXECUTE format('ALTER DATABASE %I SET ', current_database()) || setting;
			END LOOP;
		END $$`)
	require.NoError(t, err)
	for expression, want := range map[string]any{
		"NULL":                          nil,
		"NULL::int":                     nil,
		"true":                          true,
		"'x'::text":                     "x",
		"'ä€\n'::varchar":               "ä€\n",
		"7::smallint":                   7.0,
		"-7":                            -7.0,
		"9007199254740992":              9007199254740992.0,
		"-9007199254740993":             "-9007199254740993",
		"0.5::real":                     0.5,
		"1e300::float8":                 1e300,
		"'NaN'::float8":                 "NaN",
		"'-Infinity'::float8":           "-Infinity",
		"12.50::numeric":                12.5,
		"0.000000000000001::numeric":    1e-15,
		"123456789012345678.5::numeric": "123456789012345678.5",
		"-0.1234567890123456::numeric":  "-0.1234567890123456",
		"'NaN'::numeric":                "NaN",
		"1e400::numeric":                "1" + strings.Repeat("0", 400),
		"'2026-01-02 03:04:05.678901+02'::timestamptz": "2026-01-02T01:04:05.678901Z",
		"'2026-01-02 03:04:05'::timestamp":             "2026-01-02T03:04:05Z",
		"'infinity'::timestamptz":                      "infinity",
		"'0044-03-15 12:00 BC'::timestamp":             "0044-03-15 12:00:00 BC",
		"'2026-01-02'::date":                           "2026-01-02",
		"'03:04:05'::time":                             "03:04:05",
		"'1 day 2 hours'::interval":                    "P1DT2H",
		"'\\x00ff10'::bytea":                           "AP8Q",
		"''::bytea":                                    "",
		`'{"a": [1, null, "x"]}'::jsonb`:               with{"a": []any{1.0, nil, "x"}},
		`'1e999'::json`:                                "1e999",
		"'null'::json":                                 nil,
		"'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'::uuid": "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
		"'ok'::mood":                                   "ok",
		"3::positive":                                  3.0,
		"'10.0.0.0/8'::cidr":                           "10.0.0.0/8",
		"ROW(1, 'a')":                                  "(1,a)",
		"'{}'::int[]":                                  []any{},
		"ARRAY[1, NULL, 3]":                            []any{1.0, nil, 3.0},
		"ARRAY[[1, 2], [3, 4]]":                        []any{[]any{1.0, 2.0}, []any{3.0, 4.0}},
		"'[0:1]={1,2}'::int[]":                         []any{1.0, 2.0},
		"ARRAY[9007199254740993]":                      []any{"9007199254740993"},
		`ARRAY['a', 'NULL', 'null', '', 'a"b\c,{}', ' ', NULL]`: []any{"a", "NULL", "null", "", `a"b\c,{}`, " ", nil},
		"ARRAY[true, false]":                                  []any{true, false},
		`ARRAY['{"a":1}', '"x"', '[]']::jsonb[]`:              []any{with{"a": 1.0}, "x", []any{}},
		"ARRAY['2026-01-02 03:04:05+00']::timestamptz[]":      []any{"2026-01-02T03:04:05Z"},
		"ARRAY['\\x00ff'::bytea]":                             []any{"AP8="},
		"ARRAY['a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid]": []any{"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"},
		"ARRAY['ok', 'sad']::mood[]":                          "{ok,sad}",
		"'{NaN,1}'::float8[]":                                 []any{"NaN", 1.0},
	} {
		t.Run(expression, func(t *testing.T) {
			t.Parallel()
			output := d.ask(t, "SELECT "+expression+" AS v")
			assert.Equal(t, with{"rows": []any{with{"v": want}}, "row_count": 1.0, "truncated": false}, output)
		})
	}
}

func TestParams(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	for _, test := range []struct {
		expression string
		param      any
		want       any
	}{
		{"$1::text", "a'; DROP TABLE x --", "a'; DROP TABLE x --"},
		{"$1::text", nil, nil},
		{"$1::text", 1000000.0, "1000000"},
		{"$1::text", true, "true"},
		{"$1::text", []any{1.0, "a"}, `[1,"a"]`},
		{"$1::int + 1", 41.0, 42.0},
		{"$1::bigint", "9007199254740993", "9007199254740993"},
		{"$1::numeric", 0.1, 0.1},
		{"$1::boolean", false, false},
		{"$1::jsonb", with{"a": []any{1.0}}, with{"a": []any{1.0}}},
		{"$1::jsonb", []any{1.0, nil}, []any{1.0, nil}},
		{"$1::jsonb", `{"b": 2}`, with{"b": 2.0}},
		{"$1::timestamptz", "2026-01-02T03:04:05Z", "2026-01-02T03:04:05Z"},
		{"$1::bytea", "AP8=", "AP8="},
		{"$1::bytea", `\x00ff`, "AP8="},
		{"$1::int[]", []any{1.0, nil, 3.0}, []any{1.0, nil, 3.0}},
		{"$1::int[]", []any{[]any{1.0}, []any{2.0}}, []any{[]any{1.0}, []any{2.0}}},
		{"$1::int[]", []any{}, []any{}},
		{"$1::text[]", []any{`a"b\c,{}`, "NULL", "", true}, []any{`a"b\c,{}`, "NULL", "", "true"}},
		{"$1::jsonb[]", []any{with{"a": "x\"y"}}, []any{with{"a": "x\"y"}}},
		{"$1::bytea[]", []any{"AP8="}, []any{"AP8="}},
		{"3 = ANY($1)", []any{1.0, 3.0}, true},
	} {
		output := d.ask(t, "SELECT "+test.expression+" AS v", test.param)
		assert.Equal(t, []any{with{"v": test.want}}, output["rows"], test.expression)
	}
	assert.Equal(t, []any{with{"a": 1.0, "b": "x"}}, d.ask(t, "SELECT $1::int AS a, $2::text AS b", 1.0, "x")["rows"])
}

func TestStatements(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	_, err := d.admin.Exec(t.Context(), `CREATE TABLE lead (id int PRIMARY KEY, name text NOT NULL,
		twin int REFERENCES lead DEFERRABLE INITIALLY DEFERRED)`)
	require.NoError(t, err)
	write := func(query string, params ...any) (with, error) {
		return execute(t, d.component, with{"dsn": d.dsn, "query": query, "params": params, "read_only": false})
	}
	count := func() any {
		rows, _ := d.ask(t, "SELECT count(*) AS n FROM lead")["rows"].([]any)
		row, _ := rows[0].(with)
		return row["n"]
	}
	output, err := write("INSERT INTO lead VALUES ($1, $2), ($3, $4);", 1.0, "a", 2.0, "b")
	require.NoError(t, err)
	assert.Equal(t, with{"rows": []any{}, "row_count": 2.0, "truncated": false}, output)
	output, err = write("UPDATE lead SET name = upper(name) RETURNING id, name")
	require.NoError(t, err)
	assert.Len(t, output["rows"], 2)
	assert.Equal(t, 2.0, count())

	for query, want := range map[string]struct{ state, text string }{
		"INSERT INTO lead VALUES (1, 'x')":                          {"23505", "lead_pkey"},
		"INSERT INTO lead VALUES (9, NULL)":                         {"23502", "name"},
		"INSERT INTO lead VALUES (9, 'x', 77)":                      {"23503", "lead_twin_fkey"}, // noticed at the commit
		"SELECT 1; SELECT 2":                                        {"42601", "multiple commands"},
		"INSERT INTO lead VALUES (9, 'x'); COMMIT; DROP TABLE lead": {"42601", "multiple commands"},
		"SELEC 1":                    {"42601", "syntax error"},
		"SELECT * FROM nothing":      {"42P01", "nothing"},
		"SELECT 1/0":                 {"22012", "division by zero"},
		"DO $$ BEGIN COMMIT; END $$": {"2D000", "transaction termination"},
		"DO $$ BEGIN RAISE EXCEPTION E'a\\nb\\tc'; END $$": {"P0001", "a b c"},
		"VACUUM":                       {"25001", "VACUUM"},
		"SELECT pg_sleep(0), $1::text": {"", "has 1 parameters"},
		"SELECT 1 AS a, 2 AS a":        {"", "AS"},
	} {
		_, err := write(query)
		code := problem.UpstreamRejected
		if want.state == "" {
			code = problem.ComponentError
		}
		message := requireProblem(t, err, code, false)
		assert.Contains(t, message, want.state)
		assert.Contains(t, message, want.text)
	}
	assert.Equal(t, 2.0, count(), "what fails changes nothing")

	for _, query := range []string{
		"INSERT INTO lead VALUES (9, 'x')", "WITH x AS (DELETE FROM lead RETURNING id) SELECT * FROM x", "CREATE TABLE other ()",
		"SELECT set_config('transaction_read_only', 'off', false)", "SET TRANSACTION READ WRITE",
		"DO $$ BEGIN SET TRANSACTION READ WRITE; DELETE FROM lead; END $$",
	} {
		_, err := execute(t, d.component, with{"dsn": d.dsn, "query": query})
		requireProblem(t, err, problem.UpstreamRejected, false)
	}
	assert.Equal(t, 2.0, count(), "reading changes nothing")
	_, err = execute(t, d.component, with{"dsn": d.dsn, "query": "DELETE FROM lead"})
	assert.Contains(t, requireProblem(t, err, problem.UpstreamRejected, false), "read_only: false")

	// None of these is of any use, and none does any harm.
	for _, query := range []string{
		"COMMIT", "ROLLBACK", "BEGIN", "LISTEN news", "NOTIFY news", "UNLISTEN *", "SET search_path = nowhere", "-- nothing", ";",
		"DECLARE c CURSOR FOR SELECT 1", "DISCARD PLANS", "EXPLAIN SELECT 1", "SHOW server_version", "LOCK TABLE lead", "SAVEPOINT a",
	} {
		_, err := executeIn(t, d.component, with{"dsn": d.dsn, "query": query, "read_only": false}, 30*time.Second)
		require.NoError(t, err, query)
	}
	for _, query := range []string{
		"COPY lead FROM STDIN", "/* a */ COPY lead TO STDOUT", "COPY (SELECT 1) TO STDOUT",
	} {
		_, err := executeIn(t, d.component, with{"dsn": d.dsn, "query": query, "read_only": false}, 30*time.Second)
		assert.Contains(t, requireProblem(t, err, problem.ComponentError, false), "COPY")
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	run := func(query string, maxRows any, readOnly bool) (with, error) {
		return execute(t, d.component, with{"dsn": d.dsn, "query": query, "max_rows": maxRows, "read_only": readOnly})
	}
	for query, want := range map[string]struct {
		limit     any
		count     float64
		truncated bool
	}{
		"SELECT generate_series(1, 100) AS n":       {nil, 100, false},
		"SELECT generate_series(1, 101) AS n":       {nil, 100, true},
		"SELECT generate_series(1, 100000000) AS n": {3.0, 3, true},
		"SELECT generate_series(1, 1000) AS n":      {1000.0, 1000, false},
		"SELECT generate_series(1, 1001) AS n":      {1000.0, 1000, true},
		"SELECT 1 AS n WHERE false":                 {1.0, 0, false},
	} {
		output, err := run(query, want.limit, true)
		require.NoError(t, err)
		assert.Equal(t, want.count, output["row_count"])
		assert.Len(t, output["rows"], int(want.count))
		assert.Equal(t, want.truncated, output["truncated"], query)
	}
	_, err := d.admin.Exec(t.Context(), "CREATE TABLE number (n int, filling text)")
	require.NoError(t, err)
	output, err := run("INSERT INTO number SELECT generate_series(1, 5000) RETURNING n", 2.0, false)
	require.NoError(t, err)
	assert.Equal(t, []any{with{"n": 1.0}, with{"n": 2.0}}, output["rows"])
	assert.Equal(t, true, output["truncated"])

	for _, query := range []string{
		"SELECT repeat('x', 100000) AS x FROM generate_series(1, 6)", "SELECT repeat('x', 600000) AS x", "SELECT repeat('x', 100000000) AS x",
		"INSERT INTO number SELECT 0, repeat('x', 1000) FROM generate_series(1, 600) RETURNING filling",
	} {
		_, err := run(query, 1000.0, false)
		requireProblem(t, err, problem.StateTooLarge, false)
	}
	assert.Equal(t, []any{with{"n": 5000.0}}, d.ask(t, "SELECT count(*) AS n FROM number")["rows"], "all rows or none are written")
}

func TestTimeouts(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	_, err := executeIn(t, d.component, with{"dsn": d.dsn, "query": "SELECT pg_sleep(600)"}, 300*time.Millisecond)
	requireProblem(t, err, problem.Timeout, true)
	require.Eventually(t, func() bool { // the server has stopped too
		var running int
		err := d.admin.QueryRow(t.Context(), "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(600)' AND application_name = 'galley'").
			Scan(&running)
		return err == nil && running == 0
	}, 30*time.Second, 10*time.Millisecond)
	_, err = execute(t, d.component, with{"dsn": d.dsn, "query": "DO $$ BEGIN RAISE EXCEPTION SQLSTATE '57014' USING message = 'stopped'; END $$"})
	requireProblem(t, err, problem.Timeout, true)
}

// TestContention: what other transactions cause is tried again, and does not count against the host.
func TestContention(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	for _, state := range []string{"40001", "40P01", "55P03"} {
		for range 15 {
			_, err := execute(t, d.component, with{
				"dsn": d.dsn, "query": "DO $$ BEGIN RAISE EXCEPTION SQLSTATE '" + state + "' USING message = 'busy'; END $$",
			})
			requireProblem(t, err, problem.Unavailable, true)
		}
	}
	for state, want := range map[string]problem.Error{
		"08006": {Code: problem.Connection, Retryable: true},
		"53300": {Code: problem.Unavailable, Retryable: true},
		"57P03": {Code: problem.Unavailable, Retryable: true},
		"XX000": {Code: problem.UpstreamRejected},
	} {
		_, err := execute(t, d.component, with{
			"dsn": d.dsn, "query": "DO $$ BEGIN RAISE EXCEPTION SQLSTATE '" + state + "' USING message = 'no'; END $$",
		})
		assert.Contains(t, requireProblem(t, err, want.Code, want.Retryable), state)
	}
}

// TestSessionsShareNothing: each call has a session of its own.
func TestSessionsShareNothing(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	_, err := execute(t, d.component, with{"dsn": d.dsn, "query": "SELECT set_config('my.setting', 'hush', false)", "read_only": false})
	require.NoError(t, err)
	assert.Equal(t, []any{with{"v": nil}}, d.ask(t, "SELECT current_setting('my.setting', true) AS v")["rows"])
}

func TestParametersOfTheAddress(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	_, err := d.admin.Exec(t.Context(), "CREATE SCHEMA mine; CREATE TABLE mine.here AS SELECT 1 AS n")
	require.NoError(t, err)
	output, err := execute(t, d.component, with{
		"dsn": d.dsn + "&application_name=leads&search_path=mine%2Cpublic&connect_timeout=30", "query": "SELECT n, current_setting('application_name') AS a FROM here",
	})
	require.NoError(t, err)
	assert.Equal(t, []any{with{"n": 1.0, "a": "leads"}}, output["rows"])
}

func TestTLS(t *testing.T) {
	t.Parallel()
	parsed, err := url.Parse(testkit.Postgres(t))
	require.NoError(t, err)
	encrypted, plain := forward(t, parsed, certificate(t)), forward(t, parsed, nil)
	c := newComponent(t, encrypted, plain)
	output, err := execute(t, c, with{"dsn": dsnOf(encrypted, parsed.Path, "sslmode=require"), "query": "SELECT 1 AS n"})
	require.NoError(t, err)
	assert.Equal(t, 1.0, output["row_count"])
	for _, parameters := range []string{"", "sslmode=verify-full"} {
		_, err = execute(t, c, with{"dsn": dsnOf(encrypted, parsed.Path, parameters), "query": "SELECT 1"})
		assert.Contains(t, requireProblem(t, err, problem.Connection, false), "certificate")
	}
	for _, parameters := range []string{"", "sslmode=require"} {
		_, err = execute(t, c, with{"dsn": dsnOf(plain, parsed.Path, parameters), "query": "SELECT 1"})
		assert.Contains(t, requireProblem(t, err, problem.Connection, false), "TLS")
	}
}

// TestGuard needs no server: an address is refused before anything is sent.
func TestGuard(t *testing.T) {
	t.Parallel()
	c := newComponent(t)
	for _, host := range []string{"127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "10.0.0.1", "169.254.169.254", "0.0.0.0:1", "[fd00::1]"} {
		_, err := execute(t, c, with{"dsn": "postgres://u:hush@" + host + "/db?sslmode=disable", "query": "SELECT 1"})
		requireProblem(t, err, problem.AddressRefused, false)
	}
	require.Error(t, outbound.AllowedHosts{""}.Validate())
}
