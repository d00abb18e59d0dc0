package verification_test

import (
	"bytes"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/clock"
	"github.com/galley-engine/galley/pkg/testkit"
	"github.com/galley-engine/galley/schemas/query"
	"github.com/galley-engine/galley/services/audit/internal/audittest"
	"github.com/galley-engine/galley/services/audit/internal/publish"
	"github.com/galley-engine/galley/services/audit/internal/reader"
	"github.com/galley-engine/galley/services/audit/internal/verification"
	"github.com/galley-engine/galley/services/audit/internal/writer"
	"github.com/galley-engine/galley/services/audit/migrations"
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
	rows     *reader.Reader
	verifier *verification.Verifier
	log      lockedBuffer
}

func newScene(t *testing.T, interval time.Duration) *scene {
	t.Helper()
	s := &scene{Env: audittest.New(t)}
	pool := s.Pool(t, migrations.Role)
	s.rows = reader.New(s.Pool(t, migrations.Reader))
	outside := publish.NewNATS(s.Bus)
	signer := writer.NewSigner(pool, s.Key, outside, clock.System, zerolog.Nop())
	s.Execute(t, "cust_001", 0, 100)
	audittest.Start(t, writer.New(pool, s.Bus, signer, clock.System, zerolog.Nop()).Run)
	s.Await(t, 300)
	require.Eventually(t, func() bool {
		published, err := outside.Published(t.Context())
		return err == nil && published.Size >= 300
	}, patience, tick)
	s.verifier = verification.New(verification.Deps{
		Pool: pool, Reader: s.rows, Bus: s.Bus, Key: s.Key.Public, Origin: s.Key.Signer.Name(), Interval: interval, Clock: clock.System,
		Log: zerolog.New(&s.log),
	})
	return s
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
	s := newScene(t, time.Hour)
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
	s := newScene(t, 100*time.Millisecond)
	audittest.Start(t, s.verifier.Run)
	first := s.last(t, time.Time{})
	second := s.last(t, first.At)
	assert.True(t, second.At.After(first.At))

	require.NoError(t, verification.New(verification.Deps{}).Run(t.Context()))
}
