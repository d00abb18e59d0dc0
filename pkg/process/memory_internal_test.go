package process

import (
	"errors"
	"math"
	"runtime/debug"
	"testing"

	"github.com/KimMachineGun/automemlimit/memlimit"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const gib = 1 << 30

func none() (uint64, error) { return 0, memlimit.ErrNoLimit }

func TestMemoryLimit(t *testing.T) {
	t.Parallel()
	unreadable := func() (uint64, error) { return 0, errors.New("no cgroup") }
	huge := memlimit.Limit(math.MaxUint64)
	for name, test := range map[string]struct {
		sources []memlimit.Provider
		want    int64
	}{
		"container on a larger machine":         {[]memlimit.Provider{memlimit.Limit(2 * gib), memlimit.Limit(16 * gib)}, gib},
		"container allowed more than there is":  {[]memlimit.Provider{memlimit.Limit(64 * gib), memlimit.Limit(16 * gib)}, 8 * gib},
		"machine without a limit":               {[]memlimit.Provider{none, memlimit.Limit(16 * gib)}, 8 * gib},
		"cgroup version 1 without a limit":      {[]memlimit.Provider{huge, memlimit.Limit(16 * gib)}, 8 * gib},
		"no Linux":                              {[]memlimit.Provider{unreadable, memlimit.Limit(16 * gib)}, 8 * gib},
		"nothing known":                         {[]memlimit.Provider{unreadable, none}, 0},
		"less than what anything can work with": {[]memlimit.Provider{memlimit.Limit(1 << 20)}, minMemoryLimit},
	} {
		assert.InDelta(t, test.want, memoryLimit(test.sources...), 100, name)
	}
}

// TestTuneMemory changes the process, so it is not parallel.
func TestTuneMemory(t *testing.T) {
	percent, limit := debug.SetGCPercent(100), debug.SetMemoryLimit(-1)
	t.Cleanup(func() {
		debug.SetGCPercent(percent)
		debug.SetMemoryLimit(limit)
	})
	set := func() (int, int64) {
		now := debug.SetGCPercent(100)
		debug.SetGCPercent(now)
		return now, debug.SetMemoryLimit(-1)
	}
	tuneMemory([]string{"GOGC=50", "GOMEMLIMIT=1GiB", "OTHER=1"}, memlimit.Limit(16*gib))
	now, bytes := set()
	require.Equal(t, []int64{100, limit}, []int64{int64(now), bytes}, "what the operator has set stays")
	tuneMemory([]string{"GOGC_=1"}, none)
	now, bytes = set()
	require.Equal(t, []int64{gcPercent, limit}, []int64{int64(now), bytes})
	tuneMemory(nil, memlimit.Limit(16*gib))
	now, bytes = set()
	require.EqualValues(t, gcPercent, now)
	require.InDelta(t, int64(8*gib), bytes, 100)
	TuneMemory(nil)
	_, bytes = set()
	require.Less(t, bytes, int64(math.MaxInt64), "every machine that this runs on tells how much memory it has")
}
