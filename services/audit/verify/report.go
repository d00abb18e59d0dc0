package verify

import (
	"fmt"
	"time"

	"github.com/galley-engine/galley/services/audit/internal/tree"
)

// Report is what a verification found. Its JSON form is for machines.
type Report struct {
	// Origin is the log's name, that of its key.
	Origin string `json:"origin"`
	// CustomerID is whose leaves were verified, "*" for the whole log.
	CustomerID string `json:"customer_id"`
	// Leaves is how many leaves were read. Skipped is how many were not, because of Options.Skip; what follows is of those that were.
	Leaves  int64 `json:"leaves"`
	Skipped int64 `json:"skipped,omitempty"`
	// Size is the number of leaves of the tree, and Root its root, computed from the leaves, and from the tiles over those that were skipped. Of
	// a customer's export they are those of the newest signed tree head. Root is absent when leaves are missing that nothing else tells of.
	Size int64  `json:"size"`
	Root string `json:"root,omitempty"`
	// SignedSize is the size of the newest tree head that has a good signature and that the leaves agree with, and SignedAt its time.
	// Leaves after it are in no promise yet: at most those of the last seconds while the log is written.
	SignedSize int64     `json:"signed_size"`
	SignedAt   time.Time `json:"signed_at,omitzero"`
	// Customers is how many customers have leaves. Leaves that are nobody's count as one more.
	Customers int `json:"customers"`
	// Heads is how many signed tree heads of the log were checked, and Published how many of Options.Published.
	Heads     int64 `json:"heads"`
	Published int   `json:"published"`
	// FormerHeads is how many heads there are of another log's name, whose key is not known: from before the log got its key. The leaves agree
	// with them, and a head of the log's own key covers them.
	FormerHeads int64 `json:"former_heads,omitempty"`
	// Unchecked is how many of Options.Published could not be compared: those of another log's name, those that are newer than an export, and
	// those that a customer's export has not the tiles for.
	Unchecked int `json:"unchecked,omitempty"`
	// Payloads that are kept and match their leaf's digest; those of which only the salt is kept, since the data is elsewhere; those that
	// were erased. Leaves from before the Merkle tree never had one, and are in none of these.
	PayloadsChecked   int64 `json:"payloads_checked"`
	PayloadsElsewhere int64 `json:"payloads_elsewhere"`
	PayloadsErased    int64 `json:"payloads_erased"`
	// Duration is how long it took.
	Duration time.Duration `json:"duration_ns"`
	// Findings are what is wrong, in the order of the log as far as they have a place in it. There are none when the log is whole.
	Findings []Finding `json:"findings"`
	// Unlisted is how many findings there were beyond Options.MaxFindings.
	Unlisted int64 `json:"unlisted,omitempty"`
}

// Whole tells whether nothing is wrong.
func (r *Report) Whole() bool {
	return len(r.Findings) == 0 && r.Unlisted == 0
}

// Code is the machine's name of what is wrong.
type Code string

// Codes of findings. Rows are named by their sequence, from 1; the leaf's index in the tree is one less.
const (
	// RowChanged: the leaf of row Sequence (to To) is not the one that the tree has there.
	RowChanged Code = "ROW_CHANGED"
	// RowsSwapped: rows Sequence and To stand in each other's place.
	RowsSwapped Code = "ROWS_SWAPPED"
	// RowMissing: row Sequence (to To) was deleted. When rows behind it were renumbered to hide it, the sentence says so.
	RowMissing Code = "ROW_MISSING"
	// RowAdded: row Sequence (to To) is none of the tree's.
	RowAdded Code = "ROW_ADDED"
	// RowRepeated: there is more than one row with this Sequence.
	RowRepeated Code = "ROW_REPEATED"
	// LeafMalformed: the leaf of row Sequence is not in the canonical form, though the tree has it so.
	LeafMalformed Code = "LEAF_MALFORMED"
	// ColumnDiffers: Columns of row Sequence say something else than its leaf.
	ColumnDiffers Code = "COLUMN_DIFFERS"
	// ChainBroken: row Sequence does not follow the leaf of its customer that is before it; leaves of Customer were left out, added, or
	// put in another order.
	ChainBroken Code = "CHAIN_BROKEN"
	// PayloadChanged: what is stored beside row Sequence is not what the leaf's digest is of.
	PayloadChanged Code = "PAYLOAD_CHANGED"
	// PayloadStray: there is a payload of Sequence, and no such row.
	PayloadStray Code = "PAYLOAD_STRAY"
	// LogTruncated: the log ends before row Sequence; rows to To were there.
	LogTruncated Code = "LOG_TRUNCATED"
	// LogRewritten: the log is not the one of the signed tree head of size Size. Rows Sequence to To are those among which it differs
	// first.
	LogRewritten Code = "LOG_REWRITTEN"
	// TileChanged: Tile is not what the leaves give, and the leaves are right.
	TileChanged Code = "TILE_CHANGED"
	// TileMissing: Tile should be stored, and is not.
	TileMissing Code = "TILE_MISSING"
	// EdgeChanged: the end of the log, audit.head, is not what the leaves give.
	EdgeChanged Code = "EDGE_CHANGED"
	// HeadNotSigned: the tree head of size Size is not signed by the log's key, or is that of another log and not covered by one of this.
	HeadNotSigned Code = "HEAD_NOT_SIGNED"
	// HeadMalformed: the tree head of size Size does not say what is stored beside it, or contradicts the head before it.
	HeadMalformed Code = "HEAD_MALFORMED"
	// HeadMissing: the tree head of size Size was published, and is not among those stored; or an export has none.
	HeadMissing Code = "HEAD_MISSING"
	// TriggerDisabled: a trigger that keeps a table append-only is missing, disabled, or does not do what it did.
	TriggerDisabled Code = "TRIGGER_DISABLED"
	// RowSecurityDisabled: a table has no row-level security any more.
	RowSecurityDisabled Code = "ROW_SECURITY_DISABLED"
	// ExportMalformed: line Line of an export is not what the format says.
	ExportMalformed Code = "EXPORT_MALFORMED"
	// ForeignLeaf: a customer's export holds the leaf of row Sequence, which is another customer's.
	ForeignLeaf Code = "FOREIGN_LEAF"
	// LeafNotIncluded: the leaf of row Sequence of an export is not in the tree of its signed tree head.
	LeafNotIncluded Code = "LEAF_NOT_INCLUDED"
)

// Finding is one thing that is wrong. What it is about is in those members that its code names.
type Finding struct {
	Code Code `json:"code"`
	// Sequence is a row's, from 1; To that of the last one, when it is about several.
	Sequence int64 `json:"sequence,omitempty"`
	To       int64 `json:"to,omitempty"`
	// Tile is a tile of the tree.
	Tile *Tile `json:"tile,omitempty"`
	// Size is that of a tree head.
	Size int64 `json:"size,omitempty"`
	// Customer is whose chain it is about.
	Customer string `json:"customer_id,omitempty"`
	// Columns are those of the row, by name.
	Columns []string `json:"columns,omitempty"`
	// Line is a line of an export, from 1.
	Line int64 `json:"line,omitempty"`
	// Message says it in a sentence.
	Message string `json:"message"`
}

// Tile names a tile: Index counts the tiles of a level from 0.
type Tile struct {
	Level int   `json:"level"`
	Index int64 `json:"index"`
}

// String is the code, and the sentence.
func (f Finding) String() string {
	return string(f.Code) + ": " + f.Message
}

// Head is what a signed tree head says.
type Head struct {
	Origin string    `json:"origin"`
	Size   int64     `json:"size"`
	Root   string    `json:"root"`
	Time   time.Time `json:"time"`
}

func publicHead(head tree.Head) Head {
	return Head{Origin: head.Origin, Size: head.Size, Root: head.Root.String(), Time: head.Time}
}

// rows names a row, or a range of them.
func rows(from, to int64) string {
	if to <= from {
		return fmt.Sprintf("row %d", from)
	}
	return fmt.Sprintf("rows %d to %d", from, to)
}
