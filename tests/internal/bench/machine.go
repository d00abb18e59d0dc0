package bench

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/galley-engine/galley/tests/internal/harness"
)

// Machine is where the figures were taken.
type Machine struct {
	Processor string    `json:"processor"`
	Cores     int       `json:"cores"`
	Memory    string    `json:"memory"`
	System    string    `json:"system"`
	Go        string    `json:"go"`
	Postgres  string    `json:"postgres"`
	Time      time.Time `json:"time"`
}

func machine(ctx context.Context, database *pgx.Conn) (Machine, error) {
	m := Machine{Cores: runtime.NumCPU(), Go: runtime.Version(), System: runtime.GOOS + "/" + runtime.GOARCH, Time: time.Now().UTC()}
	if err := database.QueryRow(ctx, `SHOW server_version`).Scan(&m.Postgres); err != nil {
		return m, fmt.Errorf("ask Postgres for its version: %w", err)
	}
	m.Processor = field("/proc/cpuinfo", "model name")
	m.Memory = field("/proc/meminfo", "MemTotal")
	if kernel, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		m.System += " " + strings.TrimSpace(string(kernel))
	}
	return m, nil
}

// field reads a value of a file of lines "name: value"; unknown where there is no such file.
func field(path, name string) string {
	file, err := os.Open(path)
	if err != nil {
		return "unknown"
	}
	defer file.Close() //nolint:errcheck // it was only read
	for lines := bufio.NewScanner(file); lines.Scan(); {
		key, value, found := strings.Cut(lines.Text(), ":")
		if found && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return "unknown"
}

// CPU is processor time in microseconds: where the work is done. It is zero on systems without /proc.
type CPU struct {
	Galley   float64 `json:"galley"`
	Postgres float64 `json:"postgres"`
	// Bench is the load generator itself, which shares the machine.
	Bench float64 `json:"bench"`
}

func (c CPU) minus(other CPU) CPU {
	return CPU{c.Galley - other.Galley, c.Postgres - other.Postgres, c.Bench - other.Bench}
}

func (c CPU) per(n int) CPU {
	return CPU{c.Galley / float64(n), c.Postgres / float64(n), c.Bench / float64(n)}
}

// ticksPerSecond is the unit of /proc/<pid>/stat: it is 100 on every Linux that Go runs on.
const ticksPerSecond = 100

func (b *bench) cpu() (used CPU, err error) {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return used, fmt.Errorf("read processor time: %w", err)
	}
	used.Bench = float64(usage.Utime.Nano()+usage.Stime.Nano()) / 1000
	galley, err := b.installation.PID(harness.Galley)
	if err != nil {
		return used, err
	}
	postmaster, err := b.installation.PID(harness.Postgres)
	if err != nil {
		return used, err
	}
	files, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return used, fmt.Errorf("list processes: %w", err)
	}
	for _, file := range files {
		one, ok := readStat(file)
		switch {
		case !ok:
		case one.pid == galley:
			used.Galley = one.own
		case one.pid == postmaster:
			used.Postgres += one.own + one.ended
		case one.parent == postmaster:
			used.Postgres += one.own
		}
	}
	return used, nil
}

type stat struct {
	pid, parent int
	// own is the process's time in microseconds; ended that of its children that have ended.
	own, ended float64
}

// readStat reads /proc/<pid>/stat, see proc(5). The process may be gone.
func readStat(file string) (one stat, ok bool) {
	text, err := os.ReadFile(file)
	if err != nil {
		return stat{}, false
	}
	// The second field is a name in brackets, which may hold anything.
	end := strings.LastIndexByte(string(text), ')')
	fields := strings.Fields(string(text[end+1:]))
	const parent, utime, stime, cutime, cstime = 1, 11, 12, 13, 14
	if end < 0 || len(fields) <= cstime {
		return stat{}, false
	}
	number := func(i int) float64 {
		value, _ := strconv.ParseFloat(fields[i], 64) // the kernel writes numbers
		return value
	}
	one.pid, err = strconv.Atoi(filepath.Base(filepath.Dir(file)))
	one.parent = int(number(parent))
	one.own = (number(utime) + number(stime)) * 1e6 / ticksPerSecond
	one.ended = (number(cutime) + number(cstime)) * 1e6 / ticksPerSecond
	return one, err == nil
}
