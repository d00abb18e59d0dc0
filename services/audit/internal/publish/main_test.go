package publish_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/testkit"
	"github.com/galley-engine/galley/services/audit/internal/storedtree"
	"github.com/galley-engine/galley/services/audit/internal/tree"
)

const (
	patience = 30 * time.Second
	tick     = 5 * time.Millisecond
)

func TestMain(m *testing.M) { testkit.Main(m) }

// log signs tree heads of a log.
type log struct {
	testing.TB

	key tree.Key
}

func newLog(tb testing.TB) log {
	tb.Helper()
	key, err := tree.ParseKey(tree.NewKey())
	require.NoError(tb, err)
	return log{tb, key}
}

// head is signed on 2 January, a second later for each leaf. Heads of the same size are the same.
func (l log) head(size int64) storedtree.SignedHead {
	l.Helper()
	head := tree.Head{
		Origin: l.key.Signer.Name(), Size: size, Root: tree.LeafHash(fmt.Append(nil, size)),
		Time: time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC).Add(time.Duration(size) * time.Second),
	}
	signed, err := head.Sign(l.key.Signer)
	require.NoError(l, err)
	return storedtree.SignedHead{Size: size, Note: signed}
}

// publisher holds heads in memory, and fails while it is down.
type publisher struct {
	down  chan struct{} // holds something while it is down
	heads chan storedtree.SignedHead
	has   storedtree.SignedHead
}

func newPublisher() *publisher {
	return &publisher{down: make(chan struct{}, 1), heads: make(chan storedtree.SignedHead, 100)}
}

var errDown = errors.New("it is down")

func (p *publisher) Publish(ctx context.Context, head storedtree.SignedHead) error {
	if len(p.down) > 0 {
		return errDown
	}
	select {
	case p.heads <- head:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (p *publisher) Published(context.Context) (storedtree.SignedHead, error) {
	if len(p.down) > 0 {
		return storedtree.SignedHead{}, errDown
	}
	return p.has, nil
}
