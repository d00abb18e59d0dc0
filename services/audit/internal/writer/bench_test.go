package writer

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/bus"
	"github.com/galley-engine/galley/pkg/testkit"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/subject"
	"github.com/galley-engine/galley/services/audit/internal/audittest"
)

// BenchmarkAppend measures the whole of a batch after its delivery, leaves and digests included, against a Postgres that syncs to
// disk. The CPU times are those of this process and of all of Postgres' processes.
func BenchmarkAppend(b *testing.B) {
	for _, size := range []int{1, 10, 100, batch} {
		b.Run(fmt.Sprintf("batch=%d", size), func(b *testing.B) { benchmarkAppend(b, size, false) })
	}
	b.Run("repeated", func(b *testing.B) { benchmarkAppend(b, batch, true) })
}

func benchmarkAppend(b *testing.B, size int, repeat bool) {
	b.Helper()
	e := audittest.On(b, testkit.PostgresServer(b).URL())
	w := newWriter(b, e)
	first := delivered(0, size)
	require.NoError(b, w.append(b.Context(), subject.StreamExecutions, bus.Place{Key: "bench"}, first))
	position := first[size-1].Sequence
	_, err := e.DB.Exec(b.Context(), `CHECKPOINT`)
	require.NoError(b, err)
	wal, server := walPosition(b, e), postgresCPU(b, e)
	var own, elapsed time.Duration
	for b.Loop() {
		b.StopTimer()
		messages := delivered(position, size)
		last := messages[size-1].Sequence
		if repeat {
			messages = delivered(0, size)
			messages[size-1].Sequence = last
		}
		b.StartTimer()
		cpu, start := ownCPU(b), time.Now()
		err := w.append(b.Context(), subject.StreamExecutions, bus.Place{Key: "bench", Sequence: position}, messages)
		elapsed += time.Since(start)
		own += ownCPU(b) - cpu
		require.NoError(b, err)
		position = last
	}
	rows := float64(b.N * size)
	b.ReportMetric(rows/elapsed.Seconds(), "rows/s")
	b.ReportMetric(float64(own.Microseconds())/rows, "go-cpu-us/row")
	b.ReportMetric(float64((postgresCPU(b, e)-server).Microseconds())/rows, "pg-cpu-us/row")
	b.ReportMetric(float64(walPosition(b, e)-wal)/rows, "wal-B/row")
}

// BenchmarkTail measures the way from the stream to the table.
func BenchmarkTail(b *testing.B) {
	const executions = 5000
	for b.Loop() {
		b.StopTimer()
		e := audittest.On(b, testkit.PostgresServer(b).URL())
		want := len(e.Execute(b, "cust_001", 0, executions))
		server, own, start := postgresCPU(b, e), ownCPU(b), time.Now()
		b.StartTimer()
		stop := audittest.Start(b, newWriter(b, e).follow)
		e.Await(b, want)
		elapsed := time.Since(start)
		stop()
		b.ReportMetric(float64(want)/elapsed.Seconds(), "rows/s")
		b.ReportMetric(float64((ownCPU(b)-own).Microseconds())/float64(want), "go-and-nats-cpu-us/row")
		b.ReportMetric(float64((postgresCPU(b, e)-server).Microseconds())/float64(want), "pg-cpu-us/row")
	}
}

// message is a delivered message without its delivery.
type message struct {
	jetstream.Msg
	subject string
	header  nats.Header
	data    []byte
}

func (m *message) Subject() string      { return m.subject }
func (m *message) Headers() nats.Header { return m.header }
func (m *message) Data() []byte         { return m.data }

// delivered gives size events of executions that follow one another, from the stream's position after.
func delivered(after uint64, size int) []bus.Message {
	kinds := []event.Kind{event.Accepted, event.Funded, event.Completed}
	data := bytes.Repeat([]byte("x"), 1000)
	messages := make([]bus.Message, size)
	for i := range messages {
		sequence := after + 1
		after = sequence
		execution := fmt.Sprintf("0192f0c1-2b3c-7d4e-8f50-%012d", sequence/3)
		entry := audittest.Entry(fmt.Sprintf("cust_%03d", sequence%50), execution, kinds[sequence%3], 0)
		entry.Header.Set(event.HeaderID, entry.ID())
		entry.Header.Set(event.HeaderType, entry.Kind.Type())
		entry.Header.Set(event.HeaderTime, "2026-01-02T03:04:05.123456Z")
		messages[i] = bus.Message{
			Msg:      &message{subject: entry.Execution.Event(string(entry.Kind), ""), header: entry.Header, data: data},
			Sequence: sequence,
		}
	}
	return messages
}

func walPosition(b *testing.B, e *audittest.Env) (position int64) {
	b.Helper()
	require.NoError(b, e.DB.QueryRow(b.Context(), `SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint`).Scan(&position))
	return position
}

func ownCPU(b *testing.B) time.Duration {
	b.Helper()
	var usage syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &usage))
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// postgresCPU adds up the CPU time of the server's present processes, in steps of 10 ms; 0 on systems without /proc.
func postgresCPU(b *testing.B, e *audittest.Env) time.Duration {
	b.Helper()
	rows, err := e.DB.Query(b.Context(), `SELECT pid FROM pg_stat_activity`)
	require.NoError(b, err)
	pids, err := pgx.CollectRows(rows, pgx.RowTo[int])
	require.NoError(b, err)
	ticks := 0
	for _, pid := range pids {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			continue
		}
		// The command, in brackets, is field 2; user and system time are fields 14 and 15.
		_, rest, _ := strings.Cut(string(stat), ") ")
		fields := strings.Fields(rest)
		for _, field := range fields[11:13] {
			count, err := strconv.Atoi(field)
			require.NoError(b, err)
			ticks += count
		}
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}
