package verify

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/galley-engine/galley/services/audit/internal/tree"
)

// source is where a tree head is from.
type source int

const (
	// kept in the database, or in the export.
	kept source = iota
	// published: known from elsewhere.
	published
	sources
)

func (s source) String() string {
	if s == published {
		return "published tree head"
	}
	return "signed tree head"
}

// signedHead is a tree head whose signature is good, or a stranger: one of another log's name, whose key is not known. A log that was given a
// new key has such, from before. They do no harm where they say of the log what a head of its own key covers.
type signedHead struct {
	tree.Head
	source   source
	stranger bool
}

func sortHeads(heads []signedHead) {
	slices.SortStableFunc(heads, func(a, b signedHead) int { return cmp.Compare(a.Size, b.Size) })
}

// maxSize is more leaves than a log can have. What is computed with sizes up to it fits into 64 bits.
const maxSize = 1 << 48

var errSize = errors.New("no log has so many leaves")

// open reads a tree head that the log's key has signed, or one that it had before.
func (s *settings) open(note []byte) (tree.Head, error) {
	head, err := tree.OpenHead(note, s.verifiers[0])
	for _, former := range s.verifiers[1:] {
		if err == nil {
			break
		}
		if found, failure := tree.OpenHead(note, former); failure == nil {
			head, err = found, nil
		}
	}
	if err == nil && head.Size > maxSize {
		err = errSize
	}
	return head, err
}

// read reads a tree head that open can open, or a stranger.
func (s *settings) read(note []byte) (head signedHead, err error) {
	if head.Head, err = s.open(note); err == nil {
		return head, nil
	}
	said, failure := tree.UnverifiedHead(note)
	if failure != nil || said.Size > maxSize || slices.Contains(s.names(), said.Origin) {
		return head, err
	}
	return signedHead{Head: said, stranger: true}, nil
}

// skew is how far the clocks of two signers may be apart before their heads contradict one another.
const skew = 5 * time.Minute

// headBook keeps what the tree heads say together.
type headBook struct {
	newest tree.Head
	time   time.Time
	counts [sources]int64
	// good is the size of the newest head of its source that agreed with the leaves.
	good   [sources]int64
	failed [sources]*rewritten
	// unsigned are heads that the key did not sign.
	unsigned [sources]foreign
	// strangers are those that the leaves agree with, and former how many of them a head of the log's own key covers.
	strangers foreign
	former    int64
}

// rewritten says that the leaves do not give the root of a head.
type rewritten struct {
	first    tree.Head
	after    int64
	computed tree.Hash
	more     int
	last     int64
}

// foreign are heads of one source that are not signed by the log's key.
type foreign struct {
	count       int
	first, last int64
	reason      error
}

func (f *foreign) add(size int64, reason error) {
	if f.count == 0 {
		f.first, f.reason = size, reason
	}
	f.count++
	f.last = size
}

var errStranger = errors.New("it is of another log's name, whose key is not known")

// agreed takes note of a head that the leaves agree with.
func (b *headBook) agreed(h *signedHead) {
	if h.stranger {
		b.strangers.add(h.Size, errStranger)
		return
	}
	b.former += int64(b.strangers.count)
	b.strangers = foreign{}
	b.counts[h.source]++
	b.good[h.source] = h.Size
	if h.Size >= b.newest.Size {
		b.newest = h.Head
	}
}

// contradicted takes note of a head that the leaves do not agree with, and gives whether it is the first of its source.
func (b *headBook) contradicted(h *signedHead, computed tree.Hash) {
	if h.stranger {
		b.unsigned[h.source].add(h.Size, errStranger)
		return
	}
	b.counts[h.source]++
	if seen := b.failed[h.source]; seen != nil {
		seen.more++
		seen.last = h.Size
		return
	}
	after := b.good[published]
	if h.source == kept {
		after = max(after, b.good[kept])
	}
	b.failed[h.source] = &rewritten{first: h.Head, after: after, computed: computed, last: h.Size}
}

// follow compares the time of a head with that of the one before.
func (b *headBook) follow(h *signedHead) error {
	if h.source == published || h.stranger {
		return nil
	}
	before := b.time
	if h.Time.After(before) {
		b.time = h.Time
	}
	if before.Sub(h.Time) > skew {
		return fmt.Errorf("it was signed at %s, earlier than a smaller one, at %s", stamp(h.Time), stamp(before))
	}
	return nil
}

func stamp(t time.Time) string {
	return t.UTC().Format(time.RFC3339)
}

// report adds what is wrong with the heads. Rows that are known to be others explain why heads do not agree.
func (b *headBook) report(found *findings, known []span) {
	if b.strangers.count > 0 {
		b.unsigned[kept].add(b.strangers.first, b.strangers.reason)
		b.unsigned[kept].count += b.strangers.count - 1
		b.unsigned[kept].last = b.strangers.last
	}
	for s := range sources {
		if f := &b.unsigned[s]; f.count > 0 {
			message := fmt.Sprintf("the %s of size %d is not of this log: %v", s, f.first, f.reason)
			if f.count > 1 {
				message = fmt.Sprintf("%d %ss, of sizes %d to %d, are not of this log: %v", f.count, s, f.first, f.last, f.reason)
			}
			found.add(Finding{Code: HeadNotSigned, Size: f.first, Message: message})
		}
		f := b.failed[s]
		if f == nil || s == kept && f.same(b.failed[published]) {
			continue // the published one says as much, and weighs more
		}
		if slices.ContainsFunc(known, func(rows span) bool { return rows.from <= f.first.Size && f.last <= rows.to }) {
			continue
		}
		message := fmt.Sprintf("the log is not the one of the %s of %s: its root at size %d is %s, and was %s. It was written anew somewhere "+
			"after row %d, up to row %d", s, stamp(f.first.Time), f.first.Size, f.computed, f.first.Root, f.after, f.first.Size)
		if f.more > 0 {
			message += fmt.Sprintf("; %d later ones, up to size %d, do not agree either", f.more, f.last)
		}
		found.add(Finding{Code: LogRewritten, Sequence: f.after + 1, To: f.first.Size, Size: f.first.Size, Message: message})
	}
}

func (r *rewritten) same(other *rewritten) bool {
	return other != nil && r.first.Size == other.first.Size && r.first.Root == other.first.Root
}
