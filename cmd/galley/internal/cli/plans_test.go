package cli

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestToJSON(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"a: 1\nb: [x, 2.50, 0.12345678901234567890, true, null, 2027-01-02, \"3\"]": `{"a":1,"b":["x",2.50,0.12345678901234567890,true,null,"2027-01-02","3"]}`,
		`{"a": {"b": -1.5e3}}`: `{"a":{"b":-1.5e3}}`,
	} {
		got, err := toJSON([]byte(text))
		require.NoError(t, err)
		require.Equal(t, want, string(got))
	}
	for text, want := range map[string]string{
		"": "read YAML", "a: [": "read YAML", "a: 1\n---\nb: 2": "one YAML document", "a: 1\na: 2": `line 1: "a" is not a name that is there once`,
		"a: .5": "line 1: write .5 as a decimal", "a:\n- 0x10": "line 2: write 0x10", "a: &x 1\nb: *x": "line 2: anchors", "? [a]\n: 1": "is not a name",
	} {
		_, err := toJSON([]byte(text))
		require.ErrorContains(t, err, want, text)
	}
}

func TestPlanOfTheRepository(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../../../deploy/plans/starter.yaml")
	require.NoError(t, err)
	got, err := toJSON(text)
	require.NoError(t, err)
	require.Contains(t, string(got), `"plan_id":"starter"`)
}
