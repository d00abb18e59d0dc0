package verification_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/clock"
	"github.com/galley-engine/galley/pkg/testkit"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/query"
	"github.com/galley-engine/galley/services/audit/internal/audittest"
	"github.com/galley-engine/galley/services/audit/internal/publish"
	"github.com/galley-engine/galley/services/audit/internal/reader"
	"github.com/galley-engine/galley/services/audit/internal/verification"
	"github.com/galley-engine/galley/services/audit/internal/writer"
	"github.com/galley-engine/galley/services/audit/migrations"
	"github.com/galley-engine/galley/services/audit/verify"
)

func TestMain(m *testing.M) { testkit.Main(m) }

const (
	patience = time.Minute
	tick     = 10 * time.Millisecond
)

// lockedBuffer is a log that may be written and read at the same time.
type lockedBuffer struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (b *lockedBuffer) Write(data []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.Write(data)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.String()
}

// scene is a log that grows and can be verified.
type scene struct {
	*audittest.Env
	pool     *pgxpool.Pool
	rows     *reader.Reader
	verifier *verification.Verifier
	log      lockedBuffer
	// now is what the clock of those tests says that have one of their own.
	now time.Time
}

// newScene has a log of 300 rows, after so many that were there before.
func newScene(t *testing.T, before int, interval time.Duration) *scene {
	t.Helper()
	s := &scene{Env: audittest.New(t), now: time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)}
	if before > 0 {
		s.Fill(t, before)
	}
	s.rows = reader.New(s.Pool(t, migrations.Reader))
	s.pool = s.Pool(t, migrations.Role)
	signer := writer.NewSigner(s.pool, s.Key, publish.NewNATS(s.Bus), clock.System, zerolog.Nop())
	s.Execute(t, "cust_001", 0, 100)
	audittest.Start(t, writer.New(s.pool, s.Bus, signer, clock.System, zerolog.Nop()).Run)
	s.Await(t, before+300)
	s.signed(t, int64(before)+300)
	s.verifier = s.another(interval, clock.System)
	return s
}

// another makes a verifier of the log, as another process has.
func (s *scene) another(interval time.Duration, now clock.Clock) *verification.Verifier {
	return verification.New(verification.Deps{
		Pool: s.pool, Reader: s.rows, Bus: s.Bus, Key: s.Key.Public, Origin: s.Key.Signer.Name(), Interval: interval, Clock: now,
		Log: zerolog.New(&s.log),
	})
}

// signed waits for a tree head that covers so many rows.
func (s *scene) signed(t *testing.T, rows int64) {
	t.Helper()
	require.Eventually(t, func() bool {
		published, err := publish.NewNATS(s.Bus).Published(t.Context())
		return err == nil && published.Size >= rows
	}, patience, tick)
}

// last waits for a verification that is not the one at a time.
func (s *scene) last(t *testing.T, not time.Time) (found verification.Last) {
	t.Helper()
	require.Eventually(t, func() bool {
		var err error
		found, err = verification.Latest(t.Context(), s.rows, s.Key.Signer.Name())
		require.NoError(t, err)
		return !found.At.IsZero() && !found.At.Equal(not)
	}, patience, tick)
	return found
}

func TestVerifications(t *testing.T) {
	t.Parallel()
	s := newScene(t, 0, time.Hour)
	none, err := verification.Latest(t.Context(), s.rows, s.Key.Signer.Name())
	require.NoError(t, err)
	assert.Zero(t, none)

	require.NoError(t, s.verifier.Verify(t.Context()))
	good := s.last(t, time.Time{})
	assert.Zero(t, good.Found)
	reply, err := s.rows.Events(t.Context(), query.AuditEventsRequest{CustomerID: query.AuditNobody, Limit: 1})
	require.NoError(t, err)
	row := reply.Events[0]
	assert.Equal(t, []string{"audit.verified", "audit", s.Key.Signer.Name(), "service", "audit", "success"}, []string{
		row.ActionType, row.ResourceType, row.ResourceID, row.ActorType, row.ActorID, row.Outcome,
	})
	assert.Regexp(t, `^\{"after":\{"found":0,"leaves":300,"root":"[^"]{44}","signed_size":300,"size":300\}\}$`, string(row.Changes))
	assert.Empty(t, s.log.String())

	_, err = s.DB.Exec(t.Context(), `ALTER TABLE audit.events DISABLE TRIGGER ALL; UPDATE audit.events SET outcome = 'failed' WHERE sequence = 17;
		ALTER TABLE audit.events ENABLE ALWAYS TRIGGER append_only`)
	require.NoError(t, err)
	require.NoError(t, s.verifier.Verify(t.Context()))
	bad := s.last(t, good.At)
	assert.EqualValues(t, 1, bad.Found)
	assert.Contains(t, s.log.String(), `"code":"COLUMN_DIFFERS","row":17`)

	_, err = s.DB.Exec(t.Context(), `DELETE FROM audit.payloads WHERE customer_id = ''`)
	require.NoError(t, err)
	bad = s.last(t, time.Time{})
	assert.EqualValues(t, 1, bad.Found, "erased, it is still bad")
}

// TestSchedule: the log is verified when it is due, and not by a process that is told never to.
func TestSchedule(t *testing.T) {
	t.Parallel()
	s := newScene(t, 0, 100*time.Millisecond)
	audittest.Start(t, s.verifier.Run)
	first := s.last(t, time.Time{})
	second := s.last(t, first.At)
	assert.True(t, second.At.After(first.At))

	require.NoError(t, verification.New(verification.Deps{}).Run(t.Context()))
}

const (
	// filled is how many rows a large log has: six stretches, and some more.
	filled  = 6*stretch + 1000
	stretch = 1024
	round   = 4
)

// large is a log that counts as large, verified every hour.
func large(t *testing.T) *scene {
	t.Helper()
	s := newScene(t, filled, time.Hour)
	s.verifier = s.process()
	return s
}

// process is a process that has just started.
func (s *scene) process() *verification.Verifier {
	v := s.another(time.Hour, func() time.Time { return s.now })
	v.SetShares(filled, stretch, round, 1000)
	return v
}

// outcome is what the row of a verification says.
type outcome struct {
	Leaves  int64 `json:"leaves"`
	Skipped int64 `json:"skipped"`
	Size    int64 `json:"size"`
	Found   int64 `json:"found"`
}

// verify has an hour go by, and the log verified.
func (s *scene) verify(t *testing.T, v *verification.Verifier) (told outcome) {
	t.Helper()
	s.now = s.now.Add(time.Hour)
	before, err := verification.Latest(t.Context(), s.rows, s.Key.Signer.Name())
	require.NoError(t, err)
	require.NoError(t, v.Verify(t.Context()))
	return s.told(t, before.At)
}

// told waits for the row of a verification, and for a tree head that covers it.
func (s *scene) told(t *testing.T, not time.Time) (told outcome) {
	t.Helper()
	last := s.last(t, not)
	reply, err := s.rows.Events(t.Context(), query.AuditEventsRequest{CustomerID: query.AuditNobody, Before: last.Sequence + 1, Limit: 1})
	require.NoError(t, err)
	var changes map[string]outcome
	require.NoError(t, json.Unmarshal(reply.Events[0].Changes, &changes))
	told = changes["after"]
	require.Positive(t, told.Leaves)
	require.Equal(t, told.Size, told.Leaves+told.Skipped)
	s.signed(t, last.Sequence)
	return told
}

// claim has somebody who can publish activities say that the log was verified.
func (s *scene) claim(t *testing.T, found *verify.Report, at time.Time) {
	t.Helper()
	before, err := verification.Latest(t.Context(), s.rows, s.Key.Signer.Name())
	require.NoError(t, err)
	found.Origin = s.Key.Signer.Name()
	author := verification.Author{Actor: event.Actor{Type: "service", ID: "audit"}, At: at}
	require.NoError(t, verification.Record(t.Context(), s.Bus, found, author))
	s.signed(t, s.last(t, before.At).Sequence)
}

// tamper changes the column of a row that nobody verifies but whoever reads the row.
func (s *scene) tamper(t *testing.T, row int, resource string) {
	t.Helper()
	_, err := s.DB.Exec(t.Context(), fmt.Sprintf(`ALTER TABLE audit.events DISABLE TRIGGER ALL; UPDATE audit.events SET resource_id = '%s'
		WHERE sequence = %d; ALTER TABLE audit.events ENABLE ALWAYS TRIGGER append_only`, resource, row))
	require.NoError(t, err)
}

// TestInTurn: a large log is read whole once, then what is new and a share of what is old. What was changed is found when its turn comes,
// and as long as it is not mended, all is read.
func TestInTurn(t *testing.T) {
	t.Parallel()
	s := large(t)
	first := s.verify(t, s.verifier)
	assert.Zero(t, first.Skipped, "nothing is known yet")
	for range round {
		told := s.verify(t, s.verifier)
		assert.GreaterOrEqual(t, told.Skipped, int64(3*stretch))
		assert.LessOrEqual(t, told.Skipped, int64(filled-stretch))
		assert.Zero(t, told.Found)
	}

	s.tamper(t, stretch+500, "x")
	rounds := 0
	for rounds < round && s.verify(t, s.verifier).Found == 0 {
		rounds++
	}
	assert.Less(t, rounds, round)
	assert.Contains(t, s.log.String(), fmt.Sprintf(`"code":"COLUMN_DIFFERS","row":%d`, stretch+500))
	for range 2 {
		told := s.verify(t, s.verifier)
		assert.EqualValues(t, 1, told.Found, "it does not hide until its turn comes again")
		assert.Zero(t, told.Skipped)
	}
	s.tamper(t, stretch+500, fmt.Sprintf("recipe-%d", (stretch+500)%100))
	mended := s.verify(t, s.verifier)
	assert.Zero(t, mended.Found)
	assert.Zero(t, mended.Skipped)
	assert.Positive(t, s.verify(t, s.verifier).Skipped)

	s.now = s.now.Add((round - 1) * time.Hour)
	assert.Zero(t, s.verify(t, s.verifier).Skipped, "all turns were missed")
}

// TestInstances: of two processes that verify by turns one has always just started. Together they miss no row.
func TestInstances(t *testing.T) {
	t.Parallel()
	s := large(t)
	instances := []*verification.Verifier{s.verifier, s.process()}
	for _, v := range instances {
		s.verify(t, v)
	}
	for _, row := range []int{500, stretch + 500, 2*stretch + 500, 3*stretch + 500, 5*stretch + 500} {
		s.tamper(t, row, "x")
		rounds := 0
		for ; rounds < round && s.verify(t, instances[rounds%len(instances)]).Found == 0; rounds++ {
			instances[1] = s.process()
		}
		assert.Less(t, rounds, round, row)
		s.tamper(t, row, fmt.Sprintf("recipe-%d", row%100))
		assert.Zero(t, s.verify(t, s.process()).Found)
	}
}

// TestClaims: a row that somebody else had written decides about little.
func TestClaims(t *testing.T) {
	t.Parallel()
	s := large(t)
	s.verify(t, s.verifier)
	for name, size := range map[string]int64{"nothing": 0, "the moon": 1 << 50, "what no head says": filled - 1, "less than nothing": -1} {
		s.claim(t, &verify.Report{Leaves: size, Size: size, SignedSize: size}, s.now)
		assert.Zero(t, s.verify(t, s.verifier).Skipped, name)
	}
	// A row that is about itself is none of a verification.
	last := s.last(t, time.Time{})
	_, err := s.DB.Exec(t.Context(), fmt.Sprintf(`ALTER TABLE audit.payloads DISABLE TRIGGER ALL; UPDATE audit.payloads
		SET data = convert_to(regexp_replace(convert_from(data, 'UTF8'), '"signed_size":\d+', '"signed_size":%d'), 'UTF8') WHERE sequence = %[1]d;
		ALTER TABLE audit.payloads ENABLE ALWAYS TRIGGER append_only`, last.Sequence))
	require.NoError(t, err)
	told := s.verify(t, s.verifier)
	assert.Zero(t, told.Skipped)
	assert.EqualValues(t, 1, told.Found)
	assert.Contains(t, s.log.String(), fmt.Sprintf(`"code":"PAYLOAD_CHANGED","row":%d`, last.Sequence))

	// Rows are claimed to be verified that are not, always just now. They come in turn.
	_, err = s.DB.Exec(t.Context(), `ALTER TABLE audit.payloads DISABLE TRIGGER ALL; DELETE FROM audit.payloads WHERE sequence = `+
		strconv.FormatInt(last.Sequence, 10)+`; ALTER TABLE audit.payloads ENABLE ALWAYS TRIGGER append_only`)
	require.NoError(t, err)
	assert.Zero(t, s.verify(t, s.verifier).Found)
	s.tamper(t, 2*stretch+500, "x")
	rounds := 0
	for ; rounds < round; rounds++ {
		var signed int64
		require.NoError(t, s.DB.QueryRow(t.Context(), `SELECT max(size) FROM audit.tree_heads`).Scan(&signed))
		s.claim(t, &verify.Report{Leaves: signed, Size: signed, SignedSize: signed}, s.now.Add(time.Hour))
		if told := s.verify(t, s.verifier); told.Found > 0 {
			break
		} else if rounds > 0 {
			assert.Positive(t, told.Skipped)
		}
	}
	assert.Less(t, rounds, round)
}
