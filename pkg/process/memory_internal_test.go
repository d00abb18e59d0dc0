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

func TestCeiling(t *testing.T) {
	t.Parallel()
	unreadable := func() (uint64, error) { return 0, errors.New("no cgroup") }
	for name, test := range map[string]struct {
		sources []memlimit.Provider
		want    int64
	}{
		"container on a larger machine":        {[]memlimit.Provider{memlimit.Limit(2 * gib), memlimit.Limit(16 * gib)}, gib},
		"container allowed more than there is": {[]memlimit.Provider{memlimit.Limit(64 * gib), memlimit.Limit(16 * gib)}, 8 * gib},
		"machine without a limit":              {[]memlimit.Provider{none, memlimit.Limit(16 * gib)}, 8 * gib},
		"a limit that is none":                 {[]memlimit.Provider{memlimit.Limit(math.MaxUint64), memlimit.Limit(16 * gib)}, 8 * gib},
		"no cgroups":                           {[]memlimit.Provider{unreadable, memlimit.Limit(16 * gib)}, 8 * gib},
		"nothing known":                        {[]memlimit.Provider{unreadable, none}, math.MaxInt64},
	} {
		assert.Equal(t, test.want, ceiling(ShareWithPostgres, test.sources...), name)
	}
	assert.EqualValues(t, 12*gib, ceiling(ShareAlone, memlimit.Limit(16*gib)))
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
	TuneMemory([]string{"GOGC=50", "GOMEMLIMIT=1GiB", "OTHER=1"}, ShareAlone)
	now, bytes := set()
	require.Equal(t, []int64{100, limit}, []int64{int64(now), bytes}, "what the operator has set stays")

	TuneMemory([]string{"GOGC_=1", "GOMEMLIMITS=1"}, ShareAlone)
	now, bytes = set()
	require.EqualValues(t, gcPercent, now)
	require.Less(t, bytes, int64(math.MaxInt64), "every machine that this runs on tells how much memory it has")
}
