package verify

import (
	"errors"
	"fmt"
	"runtime"

	"golang.org/x/mod/sumdb/note"

	"github.com/galley-engine/galley/pkg/clock"
)

// DefaultMaxFindings is how many findings a Report lists when Options say nothing else.
const DefaultMaxFindings = 100

// Options say what is verified against. The zero Options lack the key.
type Options struct {
	// Key is the log's public key in its text form, <name>+<hash>+<key>, from a source other than what is verified. It is needed.
	Key string
	// Former are the public keys that the log had before, in the same form: a log that got a new key has heads of both. Without them the old
	// heads are compared with the leaves all the same, but their signatures are not checked.
	Former []string
	// Published are signed tree heads known from elsewhere, as they were signed: from the stream TREE_HEADS, a file, a customer. The log
	// must still be the one they are of. Without them a log that was written anew with the right key, or put back to an older state,
	// looks whole.
	Published []string
	// Skip are rows that Database need not read, since a verification that found nothing has. As far as a signed tree head covers them, and
	// in whole tiles of 256, only the tiles above are then compared for them: a change of such a row is not found. An export is always
	// verified whole.
	Skip []Rows
	// MaxFindings bounds the findings that are listed, DefaultMaxFindings when 0. The others are only counted.
	MaxFindings int
	// Workers is how many goroutines parse and hash, as many as there are processors when 0.
	Workers int
	// Clock measures the duration, the system's when nil.
	Clock clock.Clock
}

// Rows are those with the sequences From to To.
type Rows struct{ From, To int64 }

// ErrKey says that Options.Key is not a public key.
var ErrKey = errors.New("not a public key, <name>+<hash>+<key>")

// settings are Options with their defaults, and the key read.
type settings struct {
	Options
	// verifiers are those of the key, and of the keys before.
	verifiers []note.Verifier
}

func (o Options) settings() (*settings, error) {
	var verifiers []note.Verifier
	for _, key := range append([]string{o.Key}, o.Former...) {
		verifier, err := note.NewVerifier(key)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrKey, err)
		}
		verifiers = append(verifiers, verifier)
	}
	if o.MaxFindings <= 0 {
		o.MaxFindings = DefaultMaxFindings
	}
	if o.Workers <= 0 {
		o.Workers = runtime.GOMAXPROCS(0)
	}
	if o.Clock == nil {
		o.Clock = clock.System
	}
	return &settings{Options: o, verifiers: verifiers}, nil
}

// names are those of the log: of its key, and of the keys before.
func (s *settings) names() []string {
	names := make([]string, len(s.verifiers))
	for i, verifier := range s.verifiers {
		names[i] = verifier.Name()
	}
	return names
}
