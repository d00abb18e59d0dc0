package httpapi_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/services/ingest/internal/catalogue"
)

// key makes a key of a customer whose id is known: "key_<customer>".
func (s *server) key(t *testing.T, customer string) {
	t.Helper()
	_, err := s.admin.Exec(t.Context(), `INSERT INTO ingest.api_keys (key_id, customer_id, hash, name, created_at)
		VALUES ('key_' || $1::text, $1, sha256(convert_to($1, 'UTF8')), 'known', now())`, customer)
	require.NoError(t, err)
}

func TestRevokeKey(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	first := s.customer(t, "alice")
	const path = "/api/v1/customers/alice/keys"
	var second catalogue.IssuedKey
	s.call(t, operatorKey, "POST", path, `{"name":"second"}`).into(t, &second)
	require.Equal(t, 200, s.call(t, second.Secret, "GET", "/api/v1/agents", nil).status)
	require.Equal(t, 403, s.call(t, first, "DELETE", path+"/"+second.KeyID, nil).status)
	require.Equal(t, 403, s.call(t, first, "GET", path, nil).status)
	for range 2 {
		require.Equal(t, 204, s.call(t, operatorKey, "DELETE", path+"/"+second.KeyID, nil).status)
	}
	require.Equal(t, 404, s.call(t, operatorKey, "DELETE", path+"/nobody", nil).status)
	require.Equal(t, 401, s.call(t, second.Secret, "GET", "/api/v1/agents", nil).status)
	require.Equal(t, 200, s.call(t, first, "GET", "/api/v1/agents", nil).status)

	sizes, keys := pages[catalogue.Key](t, s, operatorKey, path+"?limit=1")
	require.Equal(t, []int{1, 1}, sizes)
	for _, key := range keys {
		require.Equal(t, key.KeyID == second.KeyID, key.RevokedAt != nil)
	}
	require.NotContains(t, string(s.call(t, operatorKey, "GET", path, nil).body), "gk_")
}
