package httpapi_test

import (
	"bytes"
	"compress/gzip"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/services/ingest/internal/httpapi"
)

// places writes what a Problem names as "in:path".
func places(p httpapi.Problem) string {
	texts := make([]string, 0, len(p.Errors))
	for _, place := range p.Errors {
		in := place.In
		if in != "" {
			in += ":"
		}
		texts = append(texts, in+place.Path)
	}
	return strings.Join(texts, " ")
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	key := s.customer(t, "alice")
	const body = `{"agent_id":"cook","recipe_id":"soup"}`
	deep := `{"agent_id":"a","recipe_id":"b","input_data":` + strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000) + "}"
	for name, test := range map[string]struct {
		method, path string
		body         any
		headers      []string
		status       int
		code, places string
	}{
		"malformed":           {"POST", execute, `{"agent_id":`, nil, 400, "INVALID_REQUEST", ""},
		"trailing text":       {"POST", execute, body + "x", nil, 400, "INVALID_REQUEST", ""},
		"empty body":          {"POST", execute, " ", nil, 400, "INVALID_REQUEST", ""},
		"no body":             {"POST", execute, nil, nil, 400, "INVALID_REQUEST", ""},
		"not UTF-8":           {"POST", execute, "{\"agent_id\":\"a\",\"recipe_id\":\"b\",\"input_data\":\"\xff\"}", nil, 400, "INVALID_REQUEST", ""},
		"too deep":            {"POST", execute, deep, nil, 400, "INVALID_REQUEST", ""},
		"array":               {"POST", execute, "[]", nil, 422, "INVALID_REQUEST", ""},
		"null":                {"POST", execute, "null", nil, 422, "INVALID_REQUEST", ""},
		"unknown fields":      {"POST", execute, `{"agent_id":"a","recipe_id":"b","x/~y":1,"input":{}}`, nil, 422, "INVALID_REQUEST", "/input /x~1~0y"},
		"case of fields":      {"POST", execute, `{"Agent_ID":"a","recipe_id":"b"}`, nil, 422, "INVALID_REQUEST", "/Agent_ID /agent_id"},
		"missing fields":      {"POST", execute, `{"agent_id":null}`, nil, 422, "INVALID_REQUEST", "/agent_id /recipe_id"},
		"wrong types":         {"POST", execute, `{"agent_id":1,"recipe_id":[],"version":"1","customer_id":{}}`, nil, 422, "INVALID_REQUEST", "/agent_id /customer_id /recipe_id /version"},
		"fraction":            {"POST", execute, `{"agent_id":"a","recipe_id":"b","version":1.5}`, nil, 422, "INVALID_REQUEST", "/version"},
		"customer with dot":   {"POST", execute, `{"agent_id":"a","recipe_id":"b","customer_id":"a.b"}`, nil, 422, "INVALID_REQUEST", "/customer_id"},
		"other customer":      {"POST", execute, `{"agent_id":"a","recipe_id":"b","customer_id":"bob"}`, nil, 403, "FORBIDDEN", ""},
		"media type":          {"POST", execute, body, []string{"Content-Type", "text/plain"}, 415, "INVALID_REQUEST", ""},
		"form":                {"POST", "/api/v1/recipes", body, []string{"Content-Type", "application/x-www-form-urlencoded"}, 415, "INVALID_REQUEST", ""},
		"compressed":          {"POST", execute, compressed(t), []string{"Content-Encoding", "gzip"}, 415, "INVALID_REQUEST", ""},
		"unknown encoding":    {"POST", execute, body, []string{"Content-Encoding", "x"}, 415, "INVALID_REQUEST", ""},
		"10 MB":               {"POST", execute, bytes.Repeat([]byte(" "), 10<<20), nil, 413, "PAYLOAD_TOO_LARGE", ""},
		"just over 1 MiB":     {"POST", execute, bytes.Repeat([]byte(" "), 1<<20+1), nil, 413, "PAYLOAD_TOO_LARGE", ""},
		"long headers":        {"POST", execute, body, []string{"X-Long", strings.Repeat("x", 32<<10)}, 431, "INVALID_REQUEST", ""},
		"wait is no number":   {"POST", execute, body, []string{"Prefer", "wait=soon"}, 422, "INVALID_REQUEST", "header:/Prefer"},
		"wait is negative":    {"POST", execute, body, []string{"Prefer", "wait=-1"}, 422, "INVALID_REQUEST", "header:/Prefer"},
		"wait is long":        {"POST", execute, body, []string{"Prefer", "wait=301"}, 422, "INVALID_REQUEST", "header:/Prefer"},
		"empty key":           {"POST", execute, body, []string{"Idempotency-Key", ""}, 422, "INVALID_REQUEST", "header:/Idempotency-Key"},
		"long key":            {"POST", execute, body, []string{"Idempotency-Key", strings.Repeat("k", 256)}, 422, "INVALID_REQUEST", "header:/Idempotency-Key"},
		"key in unicode":      {"POST", execute, body, []string{"Idempotency-Key", "schlüssel"}, 422, "INVALID_REQUEST", "header:/Idempotency-Key"},
		"two keys":            {"POST", execute, body, []string{"Idempotency-Key", "a", "Idempotency-Key", "b"}, 422, "INVALID_REQUEST", "header:/Idempotency-Key"},
		"unknown parameter":   {"GET", "/api/v1/executions?color=red", nil, nil, 422, "INVALID_REQUEST", "query:/color"},
		"limit too small":     {"GET", "/api/v1/agents?limit=0", nil, nil, 422, "INVALID_REQUEST", "query:/limit"},
		"limit too large":     {"GET", "/api/v1/recipes?limit=201", nil, nil, 422, "INVALID_REQUEST", "query:/limit"},
		"limit is no number":  {"GET", "/api/v1/credits/transactions?limit=x", nil, nil, 422, "INVALID_REQUEST", "query:/limit"},
		"status unknown":      {"GET", "/api/v1/executions?status=lost", nil, nil, 422, "INVALID_REQUEST", "query:/status"},
		"cursor is no cursor": {"GET", "/api/v1/executions?cursor=%25", nil, nil, 422, "INVALID_REQUEST", "query:/cursor"},
		"cursor of another":   {"GET", "/api/v1/executions?cursor=ImNvb2si", nil, nil, 422, "INVALID_REQUEST", "query:/cursor"},
		"id in unicode":       {"GET", "/api/v1/executions/%C3%BC", nil, nil, 422, "INVALID_REQUEST", "path:/execution_id"},
		"id with wildcard":    {"GET", "/api/v1/recipes/%3E", nil, nil, 422, "INVALID_REQUEST", "path:/recipe_id"},
		"id with dots":        {"GET", "/api/v1/recipes/a.b?agent_id=*&customer_id=a%20b", nil, nil, 422, "INVALID_REQUEST", "query:/customer_id path:/recipe_id query:/agent_id"},
		"two places":          {"GET", "/api/v1/executions?limit=x&recipe_id=a.b", nil, nil, 422, "INVALID_REQUEST", "query:/limit query:/recipe_id"},
		"unknown path":        {"GET", "/api/v1/nothing", nil, nil, 404, "NOT_FOUND", ""},
		"outside the API":     {"GET", "/nothing", nil, nil, 404, "NOT_FOUND", ""},
		"unknown method":      {"DELETE", "/api/v1/recipes", nil, nil, 405, "INVALID_REQUEST", ""},
		"unknown execution":   {"GET", "/api/v1/executions/018f3a5e-0000-7000-8000-000000000000", nil, nil, 404, "NOT_FOUND", ""},
		"no execution id":     {"GET", "/api/v1/executions/nonsense", nil, nil, 404, "NOT_FOUND", ""},
		"unknown recipe":      {"GET", "/api/v1/recipes/stew", nil, nil, 404, "NOT_FOUND", ""},
		"unknown version":     {"GET", "/api/v1/recipes/soup?version=2", nil, nil, 404, "NOT_FOUND", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := s.call(t, key, test.method, test.path, test.body, test.headers...)
			p := got.problem(t)
			require.Equal(t, []any{test.status, test.code, test.places, false}, []any{p.Status, p.Code, places(p), p.Retryable}, string(got.body))
			if got.status != 431 && got.status != 413 { // those are refused before they have a trace
				require.Equal(t, got.header.Get("X-Request-Id"), p.TraceID)
				require.Len(t, p.TraceID, 32)
			}
		})
	}
	for _, id := range []string{"a.b", "a b", "*", ">", "ü", "-a", "", strings.Repeat("a", 65), "a\u0000"} {
		for route, make := range map[string]func() any{
			"/api/v1/agents":         func() any { return map[string]any{"agent_id": id, "customer_id": "alice"} },
			"/api/v1/customers":      func() any { return map[string]any{"customer_id": id, "name": "x"} },
			"/api/v1/credits/grants": func() any { return map[string]any{"customer_id": id, "amount": 1} },
		} {
			p := s.call(t, operatorKey, "POST", route, make()).problem(t)
			require.Equal(t, 422, p.Status)
			require.Contains(t, []string{"/agent_id", "/customer_id"}, places(p), id)
		}
	}
}

// compressed is a body that unpacks to a hundred times its size.
func compressed(t *testing.T) []byte {
	t.Helper()
	var buffer bytes.Buffer
	writer := gzip.NewWriter(&buffer)
	_, err := writer.Write(bytes.Repeat([]byte(" "), 10<<20))
	require.NoError(t, err)
	require.NoError(t, writer.Close())
	return buffer.Bytes()
}

func TestAuthentication(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	key := s.customer(t, "alice")
	for _, authorization := range []string{
		"", "Bearer", "Bearer ", "Basic " + key, key, "Bearer " + key + "x", "Bearer gk_" + strings.Repeat("A", 43), "Bearer " + operatorKey + "x",
		"Bearer " + operatorKey[1:],
	} {
		got := s.call(t, "", "GET", "/api/v1/recipes", nil, "Authorization", authorization)
		p := got.problem(t)
		require.Equal(t, []any{401, "UNAUTHENTICATED", `Bearer realm="galley"`}, []any{p.Status, p.Code, got.header.Get("WWW-Authenticate")})
		require.NotContains(t, string(got.body), "gk_")
	}
	require.Equal(t, 200, s.call(t, "", "GET", "/api/v1/recipes", nil, "Authorization", "bearer  "+key).status)
}

// Whatever arrives on the wire, the server answers or closes, and serves the next caller.
func TestGarbageOnTheWire(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	for name, text := range map[string]string{
		"no HTTP":                "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
		"unknown method":         "BREW /api/v1/recipes HTTP/1.1\r\nHost: x\r\n\r\n",
		"no path":                "GET  HTTP/1.1\r\nHost: x\r\n\r\n",
		"control characters":     "GET /api/v1/recipes/\x01 HTTP/1.1\r\nHost: x\r\n\r\n",
		"bad escape":             "GET /api/v1/recipes/%zz HTTP/1.1\r\nHost: x\r\n\r\n",
		"negative length":        "POST " + execute + " HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
		"length and chunks":      "POST " + execute + " HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"endless chunk":          "POST " + execute + " HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
		"expects much":           "POST " + execute + " HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 99999999\r\n\r\n",
		"absolute address":       "GET http://x:port/api/v1/recipes HTTP/1.1\r\nHost: x\r\n\r\n",
		"header without a colon": "GET /health HTTP/1.1\r\nHost\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			defer func() { require.Equal(t, 200, s.call(t, "", "GET", "/health", nil).status) }()
			var dialer net.Dialer
			conn, err := dialer.DialContext(t.Context(), "tcp", strings.TrimPrefix(s.base, "http://"))
			require.NoError(t, err)
			defer conn.Close() //nolint:errcheck // nothing depends on it
			require.NoError(t, conn.SetDeadline(time.Now().Add(30*time.Second)))
			_, err = conn.Write([]byte(text))
			require.NoError(t, err)
			answer := make([]byte, 4096)
			n, _ := conn.Read(answer)
			require.Regexp(t, `^(HTTP/1\.1 100 Continue\s+)?(HTTP/1\.1 4|$)`, string(answer[:n]))
			require.NotContains(t, string(answer[:n]), "goroutine")
			require.NotContains(t, s.log.String(), "panic")
		})
	}
}
