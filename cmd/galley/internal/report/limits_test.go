package report

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestLimits(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	r := New(&out, nil)
	r.Limits("alice", "customer", new(5), new(1))
	r.Limits("bob", "plan", new(1), new(1))
	r.Limits("carol", "none", nil, nil)
	require.Equal(t, `
  alice
  executions   5 at the same time
  because      set for the customer
  plan         1

  bob
  executions   1 at the same time
  because      what the plan allows

  carol
  executions   any number at the same time
  because      nobody has set a limit
`, out.String())
}
