// Package crash disturbs galley under load, above all by killing its processes with SIGKILL at random moments, and then checks that
// nothing was lost and nothing was done twice.
package crash

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/galley-engine/galley/pkg/lifecycle"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/subject"
	"github.com/galley-engine/galley/tests/internal/contract"
	"github.com/galley-engine/galley/tests/internal/harness"
	"github.com/galley-engine/galley/tests/internal/inspect"
)

// Config says what to do.
type Config struct {
	Mode     harness.Mode
	Binaries *harness.Binaries
	// Kills is how many processes are killed, one after the other.
	Kills int
	// Disturb, when it is set, is done instead of killing. It leaves everything running again.
	Disturb func(ctx context.Context, installation *harness.Installation) error
	// Seed decides which processes are killed, and when. What happens in between is up to the machine.
	Seed uint64
	// Callers is how many callers there are over HTTP; a quarter as many publish over NATS.
	Callers int
	// Progress is told what happens.
	Progress io.Writer
}

// Report is what was done and what was found.
type Report struct {
	Mode       harness.Mode
	Seed       uint64
	Kills      map[string]int
	Executions int
	Orders     int
	// Retried counts what callers had to ask again.
	Retried int
	// TakenOver counts the executions that another worker went on with.
	TakenOver int
	// Calls counts what the outside world saw, by the way that it came; Repeated what of that it had seen already.
	Calls, Repeated map[string]int
	// Short counts the executions that waited for credits, Served those of them that got them.
	Short, Served int
	// Parked counts the executions that were put down to wait, Cancelled those that were cancelled, Children those that others ran.
	Parked, Cancelled, Children int
	Statuses                    map[string]int
	Load, Recovery              time.Duration
	Violations                  []Violation
}

const (
	ackWait = 2 * time.Second
	// workers is how many instances of worker.count there are.
	workers = 3
	// A process stays away for up to downtime, and the next one is killed after up to quiet.
	downtime = 1200 * time.Millisecond
	quiet    = 2500 * time.Millisecond
	warmUp   = 500 * time.Millisecond
	// topUpPause is how long the poor customer waits for a few credits more, at most.
	topUpPause = 1500 * time.Millisecond
	// callDelay is how long the outside world takes to answer, at most.
	callDelay = 25 * time.Millisecond
	// recoveryLimit bounds the time from the end of the load until everything has come to rest.
	recoveryLimit = 120 * time.Second
)

type scene struct {
	Config
	random       *rand.Rand
	installation *harness.Installation
	outside      *counter
	callers      *callers
	report       Report
}

// Run starts an installation, puts load on it, kills, waits until all has come to rest, and checks. The error says why the check could not
// be made; what the check found is in the report.
func Run(ctx context.Context, config Config) (_ Report, err error) {
	s := &scene{
		Config: config, random: rand.New(rand.NewPCG(config.Seed, 0)), //nolint:gosec // repeatable on purpose
		report: Report{
			Mode: config.Mode, Seed: config.Seed, Kills: map[string]int{}, Statuses: map[string]int{},
			Calls: map[string]int{}, Repeated: map[string]int{},
		},
	}
	if s.outside, err = newCounter(callDelay); err != nil {
		return s.report, err
	}
	defer func() { err = errors.Join(err, s.outside.close()) }()
	s.installation, err = harness.Start(ctx, harness.Config{
		Mode: config.Mode, Binaries: config.Binaries, AckWait: ackWait, AllowedHosts: s.outside.hosts(),
	})
	if err != nil {
		return s.report, err
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("%w\n%s", err, s.installation.Logs())
		}
		err = errors.Join(err, s.installation.Close())
	}()
	for n := range workers {
		if err := s.installation.AddWorker(ctx, workerName(n)); err != nil {
			return s.report, err
		}
	}
	if err := s.furnish(ctx); err != nil {
		return s.report, fmt.Errorf("set up: %w", err)
	}
	conn, err := s.installation.Connect()
	if err != nil {
		return s.report, err
	}
	defer conn.Close()
	if s.callers.js, err = jetstream.New(conn); err != nil {
		return s.report, fmt.Errorf("open JetStream: %w", err)
	}
	begin := time.Now()
	if err := s.load(ctx); err != nil {
		return s.report, err
	}
	s.report.Load = time.Since(begin)
	begin = time.Now()
	journal, err := s.rest(ctx)
	if err != nil {
		return s.report, err
	}
	s.report.Recovery = time.Since(begin)
	return s.report, s.check(ctx, journal)
}

func (s *scene) say(format string, args ...any) { fmt.Fprintf(s.Progress, format+"\n", args...) }

// load lets the callers work while processes die.
func (s *scene) load(ctx context.Context) error {
	loading, stop := context.WithCancel(ctx)
	defer stop()
	patience, cancel := context.WithCancel(ctx)
	defer cancel()
	var group sync.WaitGroup
	preferences := []string{"wait=20", "wait=20", "respond-async", "wait=1"}
	short := []string{"three-calls", "three-calls", "shaky", "pure", "reach"}
	long := []string{"many", "patient", "signalled", "parent", "reach", "reach"}
	for n := range s.Callers {
		way := placing{short, thinking, s.callers.overHTTP(preferences[n%len(preferences)])}
		group.Go(func() { s.callers.run(loading, patience, way) })
		group.Go(func() { s.callers.run(loading, patience, placing{long, thinking, s.callers.underWay}) })
	}
	for range max(1, s.Callers/4) {
		group.Go(func() { s.callers.run(loading, patience, placing{short, publishing, s.callers.overNATS}) })
	}
	group.Go(func() { s.topUp(loading) })
	disturb := s.kill
	if s.Disturb != nil {
		disturb = func(ctx context.Context) error { return s.Disturb(ctx, s.installation) }
	}
	var err error
	if lifecycle.Sleep(ctx, warmUp) {
		err = disturb(ctx)
	}
	if err == nil {
		err = s.installation.AwaitReady(ctx)
	}
	stop()
	timer := time.AfterFunc(recoveryLimit, cancel)
	defer timer.Stop()
	group.Wait()
	return err
}

// topUp gives the poor customer a few credits at a time. A grant that is not answered is asked for again, and is the same one.
func (s *scene) topUp(ctx context.Context) {
	for n := 0; pause(ctx, topUpPause); {
		if s.installation.Grant(ctx, poor, fmt.Sprintf("top-up-%d", n), fewMore) == nil {
			n++
		}
	}
}

// kill kills one process after the other and starts each again.
func (s *scene) kill(ctx context.Context) error {
	programs := slices.DeleteFunc(s.installation.Programs(), func(name string) bool {
		return name == harness.Executor || name == harness.Galley || strings.HasPrefix(name, harness.Worker)
	})
	for n := range s.Kills {
		if !lifecycle.Sleep(ctx, warmUp+s.upTo(quiet)) {
			return ctx.Err()
		}
		victim := s.victim(programs, n)
		s.say("%s: kill %d of %d: %s", s.Mode, n+1, s.Kills, victim)
		if err := s.installation.Kill(victim); err != nil {
			return err
		}
		s.report.Kills[victim]++
		if !lifecycle.Sleep(ctx, s.upTo(downtime)) {
			return ctx.Err()
		}
		if err := s.installation.Start(ctx, victim); err != nil {
			return err
		}
		// Half of the time the next process dies before this one is back.
		if s.random.IntN(2) == 0 {
			if err := s.installation.AwaitReady(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// victim is in turn whoever runs the steps, one of the workers that are called by them, and one of the other programs, of which it goes
// round so that each has its turn.
func (s *scene) victim(programs []string, n int) string {
	round := n / 3
	switch n % 3 {
	case 0:
		if s.Mode == harness.Single {
			return harness.Galley
		}
		return harness.Executor
	case 1:
		return workerName(s.random.IntN(workers))
	}
	if round%len(programs) == 0 {
		s.random.Shuffle(len(programs), func(a, b int) { programs[a], programs[b] = programs[b], programs[a] })
	}
	return programs[round%len(programs)]
}

func workerName(n int) string { return fmt.Sprintf("%s-%d", harness.Worker, n) }

func (s *scene) upTo(limit time.Duration) time.Duration {
	return time.Duration(s.random.Int64N(int64(limit)))
}

// rest waits until every execution has ended and every service knows it.
func (s *scene) rest(ctx context.Context) (inspect.Journal, error) {
	ctx, cancel := context.WithTimeout(ctx, recoveryLimit)
	defer cancel()
	var last inspect.Journal
	reader := inspect.NewReader(s.callers.js)
	for {
		journal, rest, state, err := s.atRest(ctx, reader)
		if rest {
			return journal, nil
		}
		if journal != nil {
			last = journal
		}
		if !lifecycle.Sleep(ctx, 250*time.Millisecond) {
			for _, execution := range last {
				if execution.Last(event.Completed) == nil {
					s.say("not completed: %s", execution)
					break
				}
			}
			return nil, fmt.Errorf("galley does not come to rest: %s: %w\n%s", state, errors.Join(err, ctx.Err()), s.consumers(context.WithoutCancel(ctx)))
		}
	}
}

func (s *scene) atRest(ctx context.Context, reader *inspect.Reader) (journal inspect.Journal, rest bool, state string, err error) {
	conn, err := s.installation.Database(ctx)
	if err != nil {
		return nil, false, "", err
	}
	defer conn.Close(ctx) //nolint:errcheck // only read from
	journal, rest, state, err = reader.AtRest(ctx, conn)
	if !rest || err != nil {
		return journal, rest, state, err
	}
	notes, err := readNotes(ctx, conn)
	if expected := countNotes(journal); err == nil && len(notes) < expected {
		return journal, false, fmt.Sprintf("%d of %d notes are there", len(notes), expected), nil
	}
	return journal, err == nil, state, err
}

// consumers says how far each consumer of the journal is, for a person who looks for what is stuck.
func (s *scene) consumers(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, ackTimeout)
	defer cancel()
	stream, err := s.callers.js.Stream(ctx, subject.StreamExecutions)
	if err != nil {
		return err.Error()
	}
	var text strings.Builder
	fmt.Fprintf(&text, "journal: %+v\n", stream.CachedInfo().State)
	list := stream.ListConsumers(ctx)
	for info := range list.Info() {
		fmt.Fprintf(&text, "consumer %s %v: delivered %+v, ack floor %+v, %d not acknowledged, %d redelivered, %d pending, %d waiting\n", info.Name,
			info.Config.FilterSubjects, info.Delivered, info.AckFloor, info.NumAckPending, info.NumRedelivered, info.NumPending, info.NumWaiting)
	}
	return text.String()
}

func (s *scene) check(ctx context.Context, journal inspect.Journal) error {
	rules, err := contract.Load()
	if err != nil {
		return err
	}
	found := func(violations ...Violation) { s.report.Violations = append(s.report.Violations, violations...) }
	for _, execution := range journal {
		for _, problem := range execution.Check(rules) {
			found(Violation{problem, execution})
		}
		if execution.TakenOver() {
			s.report.TakenOver++
		}
		switch {
		case execution.WaitedForCredits():
			s.report.Short++
			if execution.Last(event.Funded) != nil {
				s.report.Served++
			}
		case execution.Last(event.Waiting) != nil:
			s.report.Parked++
		}
		if wasCancelled(execution) {
			s.report.Cancelled++
		}
		if completed := execution.Last(event.Completed); completed != nil {
			s.report.Statuses[completed.Header.Get(event.HeaderStatus)]++
		}
	}
	for _, failure := range s.callers.failures {
		found(Violation{fmt.Errorf("order %s: %w", failure.Marker, failure.err), journal[failure.Execution]})
	}
	found(compareOrders(s.callers.orders, journal)...)
	found(compareCancels(s.callers.orders, journal)...)
	found(compareCharges(journal)...)
	children, problems := compareChildren(journal)
	s.report.Children = children
	found(problems...)
	if err := noneStuck(ctx, s.installation.Operator()); err != nil {
		found(Violation{Err: err})
	}
	outside := s.outside.snapshot()
	if outside.keyless > 0 {
		found(Violation{Err: fmt.Errorf("%d calls without an idempotency key", outside.keyless)})
	}
	found(compareCalls(outside.calls, journal)...)
	found(compareLimits(manyRecipe, manyLimit, outside.calls, journal)...)
	found(compareIDs(outside.ids)...)
	found(compareReach(outside, journal)...)
	for key, times := range outside.calls {
		by := string(outside.ways[key])
		s.report.Calls[by] += len(times)
		s.report.Repeated[by] += len(times) - 1
	}
	values, err := readStore(ctx, s.callers.js)
	if err != nil {
		return err
	}
	found(compareStore(values, journal)...)
	conn, err := s.installation.Database(ctx)
	if err != nil {
		return err
	}
	defer conn.Close(ctx) //nolint:errcheck // only read from
	differences, err := journal.Database(ctx, conn)
	if err != nil {
		return err
	}
	for _, difference := range differences {
		found(Violation{Err: difference})
	}
	notes, err := readNotes(ctx, conn)
	if err != nil {
		return err
	}
	found(compareNotes(notes, journal)...)
	if output, err := s.installation.Reconcile(ctx); err != nil {
		found(Violation{Err: fmt.Errorf("reconcile: %w: %s", err, output)})
	}
	s.report.Executions, s.report.Orders, s.report.Retried = len(journal), len(s.callers.orders), s.callers.tries
	return nil
}

// Print writes the report for people.
func (r *Report) Print(out io.Writer) {
	fmt.Fprintf(out, "%s mode, seed %d\n", r.Mode, r.Seed)
	fmt.Fprintf(out, "  kills        %s\n", counts(r.Kills))
	fmt.Fprintf(out, "  load         %v, recovery %v\n", r.Load.Round(time.Millisecond), r.Recovery.Round(time.Millisecond))
	fmt.Fprintf(out, "  orders       %d (asked again %d times)\n", r.Orders, r.Retried)
	fmt.Fprintf(out, "  executions   %d: %s\n", r.Executions, counts(r.Statuses))
	fmt.Fprintf(out, "  parked       %d, cancelled %d, children %d\n", r.Parked, r.Cancelled, r.Children)
	fmt.Fprintf(out, "  short        %d of credits, of which %d got them\n", r.Short, r.Served)
	fmt.Fprintf(out, "  taken over   %d\n", r.TakenOver)
	fmt.Fprintf(out, "  calls        %s\n", counts(r.Calls))
	fmt.Fprintf(out, "  repeated     %s\n", counts(r.Repeated))
	if len(r.Violations) == 0 {
		fmt.Fprintln(out, "  nothing lost, nothing twice: journal, ledger, balances, projection, audit log and callers agree")
		return
	}
	fmt.Fprintf(out, "  %d VIOLATIONS\n", len(r.Violations))
	var general []error
	byExecution := map[*inspect.Execution][]error{}
	for _, violation := range r.Violations {
		if violation.Execution == nil {
			general = append(general, violation.Err)
			continue
		}
		byExecution[violation.Execution] = append(byExecution[violation.Execution], violation.Err)
	}
	const shown = 10
	list(out, general[:min(shown, len(general))])
	rest := shown
	for execution, errs := range byExecution {
		if rest--; rest < 0 {
			break
		}
		list(out, errs)
		fmt.Fprintln(out, execution)
	}
}

func list(out io.Writer, errs []error) {
	for _, err := range errs {
		fmt.Fprintf(out, "- %v\n", err)
	}
}

func counts(numbers map[string]int) string {
	parts := make([]string, 0, len(numbers))
	for _, name := range slices.Sorted(maps.Keys(numbers)) {
		parts = append(parts, fmt.Sprintf("%s %d", name, numbers[name]))
	}
	return strings.Join(parts, ", ")
}
