package publish

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/galley-engine/galley/services/audit/internal/storedtree"
	"github.com/galley-engine/galley/services/audit/internal/tree"
)

const (
	// Checkpoint is the file that holds the newest note, and nothing else.
	Checkpoint = "checkpoint"

	headsPattern = "heads-????-??-??.jsonl"
	dayLayout    = "2006-01-02"

	// tail is how much of the end of a file of heads is read to find the last of them.
	tail = 64 << 10
	// tries is how often a line is written. The second time, nothing torn can be before it any more.
	tries = 3
	// Tree heads are for everybody to read.
	fileMode = 0o644
	dirMode  = 0o755
)

// errBusy says that the file system has not answered the call before.
var errBusy = errors.New("the directory has not answered yet")

// Directory writes tree heads as files: the newest note to Checkpoint, which is replaced as a whole, and every head as a line of JSON to the
// file of its day (UTC), heads-YYYY-MM-DD.jsonl. What is published is synced. The directory may be a bucket that is mounted.
//
// Processes may write at the same time, and may die while they do. What is left of a line then is no head: it is not JSON or is not signed, and
// the next head begins on a line of its own.
type Directory struct {
	path     string
	verifier note.Verifier
	// busy is held by the call that the file system is working on. It may stand still, and nothing can call it off.
	busy sync.Mutex
}

// NewDirectory makes a Directory. The directory is made when something is published. Only heads that verify are taken for published ones.
func NewDirectory(path string, verifier note.Verifier) *Directory {
	return &Directory{path: path, verifier: verifier}
}

// Publish writes the head.
func (d *Directory) Publish(ctx context.Context, signed storedtree.SignedHead) error {
	head, err := headOf(signed)
	if err != nil {
		return err
	}
	line, err := json.Marshal(head)
	if err != nil {
		return fmt.Errorf("encode the tree head: %w", err)
	}
	return d.call(ctx, func() error {
		if err := os.MkdirAll(d.path, dirMode); err != nil {
			return fmt.Errorf("make the directory of tree heads: %w", err)
		}
		name := filepath.Join(d.path, "heads-"+head.SignedAt.UTC().Format(dayLayout)+".jsonl")
		if err := appendLine(name, line); err != nil {
			return err
		}
		if d.checkpoint().Size > signed.Size {
			return nil // of another process, which is further
		}
		return d.replaceCheckpoint(signed.Note)
	})
}

// Published gives the largest head that verifies: that of Checkpoint, or of the last file of heads, when its writer died in between.
func (d *Directory) Published(ctx context.Context) (storedtree.SignedHead, error) {
	var found storedtree.SignedHead
	err := d.call(ctx, func() error {
		found = d.checkpoint()
		files, err := filepath.Glob(filepath.Join(d.path, headsPattern))
		if err != nil {
			return fmt.Errorf("list the files of tree heads: %w", err)
		}
		slices.Sort(files)
		for _, file := range slices.Backward(files) {
			last, err := d.lastOf(file)
			if err != nil {
				return err
			}
			if last.Size > found.Size {
				found = last
			}
			if last.Size > 0 {
				break
			}
		}
		return nil
	})
	if err != nil {
		return storedtree.SignedHead{}, err
	}
	return found, nil
}

// call does something with the files, and stops waiting for it when ctx ends.
func (d *Directory) call(ctx context.Context, do func() error) error {
	if !d.busy.TryLock() {
		return errBusy
	}
	done := make(chan error, 1)
	go func() {
		err := do()
		d.busy.Unlock()
		done <- err
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", errBusy, ctx.Err())
	}
}

// checkpoint reads the newest note; the size is 0 when there is none that verifies.
func (d *Directory) checkpoint() storedtree.SignedHead {
	signed, err := os.ReadFile(filepath.Join(d.path, Checkpoint))
	if err != nil {
		return storedtree.SignedHead{}
	}
	return d.verified(signed)
}

func (d *Directory) verified(signed []byte) storedtree.SignedHead {
	head, err := tree.OpenHead(signed, d.verifier)
	if err != nil {
		return storedtree.SignedHead{}
	}
	return storedtree.SignedHead{Size: head.Size, Note: signed}
}

// lastOf gives the largest head among the last lines of a file.
func (d *Directory) lastOf(name string) (storedtree.SignedHead, error) {
	file, err := os.Open(name)
	if err != nil {
		return storedtree.SignedHead{}, fmt.Errorf("read tree heads: %w", err)
	}
	defer func() { _ = file.Close() }()
	info, err := file.Stat()
	if err != nil {
		return storedtree.SignedHead{}, fmt.Errorf("read tree heads: %w", err)
	}
	end, err := io.ReadAll(io.NewSectionReader(file, max(0, info.Size()-tail), tail))
	if err != nil {
		return storedtree.SignedHead{}, fmt.Errorf("read tree heads of %s: %w", filepath.Base(name), err)
	}
	var found storedtree.SignedHead
	for line := range bytes.Lines(end) {
		var head struct {
			Note string `json:"note"`
		}
		if !bytes.HasSuffix(line, []byte("\n")) || json.Unmarshal(line, &head) != nil {
			continue // torn, or the second half of a line
		}
		if one := d.verified([]byte(head.Note)); one.Size > found.Size {
			found = one
		}
	}
	return found, nil
}

// appendLine appends a line and syncs it. A line that somebody else's death left without an end would swallow this one: then it is written
// again.
func appendLine(name string, line []byte) (err error) {
	file, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR|os.O_APPEND, fileMode)
	if err != nil {
		return fmt.Errorf("append a tree head: %w", err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	line = append(line, '\n')
	for range tries {
		if _, err := file.Write(line); err != nil {
			return fmt.Errorf("append a tree head: %w", err)
		}
		whole, err := standsAlone(file, int64(len(line)))
		if err != nil {
			return fmt.Errorf("append a tree head: %w", err)
		}
		if whole {
			break
		}
	}
	if err := file.Sync(); err != nil {
		return fmt.Errorf("append a tree head: %w", err)
	}
	return nil
}

// standsAlone tells whether what was just written begins a line.
func standsAlone(file *os.File, written int64) (bool, error) {
	end, err := file.Seek(0, io.SeekCurrent)
	if err != nil || end <= written {
		return end == written, err
	}
	var before [1]byte
	_, err = file.ReadAt(before[:], end-written-1)
	return before[0] == '\n', err
}

func (d *Directory) replaceCheckpoint(signed []byte) error {
	file, err := os.CreateTemp(d.path, "."+Checkpoint+"-*")
	if err != nil {
		return fmt.Errorf("write the checkpoint: %w", err)
	}
	_, err = file.Write(signed)
	if err == nil {
		err = file.Chmod(fileMode)
	}
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err == nil {
		err = os.Rename(file.Name(), filepath.Join(d.path, Checkpoint))
	}
	if err != nil {
		return fmt.Errorf("write the checkpoint: %w", errors.Join(err, os.Remove(file.Name())))
	}
	return d.sync()
}

// sync makes new names durable. File systems that cannot do that for a directory say so; they are taken as they are.
func (d *Directory) sync() error {
	directory, err := os.Open(d.path)
	if err != nil {
		return fmt.Errorf("write the checkpoint: %w", err)
	}
	_ = directory.Sync()
	if err := directory.Close(); err != nil {
		return fmt.Errorf("write the checkpoint: %w", err)
	}
	d.clean()
	return nil
}

// staleAfter is when a temporary file is taken for one of a process that died.
const staleAfter = time.Hour

// clean removes what dead processes have left. It is no harm when it stays.
func (d *Directory) clean() {
	newest, err := os.Stat(filepath.Join(d.path, Checkpoint))
	if err != nil {
		return
	}
	left, _ := filepath.Glob(filepath.Join(d.path, "."+Checkpoint+"-*")) // the pattern is right
	for _, name := range left {
		if info, err := os.Stat(name); err == nil && newest.ModTime().Sub(info.ModTime()) > staleAfter {
			_ = os.Remove(name)
		}
	}
}
