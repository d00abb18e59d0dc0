package verify

import (
	"errors"
	"fmt"

	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/galley-engine/galley/schemas/audit"
	"github.com/galley-engine/galley/services/audit/internal/leaf"
	"github.com/galley-engine/galley/services/audit/internal/tree"
)

var (
	// ErrProof says that a proof does not prove what it should.
	ErrProof = errors.New("the proof does not hold")
	// ErrSignature says that a tree head is not signed by the key, or is of another log.
	ErrSignature = tree.ErrSignature
)

// Payload is what is known of what a leaf's digest is of.
type Payload string

const (
	// PayloadChecked: it is there, and is what the digest is of.
	PayloadChecked Payload = "checked"
	// PayloadElsewhere: only its salt is there.
	PayloadElsewhere Payload = "elsewhere"
	// PayloadErased: it is not there any more.
	PayloadErased Payload = "erased"
	// PayloadNone: there never was one. So it is with leaves from before the Merkle tree.
	PayloadNone Payload = "none"
)

// Included is what an inclusion proof proves: at Head.Time the log had this event at this place.
type Included struct {
	Head    Head    `json:"head"`
	EventID string  `json:"event_id"`
	Index   int64   `json:"index"`
	Payload Payload `json:"payload"`
}

// Inclusion checks that an event is in the log: two implementations that have nothing in common must both say so. The error is
// ErrSignature, ErrProof, or ErrKey. Options.Published and what follows it play no part.
func Inclusion(p *audit.Inclusion, options Options) (Included, error) {
	set, err := options.settings()
	if err != nil {
		return Included{}, err
	}
	head, err := set.open([]byte(p.Note))
	if err != nil {
		return Included{}, err
	}
	read, err := leaf.Parse([]byte(p.Leaf))
	if err != nil {
		return Included{}, fmt.Errorf("%w: %w", ErrProof, err)
	}
	if read.EventID != p.EventID {
		return Included{}, fmt.Errorf("%w: the leaf is of event %.200q, not %.200q", ErrProof, read.EventID, p.EventID)
	}
	if p.Index < 0 || p.Index >= head.Size {
		return Included{}, fmt.Errorf("%w: the tree of %d leaves has none of index %d", ErrProof, head.Size, p.Index)
	}
	path, err := hashes(p.Path)
	if err != nil {
		return Included{}, err
	}
	hash := tree.LeafHash([]byte(p.Leaf))
	if err := tlog.CheckRecord(path, head.Size, head.Root, p.Index, hash); err != nil {
		return Included{}, fmt.Errorf("%w: %w", ErrProof, err)
	}
	err = proof.VerifyInclusion(rfc6962.DefaultHasher, uint64(p.Index), uint64(head.Size), //nolint:gosec // neither is negative
		rfc6962.DefaultHasher.HashLeaf([]byte(p.Leaf)), p.Path, head.Root[:])
	if err != nil {
		return Included{}, fmt.Errorf("%w: the second implementation disagrees: %w", ErrProof, err)
	}
	payload, err := checkPayload(&read, p.Salt, p.Data)
	if err != nil {
		return Included{}, fmt.Errorf("%w: %w", ErrProof, err)
	}
	return Included{Head: publicHead(head), EventID: read.EventID, Index: p.Index, Payload: payload}, nil
}

// Consistent is what a consistency proof proves: the log of Older is the beginning of that of Newer.
type Consistent struct {
	Older Head `json:"older"`
	Newer Head `json:"newer"`
}

// Consistency checks that the log of an older signed tree head, which whoever asks has kept, is the beginning of that of the proof's:
// nothing of it was changed or removed. Its errors are those of Inclusion.
func Consistency(older string, p *audit.Consistency, options Options) (Consistent, error) {
	set, err := options.settings()
	if err != nil {
		return Consistent{}, err
	}
	before, err := set.open([]byte(older))
	if err != nil {
		return Consistent{}, fmt.Errorf("older tree head: %w", err)
	}
	after, err := set.open([]byte(p.Note))
	if err != nil {
		return Consistent{}, err
	}
	if p.OlderSize != before.Size || before.Size > after.Size || before.Size == 0 {
		return Consistent{}, fmt.Errorf("%w: it is of sizes %d and %d, and the older tree head is of size %d", ErrProof, p.OlderSize,
			after.Size, before.Size)
	}
	path, err := hashes(p.Path)
	if err != nil {
		return Consistent{}, err
	}
	if err := tlog.CheckTree(path, after.Size, after.Root, before.Size, before.Root); err != nil {
		return Consistent{}, fmt.Errorf("%w: %w", ErrProof, err)
	}
	err = proof.VerifyConsistency(rfc6962.DefaultHasher, uint64(before.Size), uint64(after.Size), //nolint:gosec // neither is negative
		p.Path, before.Root[:], after.Root[:])
	if err != nil {
		return Consistent{}, fmt.Errorf("%w: the second implementation disagrees: %w", ErrProof, err)
	}
	return Consistent{Older: publicHead(before), Newer: publicHead(after)}, nil
}

func hashes(path [][]byte) ([]tree.Hash, error) {
	made := make([]tree.Hash, len(path))
	for i, hash := range path {
		if len(hash) != tree.HashSize {
			return nil, fmt.Errorf("%w: hash %d of the path has %d bytes", ErrProof, i, len(hash))
		}
		copy(made[i][:], hash)
	}
	return made, nil
}

var errPayload = errors.New("the data is not what the leaf's digest is of")

// checkPayload compares what is kept with the digest. A salt without data says nothing by itself, unless the data was empty.
func checkPayload(l *leaf.Leaf, salt, data []byte) (Payload, error) {
	switch matches := leaf.Digest(salt, data) == l.Digest; {
	case len(data) > 0 && !matches:
		return "", errPayload
	case matches:
		return PayloadChecked, nil
	case len(salt) > 0:
		return PayloadElsewhere, nil
	default:
		return noPayload(l), nil
	}
}

// noPayload says why there is none.
func noPayload(l *leaf.Leaf) Payload {
	if l.Version == leaf.Unchained {
		return PayloadNone
	}
	return PayloadErased
}
