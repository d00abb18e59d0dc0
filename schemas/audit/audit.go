// Package audit is what leaves the audit log for whoever verifies it: the lines of an export, and proofs. It is a public contract; any
// language can read it with a JSON decoder, a base64 decoder, SHA-256 and Ed25519.
//
// The log is a Merkle tree (RFC 6962, section 2.1). The hash of a leaf is SHA-256(0x00, leaf), that of a node SHA-256(0x01, left, right).
// A tree head is a signed note (https://c2sp.org/signed-note) of four lines: the log's name, the number of leaves, the root in base64,
// and the time.
package audit

import "time"

// Format is the version of the export format.
const Format = 1

// Kind says what a line of an export is.
type Kind string

const (
	// KindLog is the first line: what the export is of.
	KindLog Kind = "log"
	// KindLeaf is a leaf. Leaves come in the order of the log.
	KindLeaf Kind = "leaf"
	// KindTile is a part of the tree: those tiles that are needed, with the leaves, to come to the root of the newest head. In an export
	// of the whole log these are all of them.
	KindTile Kind = "tile"
	// KindHead is a signed tree head. The newest one is the last line; in an export of the whole log all others come before it.
	KindHead Kind = "head"
)

// Everyone is the customer of an export of the whole log.
const Everyone = "*"

// Line is a line of an export: JSON without line breaks. Members that its kind has not are absent.
type Line struct {
	Kind Kind `json:"kind"`

	// Of KindLog. CustomerID is whose leaves these are, Everyone for the whole log. PublicKey is a convenience: a verifier must have the
	// key from elsewhere.
	Format     int        `json:"format,omitempty"`
	Origin     string     `json:"origin,omitempty"`
	PublicKey  string     `json:"public_key,omitempty"`
	CustomerID string     `json:"customer_id,omitempty"`
	ExportedAt *time.Time `json:"exported_at,omitempty"`

	// Of KindLeaf. Leaf is the leaf, byte for byte. Salt and Data are what its data_digest is of, as far as they are kept: neither when
	// they were erased, and the data of executions is not kept. Index is the leaf's place in the log, from 0.
	Leaf string `json:"leaf,omitempty"`
	Salt []byte `json:"salt,omitempty"`
	Data []byte `json:"data,omitempty"`

	// Of KindLeaf and KindTile.
	Index int64 `json:"index"`

	// Of KindTile: up to 256 hashes of a level (https://c2sp.org/tlog-tiles), 32 bytes each. Index counts the tiles of the level from 0.
	Level  int    `json:"level,omitempty"`
	Hashes []byte `json:"hashes,omitempty"`

	// Of KindHead: the signed note.
	Note string `json:"note,omitempty"`
}

// Inclusion proves that an event is in the log: the leaf's hash, with the hashes of the path one after the other, gives the root of the
// signed tree head (RFC 6962, section 2.1.1).
type Inclusion struct {
	EventID string `json:"event_id"`
	// Leaf is the leaf, byte for byte, and Index its place in the log, from 0.
	Leaf  string `json:"leaf"`
	Index int64  `json:"index"`
	// Salt and Data are as in a Line.
	Salt []byte   `json:"salt,omitempty"`
	Data []byte   `json:"data,omitempty"`
	Path [][]byte `json:"path"`
	// Note is the signed tree head that the path leads to.
	Note string `json:"note"`
}

// Consistency proves that the log of an older tree head is the beginning of that of a newer one (RFC 6962, section 2.1.2).
type Consistency struct {
	OlderSize int64    `json:"older_size"`
	Path      [][]byte `json:"path"`
	// Note is the signed tree head that the proof is for.
	Note string `json:"note"`
}
