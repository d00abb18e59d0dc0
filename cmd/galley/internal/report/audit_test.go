package report

import (
	"bytes"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/schemas/audit"
	"github.com/galley-engine/galley/schemas/query"
	"github.com/galley-engine/galley/services/audit/verify"
)

func TestAuditPages(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	r := New(&out, nil)
	r.AuditPage(nil, false)
	r.AuditPage([]query.AuditEvent{
		{Sequence: 8, CustomerID: "alice", ActionType: "recipe.published", ResourceID: "a/b", ActorType: "api_key", Outcome: "success", OccurredAt: at(3)},
		{Sequence: 7, ActionType: "plan.retired", ResourceID: "ev\x1bil", ActorType: "operator", Outcome: "failed", OccurredAt: at(2)},
	}, true)
	require.Equal(t, `  no rows
  … and older ones
  row   time                      customer   action             outcome   by         resource
    7   2026-01-02 03:04:02.005              plan.retired       failed    operator   ev il
    8   2026-01-02 03:04:03.005   alice      recipe.published   success   api_key    a/b
`, out.String())
}

func TestTreeHead(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	r := New(&out, nil)
	signed := at(5)
	r.TreeHead(&query.AuditTreeHeadReply{
		Origin: "log", PublicKey: "log+1+A", Rows: 9, Size: 8, Root: "abc=", SignedAt: &signed, Note: "note", Fault: "no row was signed since x",
	})
	r.TreeHead(&query.AuditTreeHeadReply{Origin: "log", PublicKey: "log+1+A"})
	require.Equal(t, `
  log   9 rows
  signed rows   8
  root          abc=
  signed at     2026-01-02T03:04:05.005Z
  public key    log+1+A
  no row was signed since x

  log   0 rows
  nothing is signed yet
`, out.String())
}

func TestProofs(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	r := New(&out, nil)
	head := verify.Head{Origin: "log", Size: 8, Root: "abc=", Time: at(5)}
	r.Inclusion(&audit.Inclusion{Leaf: `{"v":2}`, Path: [][]byte{{1, 2, 3}, {4}}},
		&verify.Included{Head: head, EventID: "e/1", Index: 4, Payload: verify.PayloadErased}, "key.pub")
	r.Consistency(&verify.Consistent{Older: verify.Head{Origin: "log", Size: 3, Root: "xyz=", Time: at(1)}, Newer: head}, "as given")
	require.Equal(t, `
  e/1   row 5 of log
  PROVED: two implementations agree that it is in the log of this tree head
  rows         8
  root         abc=
  signed at    2026-01-02T03:04:05.005Z
  public key   key.pub
  data         is erased

  Leaf
  {"v":2}

  Path   2 hashes, from the leaf to the root
  AQID
  BA==

  log
  PROVED: the log begins with that of the older tree head; nothing of it was changed
          rows   signed at                  root
  older      3   2026-01-02T03:04:01.005Z   xyz=
  newer      8   2026-01-02T03:04:05.005Z   abc=
  public key   as given
`, out.String())
}

func TestVerification(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	r := New(&out, nil)
	r.Verification(&verify.Report{
		Origin: "log", CustomerID: audit.Everyone, Leaves: 8, Size: 8, Root: "abc=", SignedSize: 7, SignedAt: at(5), Customers: 2, Heads: 3, Published: 1,
		PayloadsChecked: 4, PayloadsElsewhere: 3, PayloadsErased: 1, Duration: 1500 * time.Millisecond,
	}, "key.pub")
	r.Verification(&verify.Report{
		Origin: "log", CustomerID: "alice", Leaves: 2, Size: 8, Duration: time.Microsecond, Unlisted: 3,
		Findings: []verify.Finding{{Code: verify.RowChanged, Message: "row 5 was changed: \x1b[31m"}},
	}, "the server's own word")
	require.Equal(t, `
  log   the whole log
  WHOLE: 8 rows, of a log of 8, read in 1.5s
  root         abc=
  signed       7 rows, at 2026-01-02T03:04:05.005Z
  tree heads   3 of the log, 1 from elsewhere
  data         4 checked, 3 not kept here, 1 erased
  public key   key.pub
  customers    2

  log   customer alice
  NOT WHOLE: 2 rows, of a log of 8, read in 0s
  tree heads   0 of the log, 0 from elsewhere
  data         0 checked, 0 not kept here, 0 erased
  public key   the server's own word

  Findings   4
  ROW_CHANGED row 5 was changed:  [31m
  … and 3 more
`, out.String())
}
