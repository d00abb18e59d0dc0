package httpapi_test

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestLimits(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	key := s.customer(t, "alice")
	const path = "/api/v1/customers/alice/limits"
	const plan = `"plan":{"max_concurrency":null}`
	for body, want := range map[string]string{
		`{"max_concurrency":5}`:    `{"max_concurrency":5,` + plan + `,"effective":{"max_concurrency":5,"source":"customer"}}`,
		`{"max_concurrency":null}`: `{"max_concurrency":null,` + plan + `,"effective":{"max_concurrency":null,"source":"none"}}`,
		`{}`:                       `{"max_concurrency":null,` + plan + `,"effective":{"max_concurrency":null,"source":"none"}}`,
	} {
		got := s.call(t, operatorKey, "PUT", path, body)
		require.Equal(t, 200, got.status)
		require.JSONEq(t, want, string(got.body))
		for _, reader := range []string{operatorKey, key} {
			got = s.call(t, reader, "GET", path, nil)
			require.Equal(t, 200, got.status)
			require.JSONEq(t, want, string(got.body))
		}
	}
	for _, wrong := range []string{`{"max_concurrency":0}`, `{"max_concurrency":1001}`, `{"max_concurrency":1.5}`, `{"max_concurrency":"5"}`} {
		require.Equal(t, "/max_concurrency", places(s.call(t, operatorKey, "PUT", path, wrong).problem(t)), wrong)
	}
	require.Equal(t, 404, s.call(t, operatorKey, "GET", "/api/v1/customers/nobody/limits", nil).status)
	require.Equal(t, 404, s.call(t, operatorKey, "PUT", "/api/v1/customers/nobody/limits", `{}`).status)
	require.Equal(t, 403, s.call(t, key, "PUT", path, `{}`).status)
}
