package publish_test

import (
	"context"
	"testing"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/services/audit/internal/audittest"
	"github.com/galley-engine/galley/services/audit/internal/publish"
	"github.com/galley-engine/galley/services/audit/internal/storedtree"
)

func newAll(l log, places ...*publisher) *publish.All {
	all := publish.NewAll(l.key.Verifier, zerolog.New(zerolog.NewTestWriter(l)))
	for i, p := range places {
		all.Add(string(rune('a'+i)), p)
	}
	return all
}

func TestPublishesEverywhere(t *testing.T) {
	t.Parallel()
	l := newLog(t)
	first, second, dead := newPublisher(), newPublisher(), newPublisher()
	first.has, second.has = l.head(7), l.head(5)
	dead.down <- struct{}{}
	all := newAll(l, first, second, dead)
	audittest.Start(t, all.Run)
	found, err := all.Published(t.Context())
	require.NoError(t, err)
	assert.Equal(t, l.head(7), found)

	require.NoError(t, all.Publish(t.Context(), l.head(7)))
	assert.Equal(t, l.head(7), <-second.heads, "it was behind")
	require.NoError(t, all.Publish(t.Context(), l.head(8)))
	assert.Equal(t, l.head(8), <-first.heads, "and gets nothing that it has")
	assert.Equal(t, l.head(8), <-second.heads)
	assert.Empty(t, dead.heads)

	// One that fails for a while gets the newest when it is back.
	second.down <- struct{}{}
	require.NoError(t, all.Publish(t.Context(), l.head(9)))
	assert.Equal(t, l.head(9), <-first.heads)
	require.NoError(t, all.Publish(t.Context(), l.head(10)))
	assert.Equal(t, l.head(10), <-first.heads)
	<-second.down
	assert.Equal(t, l.head(10), <-second.heads)
}

// TestPlaceThatComesBackIsAskedFirst: what it has may show that the log was rewound.
func TestPlaceThatComesBackIsAskedFirst(t *testing.T) {
	t.Parallel()
	l := newLog(t)
	up, away := newPublisher(), newPublisher()
	up.has, away.has = l.head(3), l.head(1000)
	away.down <- struct{}{}
	all := newAll(l, up, away)
	audittest.Start(t, all.Run)
	found, err := all.Published(t.Context())
	require.NoError(t, err)
	assert.Equal(t, l.head(3), found)
	require.NoError(t, all.Publish(t.Context(), l.head(4)))
	assert.Equal(t, l.head(4), <-up.heads)
	<-away.down
	require.Eventually(t, func() bool { return all.Publish(t.Context(), l.head(5)) != nil }, patience, tick)
	assert.Empty(t, away.heads)
	found, err = all.Published(t.Context())
	require.NoError(t, err)
	assert.Equal(t, l.head(1000), found)
	require.NoError(t, all.Publish(t.Context(), l.head(1001)))
	assert.Equal(t, l.head(1001), <-away.heads)
}

func TestPublishedNeedsOneAnswer(t *testing.T) {
	t.Parallel()
	l := newLog(t)
	p := newPublisher()
	all := newAll(l, p)
	p.down <- struct{}{}
	_, err := all.Published(t.Context())
	require.ErrorIs(t, err, errDown)
	<-p.down
	p.has = newLog(t).head(9)
	found, err := all.Published(t.Context())
	require.NoError(t, err)
	assert.Equal(t, p.has, found, "what does not verify is for the caller to judge")
	other := newPublisher()
	other.has = l.head(2)
	found, err = newAll(l, p, other).Published(t.Context())
	require.NoError(t, err)
	assert.Equal(t, l.head(2), found)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.NoError(t, newAll(l, p).Run(ctx))
	require.NoError(t, publish.NewAll(l.key.Verifier, zerolog.Nop()).Publish(ctx, storedtree.SignedHead{}))
}
