package tree

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/galley-engine/galley/schemas/event"
)

// Head is what a tree head says: how the log stood at a moment.
type Head struct {
	// Origin names the log. It is the name of the key, too.
	Origin string
	// Size is the number of leaves.
	Size int64
	// Root is the root of the tree over the first Size leaves.
	Root Hash
	// Time is when it was signed, in UTC, to the millisecond.
	Time time.Time
}

const timeLine = "time "

const timeLayout = "2006-01-02T15:04:05.000Z"

// Text is what is signed: a checkpoint as https://c2sp.org/tlog-checkpoint describes it, with the time in an extension line:
//
//	<origin>
//	<size>
//	<root, base64>
//	time <RFC 3339, UTC, with milliseconds>
func (h Head) Text() string {
	return h.Origin + "\n" + strconv.FormatInt(h.Size, 10) + "\n" + h.Root.String() + "\n" + timeLine + h.Time.UTC().Format(timeLayout) + "\n"
}

// Sign gives the head as a signed note (https://c2sp.org/signed-note).
func (h Head) Sign(signer note.Signer) ([]byte, error) {
	signed, err := note.Sign(&note.Note{Text: h.Text()}, signer)
	if err != nil {
		return nil, fmt.Errorf("sign the tree head of size %d: %w", h.Size, err)
	}
	return signed, nil
}

// Event is what is published of the head and its signed note.
func (h Head) Event(signed []byte) event.TreeHead {
	return event.TreeHead{Origin: h.Origin, Size: h.Size, Root: h.Root.String(), SignedAt: h.Time, Note: string(signed)}
}

// ErrSignature says that a tree head is not signed by the key that was expected.
var ErrSignature = errors.New("the tree head is not signed by this key")

var errHead = errors.New("not a tree head")

// OpenHead reads a signed tree head. The error is ErrSignature when the verifier's key did not sign it, or the log has another name.
func OpenHead(signed []byte, verifier note.Verifier) (Head, error) {
	opened, err := note.Open(signed, note.VerifierList(verifier))
	if err != nil {
		return Head{}, fmt.Errorf("%w: %w", ErrSignature, err)
	}
	head, err := parseHead(opened.Text)
	if err == nil && head.Origin != verifier.Name() {
		err = fmt.Errorf("%w: it is of the log %q, not %q", ErrSignature, head.Origin, verifier.Name())
	}
	return head, err
}

// UnverifiedHead reads a tree head without looking at its signatures.
func UnverifiedHead(signed []byte) (Head, error) {
	text, _, found := bytes.Cut(signed, []byte("\n\n"))
	if !found {
		return Head{}, errHead
	}
	return parseHead(string(text) + "\n")
}

func parseHead(text string) (Head, error) {
	lines := strings.Split(text, "\n")
	const origin, size, root, signed, end = 0, 1, 2, 3, 4
	if len(lines) <= end || lines[origin] == "" || !strings.HasPrefix(lines[signed], timeLine) {
		return Head{}, errHead
	}
	head := Head{Origin: lines[origin]}
	var err error
	if head.Size, err = strconv.ParseInt(lines[size], 10, 64); err != nil || head.Size < 0 {
		return Head{}, fmt.Errorf("%w: size %.30q", errHead, lines[size])
	}
	hash, err := base64.StdEncoding.DecodeString(lines[root])
	if err != nil || len(hash) != HashSize {
		return Head{}, fmt.Errorf("%w: root %.60q", errHead, lines[root])
	}
	copy(head.Root[:], hash)
	if head.Time, err = time.Parse(timeLayout, strings.TrimPrefix(lines[signed], timeLine)); err != nil {
		return Head{}, fmt.Errorf("%w: %.60q", errHead, lines[signed])
	}
	if head.Text() != text { // one spelling only
		return Head{}, errHead
	}
	return head, nil
}
