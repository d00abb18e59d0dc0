package process

import (
	"runtime/debug"
	"strings"

	"github.com/KimMachineGun/automemlimit/memlimit"
)

const (
	// gcPercent lets the heap grow to five times what is live before it is collected. What is live is small, tens of megabytes, and an
	// execution costs a seventh less CPU.
	gcPercent = 400
	// memoryPercent is the share of the memory at hand that the heap may grow to at that leisure. Beyond it, the collector works as hard as
	// it has to. The rest is for what the collector does not see: stacks of other programs, Postgres, the page cache.
	memoryPercent = 50
	// minMemoryLimit is below what a process needs under load: a smaller limit would only have it collect all the time.
	minMemoryLimit = 128 << 20
)

// TuneMemory sets up the garbage collector for a process of galley, unless the environment has a GOGC or a GOMEMLIMIT of its own.
func TuneMemory(environ []string) {
	tuneMemory(environ, memlimit.FromCgroup, memlimit.FromSystem)
}

func tuneMemory(environ []string, sources ...memlimit.Provider) {
	if !isSet(environ, "GOGC") {
		debug.SetGCPercent(gcPercent)
	}
	if !isSet(environ, "GOMEMLIMIT") {
		if limit := memoryLimit(sources...); limit > 0 {
			debug.SetMemoryLimit(limit)
		}
	}
}

func isSet(environ []string, name string) bool {
	for _, entry := range environ {
		if strings.HasPrefix(entry, name+"=") {
			return true
		}
	}
	return false
}

// memoryLimit is the share of the smallest memory that a source knows of, in bytes; 0 when none knows any. A container may be allowed more
// than the machine has.
func memoryLimit(sources ...memlimit.Provider) int64 {
	var smallest uint64
	for _, source := range sources {
		if memory, err := source(); err == nil && memory > 0 && (smallest == 0 || memory < smallest) {
			smallest = memory
		}
	}
	if smallest == 0 {
		return 0
	}
	return max(minMemoryLimit, int64(smallest/100*memoryPercent))
}
