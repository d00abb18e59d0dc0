package verify_test

import (
	"bytes"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/schemas/audit"
	"github.com/galley-engine/galley/services/audit/internal/audittest"
	"github.com/galley-engine/galley/services/audit/verify"
)

// benchmarked is how many leaves the log has. There is a signed head for every 5,000.
const benchmarked = 100_000

// ownCPU is the time that this process has computed: on a busy machine it says more than the time that went by.
func ownCPU(b *testing.B) time.Duration {
	b.Helper()
	var usage syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &usage))
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

func reportLeaves(b *testing.B, cpu time.Duration) {
	b.Helper()
	leaves := float64(b.N * benchmarked)
	b.ReportMetric(leaves/b.Elapsed().Seconds(), "leaves/s")
	b.ReportMetric(float64(cpu.Nanoseconds())/1000/leaves, "go-cpu-us/leaf")
}

func benchmarkLog(b *testing.B) *audittest.Env {
	b.Helper()
	e := audittest.New(b)
	var sizes []int
	for size := 5000; size < benchmarked; size += 5000 {
		sizes = append(sizes, size)
	}
	e.Fill(b, benchmarked, sizes...)
	_, err := e.DB.Exec(b.Context(), `VACUUM ANALYZE audit.events, audit.payloads`)
	require.NoError(b, err)
	return e
}

// BenchmarkDatabase verifies the whole log, read from Postgres.
func BenchmarkDatabase(b *testing.B) {
	e := benchmarkLog(b)
	b.ReportAllocs()
	before := ownCPU(b)
	for b.Loop() {
		report, err := verify.Database(b.Context(), e.DB, verify.Options{Key: e.Key.Public})
		require.NoError(b, err)
		require.Empty(b, report.Findings)
	}
	reportLeaves(b, ownCPU(b)-before)
}

// BenchmarkShare verifies the log with a tenth of it new, and a thirtieth of the rest read.
func BenchmarkShare(b *testing.B) {
	e := benchmarkLog(b)
	const old, share = benchmarked * 9 / 10, benchmarked * 3 / 100
	options := verify.Options{Key: e.Key.Public, Skip: []verify.Rows{{From: 1, To: old / 2}, {From: old/2 + share + 1, To: old}}}
	b.ReportAllocs()
	before := ownCPU(b)
	for b.Loop() {
		report, err := verify.Database(b.Context(), e.DB, options)
		require.NoError(b, err)
		require.Empty(b, report.Findings)
	}
	reportLeaves(b, ownCPU(b)-before)
}

// BenchmarkExport verifies an export of the whole log, from memory.
func BenchmarkExport(b *testing.B) {
	e := benchmarkLog(b)
	lines := exported(b, e, audit.Everyone)
	b.SetBytes(int64(len(lines)))
	b.ReportAllocs()
	before := ownCPU(b)
	for b.Loop() {
		report, err := verify.Export(b.Context(), bytes.NewReader(lines), verify.Options{Key: e.Key.Public})
		require.NoError(b, err)
		require.Empty(b, report.Findings)
	}
	reportLeaves(b, ownCPU(b)-before)
}
