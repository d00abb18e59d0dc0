// Package file_test tries pkg/file on a real server.
package file_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/bus"
	"github.com/galley-engine/galley/pkg/file"
	"github.com/galley-engine/galley/pkg/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

type site struct {
	*file.Store
	bus    *bus.Bus
	server *testkit.NATSServer
}

func open(t *testing.T) *site {
	t.Helper()
	server := testkit.NATS(t)
	messages, err := bus.New(server.Conn(t), bus.Settings{Replicas: 1, JournalRetention: bus.DefaultJournalRetention}, zerolog.Nop())
	require.NoError(t, err)
	require.NoError(t, messages.Provision(t.Context()))
	return &site{Store: file.NewStore(messages.JS), bus: messages, server: server}
}

// stored is how many messages hold what is stored of files.
func (s *site) stored(t *testing.T) uint64 {
	t.Helper()
	stream, err := s.bus.JS.Stream(t.Context(), "OBJ_files")
	require.NoError(t, err)
	info, err := stream.Info(t.Context(), jetstream.WithSubjectFilter("$O.files.C.>"))
	require.NoError(t, err)
	var count uint64
	for _, messages := range info.State.Subjects {
		count += messages
	}
	return count
}

func (s *site) put(t *testing.T, customer, id string, content []byte) {
	t.Helper()
	_, err := s.Put(t.Context(), customer, file.Ref{ID: id}, bytes.NewReader(content))
	require.NoError(t, err)
}

func (s *site) get(t *testing.T, customer, id string) []byte {
	t.Helper()
	reader, _, err := s.Open(t.Context(), customer, id)
	require.NoError(t, err)
	content, err := io.ReadAll(reader)
	require.NoError(t, err)
	require.NoError(t, reader.Close())
	return content
}

func random(size int) []byte {
	content := make([]byte, size)
	source := rand.NewChaCha8(sha256.Sum256([]byte(strconv.Itoa(size))))
	_, _ = source.Read(content)
	return content
}

func TestSizes(t *testing.T) {
	t.Parallel()
	s := open(t)
	for _, size := range []int{0, 1, 128<<10 - 1, 128 << 10, 128<<10 + 1, file.MaxBytes} {
		content := random(size)
		wanted := file.Ref{ID: "e1.step.0", Name: "Ünïcode \"name\".bin", ContentType: "image/png", Size: int64(size)}
		// However small the pieces are in which it arrives, it is kept in few messages.
		got, err := s.Put(t.Context(), "alice", file.Ref{ID: wanted.ID, Name: wanted.Name, ContentType: wanted.ContentType},
			iotest.HalfReader(bytes.NewReader(content)))
		require.NoError(t, err)
		require.Equal(t, wanted, got)
		require.EqualValues(t, (size+128<<10-1)/(128<<10), s.stored(t), "what was there before is gone")
		reader, ref, err := s.Open(t.Context(), "alice", "e1.step.0")
		require.NoError(t, err)
		require.Equal(t, wanted, ref)
		read, err := io.ReadAll(iotest.HalfReader(reader))
		require.NoError(t, err)
		require.NoError(t, reader.Close())
		require.True(t, bytes.Equal(content, read))
	}
}

func TestReference(t *testing.T) {
	t.Parallel()
	ref := file.Ref{ID: "f1", Name: "a.txt", ContentType: "text/plain", Size: 3}
	require.Equal(t, map[string]any{"file": "f1", "name": "a.txt", "content_type": "text/plain", "size": 3.0}, ref.Value())
}

// TestWhatFailsIsNotKept: neither as a file nor as parts of one, and what was there stays.
func TestWhatFailsIsNotKept(t *testing.T) {
	t.Parallel()
	s := open(t)
	s.put(t, "alice", "old", []byte("old"))
	errBroken := errors.New("broken")
	part := func() io.Reader { return bytes.NewReader(random(1 << 20)) }
	for _, test := range []struct {
		content func(cancel func()) io.Reader
		want    error
	}{
		{func(func()) io.Reader { return io.LimitReader(endless{}, file.MaxBytes+1) }, file.ErrTooLarge},
		{func(func()) io.Reader { return endless{} }, file.ErrTooLarge},
		{func(func()) io.Reader { return io.MultiReader(part(), iotest.ErrReader(errBroken)) }, errBroken},
		{func(cancel func()) io.Reader { return io.MultiReader(part(), then{cancel}, endless{}) }, context.Canceled},
	} {
		for _, id := range []string{"old", "new"} {
			ctx, cancel := context.WithCancel(t.Context())
			_, err := s.Put(ctx, "alice", file.Ref{ID: id}, test.content(cancel))
			cancel()
			require.ErrorIs(t, err, test.want)
		}
	}
	require.Equal(t, "old", string(s.get(t, "alice", "old")))
	_, _, err := s.Open(t.Context(), "alice", "new")
	require.ErrorIs(t, err, file.ErrNotFound)
	require.Equal(t, uint64(1), s.stored(t))
}

type endless struct{}

// Read implements io.Reader.
func (endless) Read(p []byte) (int, error) { return len(p), nil }

// then does something between two readers.
type then struct{ do func() }

// Read implements io.Reader.
func (t then) Read([]byte) (int, error) {
	t.do()
	return 0, io.EOF
}

func TestCustomersAreKeptApart(t *testing.T) {
	t.Parallel()
	s := open(t)
	s.put(t, "alice", "f1", []byte("alice"))
	s.put(t, "bob", "f1", []byte("bob"))
	require.Equal(t, "alice", string(s.get(t, "alice", "f1")))
	require.Equal(t, "bob", string(s.get(t, "bob", "f1")))
	odd := []string{"", "f2", "../bob/f1", "/bob/f1", "bob/f1", "*", ">", "f1 ", "F1", "f1\x00", "\r\nPUB x 1\r\n", strings.Repeat("x", 201), strings.Repeat("x", 1<<20)}
	for _, id := range odd {
		_, _, err := s.Open(t.Context(), "alice", id)
		require.ErrorIs(t, err, file.ErrNotFound, "%.20q", id)
	}
	for _, id := range []string{"", strings.Repeat("x", 201), strings.Repeat("x", 1<<20)} {
		_, err := s.Put(t.Context(), "alice", file.Ref{ID: id}, strings.NewReader("x"))
		require.Error(t, err)
	}
	s.put(t, "alice", "../bob/f1", []byte("not bob's"))
	s.put(t, "alice", strings.Repeat("x", 200), []byte("long"))
	require.Equal(t, "bob", string(s.get(t, "bob", "f1")))
	require.Equal(t, "long", string(s.get(t, "alice", strings.Repeat("x", 200))))
	require.True(t, s.bus.Conn.IsConnected(), "and the connection has survived it")
	require.Zero(t, s.bus.Conn.Stats().Reconnects)
}

func TestManyAtATime(t *testing.T) {
	t.Parallel()
	s := open(t)
	var running sync.WaitGroup
	for n := range 20 {
		running.Go(func() {
			content := random(100_000 + n)
			id := fmt.Sprintf("f%d", n%10) // two write each
			_, err := s.Put(t.Context(), "alice", file.Ref{ID: id, Name: strconv.Itoa(n)}, bytes.NewReader(content))
			if err != nil {
				t.Errorf("put: %v", err)
			}
		})
	}
	running.Wait()
	for n := range 10 {
		reader, ref, err := s.Open(t.Context(), "alice", fmt.Sprintf("f%d", n))
		require.NoError(t, err)
		content, err := io.ReadAll(reader)
		require.NoError(t, err)
		require.NoError(t, reader.Close())
		require.Len(t, content, int(ref.Size))
		require.Equal(t, random(int(ref.Size)), content, "it is one of the two, whole")
	}
}

// TestReaderThatStops leaves nothing behind; the end of the tests looks for goroutines.
func TestReaderThatStops(t *testing.T) {
	t.Parallel()
	s := open(t)
	s.put(t, "alice", "f1", random(4<<20))
	for range 3 {
		reader, _, err := s.Open(t.Context(), "alice", "f1")
		require.NoError(t, err)
		_, err = io.ReadFull(reader, make([]byte, 10))
		require.NoError(t, err)
		require.NoError(t, reader.Close())
		unread, _, err := s.Open(t.Context(), "alice", "f1")
		require.NoError(t, err)
		require.NoError(t, unread.Close())
	}
	ctx, cancel := context.WithCancel(t.Context())
	reader, _, err := s.Open(ctx, "alice", "f1")
	require.NoError(t, err)
	cancel()
	_, err = io.ReadAll(reader)
	require.Error(t, err)
	require.NoError(t, reader.Close())
}

func TestServerThatGoesAway(t *testing.T) {
	t.Parallel()
	s := open(t)
	s.put(t, "alice", "f1", random(1<<20))
	s.server.Shutdown()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, _, err := s.Open(ctx, "alice", "f1")
	require.Error(t, err)
	require.NotErrorIs(t, err, file.ErrNotFound, "it may well be there")
	_, err = s.Put(ctx, "alice", file.Ref{ID: "f2"}, strings.NewReader("x"))
	require.Error(t, err)
	s.server.Restart(t)
	require.Eventually(t, s.bus.Conn.IsConnected, 30*time.Second, 10*time.Millisecond)
	require.Equal(t, random(1<<20), s.get(t, "alice", "f1"))
}
