package event

import "time"

// TypeTreeHead is the CloudEvents type of a TreeHead.
const TypeTreeHead = "dev.galley.audit.tree_head.v1"

// TreeHead says how the audit log stood at a moment. Its id is "<origin>/<size>".
type TreeHead struct {
	// Origin names the log, and the key that signed.
	Origin string `json:"origin"`
	// Size is how many leaves the log had.
	Size int64 `json:"size"`
	// Root is the root of the Merkle tree over them, in base64.
	Root     string    `json:"root"`
	SignedAt time.Time `json:"signed_at"`
	// Note is the signed note (https://c2sp.org/signed-note) that says the same. It alone is proof; the other members repeat it.
	Note string `json:"note"`
}
