package recipe

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestReadComponent(t *testing.T) {
	t.Parallel()
	good, err := readComponent("test.kind", []byte(`{"title": "Test", "type": "object", "additionalProperties": false,
		"x-galley": {"meters": ["units"], "charges": true}}`))
	require.NoError(t, err)
	require.JSONEq(t, `{"title": "Test", "type": "object", "additionalProperties": false}`, string(good.With))
	require.True(t, good.closed)
	for text, want := range map[string]string{
		`{"x-galley": {"meters": ["hours"]}}`:                           `there is no meter "hours"`,
		`{"x-galley": {"charges": true}}`:                               "charges without a meter",
		`{"type": "thing"}`:                                             "",
		`{"properties": {"a": {"$ref": "https://example.com/a.json"}}}`: "",
		`[]`:                              "",
		``:                                "",
		`{"x-galley": {"effect": "yes"}}`: "",
	} {
		_, err := readComponent("test.kind", []byte(text))
		require.ErrorContains(t, err, want, text)
	}
}
