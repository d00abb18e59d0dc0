package publish_test

import (
	"context"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/services/audit/internal/audittest"
	"github.com/galley-engine/galley/services/audit/internal/publish"
	"github.com/galley-engine/galley/services/audit/internal/storedtree"
)

func newAll(l log, places ...*publisher) *publish.All {
	l.Helper()
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

// TestStates: it is known what each place has, and for how long it has been behind or away.
func TestStates(t *testing.T) {
	t.Parallel()
	l := newLog(t)
	up, away := newPublisher(), newPublisher()
	up.has, away.has = l.head(3), l.head(4)
	away.down <- struct{}{}
	var seconds atomic.Int64
	all := newAll(l, up, away).By(func() time.Time { return time.Unix(seconds.Load(), 0) })
	audittest.Start(t, all.Run)
	become := func(want ...publish.State) {
		t.Helper()
		require.Eventually(t, func() bool { return slices.Equal(want, all.States()) }, patience, tick, "%v", want)
	}
	become(publish.State{Place: "a"}, publish.State{Place: "b"})
	_, err := all.Published(t.Context())
	require.NoError(t, err)
	seconds.Store(10)
	become(publish.State{Place: "a", Size: 3}, publish.State{Place: "b", Behind: 10 * time.Second})
	require.NoError(t, all.Publish(t.Context(), l.head(4)))
	become(publish.State{Place: "a", Size: 4}, publish.State{Place: "b", Behind: 10 * time.Second})
	<-away.down
	become(publish.State{Place: "a", Size: 4}, publish.State{Place: "b", Size: 4})

	require.Error(t, all.Publish(t.Context(), l.head(5)), "what it has is to be compared first")
	_, err = all.Published(t.Context())
	require.NoError(t, err)
	up.down <- struct{}{}
	require.NoError(t, all.Publish(t.Context(), l.head(5)))
	become(publish.State{Place: "a", Size: 3}, publish.State{Place: "b", Size: 5})
	seconds.Store(70)
	require.NoError(t, all.Publish(t.Context(), l.head(6)))
	become(publish.State{Place: "a", Size: 3, Behind: time.Minute}, publish.State{Place: "b", Size: 6})
	<-up.down
	become(publish.State{Place: "a", Size: 6}, publish.State{Place: "b", Size: 6})
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
