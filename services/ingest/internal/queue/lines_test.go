package queue

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/galley-engine/galley/pkg/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

func names(turns []turn) (found []string) {
	for _, one := range turns {
		found = append(found, fmt.Sprintf("%s%d", one.line.customer, one.sequence))
	}
	return found
}

func small() *content { return &content{subject: "s", data: []byte("x")} }

func TestCustomersTakeTurns(t *testing.T) {
	t.Parallel()
	waiting := newLines(1 << 30)
	for sequence := uint64(1); sequence <= 1000; sequence++ {
		waiting.add("a", sequence, small())
	}
	now := time.Unix(0, 0)
	require.Equal(t, []string{"a1", "a2"}, names(waiting.take(2, now)))
	waiting.add("b", 1001, small())
	waiting.add("c", 1002, small())
	waiting.add("b", 1003, small())
	require.Equal(t, []string{"a3", "b1001", "c1002", "a4", "b1003", "a5"}, names(waiting.take(6, now)))
}

func TestRetriesComeBackAndHoldUpNobody(t *testing.T) {
	t.Parallel()
	waiting := newLines(1 << 30)
	now := time.Unix(0, 0)
	for sequence := uint64(1); sequence <= 1000; sequence++ {
		waiting.add("a", sequence, small())
	}
	waiting.add("b", 1001, small())
	failed := waiting.take(maxRetries+2, now) // one of them is b's
	for _, one := range failed {
		waiting.again(one, now.Add(time.Second))
	}
	require.Empty(t, waiting.take(10, now), "a line in which this many requests fail waits")
	require.Equal(t, uint64(1), waiting.lines["a"].first())
	require.Zero(t, waiting.removable(10))

	now = now.Add(time.Second)
	again := waiting.take(3, now)
	require.ElementsMatch(t, []string{"a1", "a2", "b1001"}, names(again))
	for _, one := range again {
		require.Nil(t, one.content, "what failed does not stay in memory")
		waiting.end(one)
	}
	require.Equal(t, uint64(3), waiting.removable(10).floor)
}

func TestMemoryIsBounded(t *testing.T) {
	t.Parallel()
	limit := 10 * small().size()
	waiting := newLines(limit)
	for sequence := uint64(1); sequence <= 100_000; sequence++ {
		waiting.add("a", sequence, small())
	}
	require.Equal(t, limit, waiting.bytes)
	turns := waiting.take(20, time.Unix(0, 0))
	for i, one := range turns {
		require.Equal(t, i < 10, one.content != nil)
	}
	require.Zero(t, waiting.bytes)
	waiting.add("b", 100_001, small())
	require.NotNil(t, waiting.lines["b"].waiting[0].content, "there is room again")
}

func TestWhatIsRemovedHasEnded(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		waiting := newLines(rapid.IntRange(0, 5000).Draw(t, "bytes"))
		now := time.Unix(0, 0)
		open, stream := map[uint64]string{}, map[uint64]string{}
		var under []turn
		last := uint64(0)
		remove := func() {
			ended := waiting.removable(rapid.IntRange(0, 2).Draw(t, "limit"))
			for sequence, customer := range stream {
				gone := sequence < ended.floor
				for _, one := range ended.customers {
					gone = gone || one.customer == customer && sequence < one.before
				}
				if gone {
					delete(stream, sequence)
					if open[sequence] != "" {
						t.Fatalf("%s%d was removed and had not ended", customer, sequence)
					}
				}
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) {
				customer := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "customer")
				last += uint64(rapid.IntRange(1, 2).Draw(t, "gap")) //nolint:gosec // one or two
				open[last], stream[last] = customer, customer
				waiting.add(customer, last, small())
			},
			"take": func(t *rapid.T) { under = append(under, waiting.take(rapid.IntRange(1, 4).Draw(t, "n"), now)...) },
			"end": func(t *rapid.T) {
				if len(under) == 0 {
					t.Skip()
				}
				i := rapid.IntRange(0, len(under)-1).Draw(t, "which")
				one := under[i]
				under = append(under[:i], under[i+1:]...)
				if rapid.Bool().Draw(t, "again") {
					waiting.again(one, now.Add(time.Second))
					return
				}
				delete(open, one.sequence)
				waiting.end(one)
			},
			"tick":   func(*rapid.T) { now = now.Add(time.Second) },
			"remove": func(*rapid.T) { remove() },
			"": func(t *rapid.T) {
				if waiting.size() != len(open) || waiting.bytes < 0 {
					t.Fatalf("%d requests wait, %d are counted, with %d bytes", len(open), waiting.size(), waiting.bytes)
				}
			},
		})
		for _, one := range under {
			waiting.end(one)
		}
		for waiting.size() > 0 {
			now = now.Add(time.Second)
			for _, one := range waiting.take(100, now) {
				waiting.end(one)
			}
		}
		clear(open)
		remove()
		if len(stream) > 0 || len(waiting.lines) > 0 {
			t.Fatalf("%d requests stay in the stream, %d lines in memory", len(stream), len(waiting.lines))
		}
	})
}
