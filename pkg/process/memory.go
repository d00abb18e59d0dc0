package process

import (
	"math"
	"runtime/debug"
	"strings"

	"github.com/KimMachineGun/automemlimit/memlimit"
)

// gcPercent lets the heap grow to five times what is live before it is collected: an execution costs a seventh less CPU. What memory there
// is bounds it.
const gcPercent = 400

// Share is the part of the memory of the machine, or of the container, that is the soft limit of a process. Towards it the collector works
// as hard as it has to.
type Share float64

const (
	// ShareAlone leaves something for the kernel's buffers.
	ShareAlone Share = 0.75
	// ShareWithPostgres leaves as much to a Postgres and its files.
	ShareWithPostgres Share = 0.5
)

// TuneMemory sets up the garbage collector for a process of galley, unless the environment has a GOGC or a GOMEMLIMIT of its own.
func TuneMemory(environ []string, share Share) {
	if !isSet(environ, "GOGC") {
		debug.SetGCPercent(gcPercent)
	}
	if !isSet(environ, "GOMEMLIMIT") {
		debug.SetMemoryLimit(ceiling(share, memlimit.FromCgroup, memlimit.FromSystem))
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
