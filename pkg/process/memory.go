package process

import (
	"math"
	"runtime/debug"
	"runtime/metrics"
	"strings"
	"sync"
	"time"

	"github.com/KimMachineGun/automemlimit/memlimit"
)

const (
	// gcPercent lets the heap grow to five times what is live before it is collected. While what is live is small, tens of megabytes, an
	// execution costs a seventh less CPU. Where it is not, the soft limit counts.
	gcPercent = 400
	// leisure is what a process may take without being thrifty, in bytes: after 100,000 executions, it takes that instead of 2.7 GB, for the
	// same CPU.
	leisure = 1 << 30
	// leisureFactor is how many times what is live a process may take in any case. A limit near to what is live would have the collector
	// run all the time.
	leisureFactor = 2
	// memoryInterval is how often the soft limit follows what is live.
	memoryInterval = time.Second

	liveHeap = "/gc/heap/live:bytes"
)

// Share is the part of the memory of the machine, or of the container, that a process may take, whatever is live in it. Towards it the
// collector works as hard as it has to.
type Share float64

const (
	// ShareAlone leaves something for the kernel's buffers.
	ShareAlone Share = 0.75
	// ShareWithPostgres leaves as much to a Postgres and its files.
	ShareWithPostgres Share = 0.5
)

// TuneMemory sets up the garbage collector for a process of galley, unless the environment has a GOGC or a GOMEMLIMIT of its own. The soft
// limit of the heap follows what is live until stop is called.
func TuneMemory(environ []string, share Share) (stop func()) {
	if !isSet(environ, "GOGC") {
		debug.SetGCPercent(gcPercent)
	}
	if isSet(environ, "GOMEMLIMIT") {
		return func() {}
	}
	ceiling := ceiling(share, memlimit.FromCgroup, memlimit.FromSystem)
	set := func() { debug.SetMemoryLimit(softLimit(live(), ceiling)) }
	set()
	done := make(chan struct{})
	go func() {
		ticker := time.NewTicker(memoryInterval)
		defer ticker.Stop()
		for {
			select {
			case <-done:
				return
			case <-ticker.C:
				set()
			}
		}
	}()
	return sync.OnceFunc(func() { close(done) })
}

func isSet(environ []string, name string) bool {
	for _, entry := range environ {
		if strings.HasPrefix(entry, name+"=") {
			return true
		}
	}
	return false
}

// ceiling is the share of the smallest memory that a source knows of, in bytes. A container may be allowed more than the machine has.
// There is none where no source knows anything.
func ceiling(share Share, sources ...memlimit.Provider) int64 {
	smallest := uint64(math.MaxInt64)
	for _, source := range sources {
		if memory, err := source(); err == nil && memory > 0 {
			smallest = min(smallest, memory)
		}
	}
	if smallest == math.MaxInt64 {
		return math.MaxInt64
	}
	return int64(float64(smallest) * float64(share))
}

func softLimit(live uint64, ceiling int64) int64 {
	return min(ceiling, max(leisure, int64(min(live, math.MaxInt64/leisureFactor))*leisureFactor))
}

// live is what the last collection left, in bytes.
func live() uint64 {
	sample := []metrics.Sample{{Name: liveHeap}}
	metrics.Read(sample)
	if sample[0].Value.Kind() != metrics.KindUint64 {
		return 0
	}
	return sample[0].Value.Uint64()
}
