package queue

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/testkit"
)

// model is a pipeline that does a number of executions a second, each after it has stood there for a time.
type model struct {
	clock   *testkit.Clock
	rate    float64
	latency time.Duration
	waiting []time.Time
	credit  float64
	through uint64
}

func (m *model) Depth(context.Context) (Depth, error) {
	return Depth{Under: len(m.waiting), Through: m.through}, nil
}

func (m *model) pass(d time.Duration) {
	m.clock.Advance(d)
	m.credit += m.rate * d.Seconds()
	for m.credit >= 1 && len(m.waiting) > 0 && m.clock.Now().Sub(m.waiting[0]) >= m.latency {
		m.waiting, m.credit, m.through = m.waiting[1:], m.credit-1, m.through+1
	}
	m.credit = min(m.credit, m.rate*d.Seconds())
}

// work admits all that the window allows for a while; done is how many executions ended in its second half, and deepest how many stood in
// the pipeline then at most.
func (m *model) work(t *testing.T, limit *window, d time.Duration) (done uint64, deepest int) {
	t.Helper()
	half := m.clock.Now().Add(d / 2)
	for end := m.clock.Now().Add(d); m.clock.Now().Before(end); m.pass(pause) {
		for {
			room, err := limit.open(t.Context())
			require.NoError(t, err)
			if room < minRoom {
				break
			}
			room = min(room, batch)
			limit.admit(room)
			for range room {
				m.waiting = append(m.waiting, m.clock.Now())
			}
		}
		if m.clock.Now().Before(half) {
			done, deepest = m.through, 0
		}
		deepest = max(deepest, len(m.waiting))
	}
	return m.through - done, deepest
}

func TestWindow(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		rate    float64
		latency time.Duration
		// least of the rate must be used, and whoever comes new must not stand behind others for longer than most.
		least float64
		most  time.Duration
	}{
		"fast":                  {rate: 4000, latency: 60 * time.Millisecond, least: 0.97, most: 600 * time.Millisecond},
		"slow machine":          {rate: 1200, latency: 100 * time.Millisecond, least: 0.97, most: 600 * time.Millisecond},
		"many executors":        {rate: 9000, latency: 100 * time.Millisecond, least: 0.97, most: 600 * time.Millisecond},
		"work that takes long":  {rate: 50, latency: 5 * time.Second, least: 0.97, most: time.Hour},
		"a lot that takes long": {rate: 1500, latency: 4 * time.Second, least: 0.9, most: time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := &model{clock: testkit.NewClock(time.Unix(1000, 0)), rate: test.rate, latency: test.latency}
			const span = 2 * time.Minute
			done, deepest := m.work(t, &window{pipeline: m, clock: m.clock.Now}, span)
			used := float64(done) / (test.rate * (span / 2).Seconds())
			require.Greater(t, used, test.least)
			require.Less(t, time.Duration(float64(deepest)/test.rate*float64(time.Second)), test.most)
		})
	}
}

func TestWindowLeavesAShareToTheStream(t *testing.T) {
	t.Parallel()
	now := testkit.NewClock(time.Unix(1000, 0))
	limit := &window{clock: now.Now, rate: 3000}
	// The window is 1200 long, and what came by HTTP alone is more.
	require.Equal(t, 300, limit.size(Depth{Under: 5000}))
	limit.admit(300)
	require.Equal(t, 0, limit.size(Depth{Under: 5000}))
	now.Advance(1900 * time.Millisecond)
	require.Equal(t, 300, limit.size(Depth{Under: 5000}))
}
