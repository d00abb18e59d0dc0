package publish_test

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/services/audit/internal/publish"
	"github.com/galley-engine/galley/services/audit/internal/storedtree"
	"github.com/galley-engine/galley/services/audit/internal/tree"
)

// headsIn reads the heads of a file as a reader would: the lines that are JSON and verify.
func headsIn(t *testing.T, l log, file string) []int64 {
	t.Helper()
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	var sizes []int64
	for line := range bytes.Lines(text) {
		var head event.TreeHead
		if json.Unmarshal(line, &head) != nil {
			continue
		}
		if opened, err := tree.OpenHead([]byte(head.Note), l.key.Verifier); err == nil {
			sizes = append(sizes, opened.Size)
		}
	}
	return sizes
}

func TestDirectory(t *testing.T) {
	t.Parallel()
	l := newLog(t)
	dir := filepath.Join(t.TempDir(), "not", "there", "yet")
	d := publish.NewDirectory(dir, l.key.Verifier)
	published, err := d.Published(t.Context())
	require.NoError(t, err)
	assert.Zero(t, published.Size)
	const midnight = 24 * 60 * 60
	for _, size := range []int64{1, 5, midnight - 1, midnight} {
		require.NoError(t, d.Publish(t.Context(), l.head(size)))
		published, err = publish.NewDirectory(dir, l.key.Verifier).Published(t.Context())
		require.NoError(t, err)
		assert.Equal(t, l.head(size), published)
	}
	assert.Equal(t, []int64{1, 5, midnight - 1}, headsIn(t, l, filepath.Join(dir, "heads-2026-01-02.jsonl")))
	assert.Equal(t, []int64{midnight}, headsIn(t, l, filepath.Join(dir, "heads-2026-01-03.jsonl")))
	note, err := os.ReadFile(filepath.Join(dir, publish.Checkpoint))
	require.NoError(t, err)
	assert.Equal(t, string(l.head(midnight).Note), string(note))

	// A process that is behind does not take the newest away, and another log's heads are none.
	require.NoError(t, d.Publish(t.Context(), l.head(7)))
	published, err = d.Published(t.Context())
	require.NoError(t, err)
	assert.EqualValues(t, midnight, published.Size)
	published, err = publish.NewDirectory(dir, newLog(t).key.Verifier).Published(t.Context())
	require.NoError(t, err)
	assert.Zero(t, published.Size)

	// Without the checkpoint, the last file says the same.
	require.NoError(t, os.Remove(filepath.Join(dir, publish.Checkpoint)))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "heads-2026-01-04.jsonl"), []byte(`{"note":"galley`), 0o600))
	published, err = d.Published(t.Context())
	require.NoError(t, err)
	assert.EqualValues(t, midnight, published.Size)
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	assert.Len(t, left, 3)
}

// TestTornLines: however much of a line a process has written when it dies, the heads before and after it are there, and it is none.
func TestTornLines(t *testing.T) {
	t.Parallel()
	l := newLog(t)
	rapid.Check(t, func(rt *rapid.T) {
		dir := t.TempDir()
		d := publish.NewDirectory(dir, l.key.Verifier)
		file := filepath.Join(dir, "heads-2026-01-02.jsonl")
		var whole []int64
		for i := range rapid.Int64Range(1, 8).Draw(rt, "heads") {
			size := i + 1
			require.NoError(rt, d.Publish(t.Context(), l.head(size)))
			torn := rapid.Int64Range(0, 200).Draw(rt, "torn")
			if torn == 0 {
				whole = append(whole, size)
				continue
			}
			info, err := os.Stat(file)
			require.NoError(rt, err)
			require.NoError(rt, os.Truncate(file, info.Size()-torn))
			found, err := d.Published(t.Context())
			require.NoError(rt, err)
			require.Equal(rt, size, found.Size, "the checkpoint has it")
			require.NoError(rt, os.Remove(filepath.Join(dir, publish.Checkpoint)))
		}
		const last = 1000
		require.NoError(rt, d.Publish(t.Context(), l.head(last)))
		require.Subset(rt, headsIn(t, l, file), append(whole, last))
		require.NoError(rt, os.Remove(filepath.Join(dir, publish.Checkpoint)))
		found, err := d.Published(t.Context())
		require.NoError(rt, err)
		require.EqualValues(rt, last, found.Size)
	})
}

// TestManyWriters: processes that write at the same time do not tear one another's lines.
func TestManyWriters(t *testing.T) {
	t.Parallel()
	l := newLog(t)
	dir := t.TempDir()
	const writers, each = 8, 25
	var done sync.WaitGroup
	for writer := range writers {
		d := publish.NewDirectory(dir, l.key.Verifier)
		done.Go(func() {
			for i := range each {
				assert.NoError(t, d.Publish(t.Context(), l.head(int64(i*writers+writer+1))))
			}
		})
	}
	done.Wait()
	sizes := headsIn(t, l, filepath.Join(dir, "heads-2026-01-02.jsonl"))
	assert.Len(t, sizes, writers*each)
	found, err := publish.NewDirectory(dir, l.key.Verifier).Published(t.Context())
	require.NoError(t, err)
	assert.EqualValues(t, writers*each, found.Size)
}

// TestDirectoryThatHangs: a file system that does not answer keeps nobody waiting.
func TestDirectoryThatHangs(t *testing.T) {
	t.Parallel()
	l := newLog(t)
	dir := t.TempDir()
	pipe := filepath.Join(dir, publish.Checkpoint)
	require.NoError(t, syscall.Mkfifo(pipe, 0o600)) // whoever reads it waits for a writer
	d := publish.NewDirectory(dir, l.key.Verifier)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := d.Published(ctx)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorContains(t, d.Publish(t.Context(), l.head(1)), "has not answered")
	writer, err := os.OpenFile(pipe, os.O_WRONLY, 0)
	require.NoError(t, err)
	require.NoError(t, writer.Close())
	require.NoError(t, os.Remove(pipe))
	require.Eventually(t, func() bool { return d.Publish(t.Context(), l.head(1)) == nil }, patience, tick)
	found, err := d.Published(t.Context())
	require.NoError(t, err)
	assert.Equal(t, l.head(1), found)
}

func TestDirectoryThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	l := newLog(t)
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	require.ErrorContains(t, publish.NewDirectory(file, l.key.Verifier).Publish(t.Context(), l.head(1)), "make the directory")
	require.Error(t, publish.NewDirectory(file, l.key.Verifier).Publish(t.Context(), storedtree.SignedHead{Size: 1, Note: []byte("x")}))
}
