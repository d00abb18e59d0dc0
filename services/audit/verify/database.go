package verify

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/galley-engine/galley/schemas/audit"
	"github.com/galley-engine/galley/services/audit/internal/tree"
)

// DB is a pool or a connection. It acts as the role galley_audit, or as a superuser.
type DB interface {
	BeginTx(ctx context.Context, options pgx.TxOptions) (pgx.Tx, error)
}

// Database verifies the whole log but for Options.Skip, in one snapshot: it may grow meanwhile. It reads it once, in its order, over one
// connection. The error says that it could not be read to its end; what is wrong with it is in the Report. Give Options.Published what was
// published before the call.
//
// The column recorded_at is not verified: it is in no leaf.
func Database(ctx context.Context, db DB, options Options) (*Report, error) {
	set, err := options.settings()
	if err != nil {
		return nil, err
	}
	start := set.Clock()
	tx, err := db.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		return nil, fmt.Errorf("verify the audit log: %w", err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }() // it changed nothing
	d := &database{tx: tx, set: set, found: &findings{limit: set.MaxFindings}}
	report, err := d.verify(ctx)
	if err != nil {
		return nil, fmt.Errorf("verify the audit log: %w", err)
	}
	report.Duration = set.Clock().Sub(start)
	return report, nil
}

// database verifies what one snapshot shows.
type database struct {
	tx    pgx.Tx
	set   *settings
	found *findings
	walk  *walk
	// edge is what is stored of the tile of level 0 that is not complete.
	edge     []byte
	edgeTile int64
	// regions are what is read, reading is the one that is read now.
	regions []region
	reading *region
	// strangers are published heads of another log's name.
	strangers int
}

func (d *database) verify(ctx context.Context) (*Report, error) {
	// The rows are wanted in their order while they are read, and none of them twice.
	const plan = `SET LOCAL enable_sort = off; SET LOCAL enable_hashjoin = off; SET LOCAL enable_nestloop = off; SET LOCAL jit = off;
		SET LOCAL max_parallel_workers_per_gather = 0`
	if _, err := d.tx.Exec(ctx, plan); err != nil {
		return nil, err
	}
	if err := d.prepare(ctx); err != nil {
		return nil, err
	}
	for i := range d.regions {
		d.reading = &d.regions[i]
		if i > 0 {
			d.walk.absorb(d.regions[i-1].to/tileWidth, d.reading.from/tileWidth)
		}
		if err := ordered(ctx, d.set.Workers, d.read, d.check, d.take); err != nil {
			return nil, err
		}
		if err := d.follow(ctx); err != nil {
			return nil, err
		}
	}
	d.walk.finish()
	for _, look := range []func(context.Context) error{d.strayPayloads, d.strayTiles, d.strayRows, d.catalogue} {
		if err := look(ctx); err != nil {
			return nil, err
		}
	}
	report := d.walk.report(d.set, audit.Everyone)
	report.Unchecked = d.strangers
	return report, nil
}

// prepare reads how long the log says it is, and finds out how long it must be.
func (d *database) prepare(ctx context.Context) error {
	var last int64
	if err := d.tx.QueryRow(ctx, `SELECT coalesce(max(sequence), 0) FROM audit.events`).Scan(&last); err != nil {
		return err
	}
	end := storedEnd{rows: last}
	if err := end.load(ctx, d.tx); err != nil {
		return err
	}
	signed, err := newestSigned(ctx, d.tx, d.set)
	if err != nil {
		return err
	}
	given, unsigned, strangers := d.set.published()
	d.strangers = strangers
	length, claimant := max(min(end.rows, last), end.size), "audit.head is of a log"
	vouched := signed.Size
	if signed.Size > 0 && signed.Size >= length {
		length, claimant = signed.Size, "the tree head signed at "+stamp(signed.Time)+" is of a log"
	}
	if n := len(given); n > 0 && given[n-1].Size >= length {
		length, claimant = given[n-1].Size, "the published tree head, signed at "+stamp(given[n-1].Time)+", is of a log"
		vouched = length
	}
	claimed := &claims{size: length, leaves: map[int64][]byte{}}
	if end.behind() && vouched <= end.size {
		claimed.size = end.size // the tree was introduced a moment ago
	}
	if claimed.upper, err = upperTiles(ctx, d.tx, claimed); err != nil {
		return err
	}
	d.walk = newWalk(d.found, claimed, length)
	d.walk.claimant, d.walk.faults, d.walk.edge, d.walk.edgeSize = claimant, end.faults, &end.root, end.size
	d.walk.heads.unsigned[published] = unsigned
	if len(end.faults) == 0 && (end.rows < min(last, length) || end.rows > length || end.behind() && vouched > end.size) {
		d.walk.fault("size")
	}
	d.edge, d.edgeTile = end.tiles(claimed), end.size/tileWidth
	d.walk.expect(given)
	if err := d.missingHeads(ctx, given); err != nil {
		return err
	}
	return d.plan(ctx, last, signed, given)
}

// storedEnd is what audit.head says.
type storedEnd struct {
	rows   int64
	size   int64
	root   tree.Hash
	levels [][]byte
	faults []string
}

// behind says that the tree has not all rows: so it is for a moment after it was introduced.
func (e *storedEnd) behind() bool {
	return len(e.faults) == 0 && e.size < e.rows
}

// tiles adds the tiles that are not complete to those above level 0, and gives the one of level 0.
func (e *storedEnd) tiles(claimed *claims) []byte {
	var lowest []byte
	for level, hashes := range e.levels {
		id := tree.TileID{Level: level, Index: e.size >> (tileBits * (level + 1))}
		switch {
		case len(hashes) == 0:
		case level == 0:
			lowest = hashes
		case claimed.upper[id] == nil:
			claimed.upper[id] = hashes
		}
	}
	return lowest
}

// load reads it. What cannot be is a fault, and then the tree counts as having no leaves.
func (e *storedEnd) load(ctx context.Context, tx pgx.Tx) error {
	var rows, size int64
	var root, edge []byte
	e.root = tree.EmptyRoot()
	err := tx.QueryRow(ctx, `SELECT sequence, tree_size, root, edge FROM audit.head`).Scan(&rows, &size, &root, &edge)
	if errors.Is(err, pgx.ErrNoRows) {
		e.faults = []string{"row"}
		return nil
	}
	if err != nil {
		return err
	}
	e.rows = rows
	if size < 0 || size > rows || len(root) != tree.HashSize {
		e.faults = []string{"size"}
		return nil
	}
	var levels [][]byte
	short := false
	for left := size; left > 0; left >>= tileBits {
		width := int(left%tileWidth) * tree.HashSize
		if short = short || width > len(edge); short {
			break
		}
		levels = append(levels, edge[:width])
		edge = edge[width:]
	}
	if short || len(edge) > 0 {
		e.faults = []string{"edge"}
		return nil
	}
	e.size, e.levels = size, levels
	copy(e.root[:], root)
	return nil
}

// newestSigned finds the newest tree head that the key has signed.
func newestSigned(ctx context.Context, tx pgx.Tx, set *settings) (tree.Head, error) {
	const few = 20
	for below := int64(math.MaxInt64); ; {
		rows, err := tx.Query(ctx, `SELECT size, signed_at, note::bytea FROM audit.tree_heads WHERE size < $1 ORDER BY size DESC LIMIT $2`,
			below, few)
		if err != nil {
			return tree.Head{}, err
		}
		heads, err := pgx.CollectRows(rows, pgx.RowToStructByPos[storedHead])
		if err != nil || len(heads) == 0 {
			return tree.Head{}, err
		}
		for _, stored := range heads {
			if head, err := set.open(stored.Note); err == nil {
				return head, nil
			}
		}
		below = heads[len(heads)-1].Size
	}
}

// upperTiles reads the tiles above level 0 that the tree must have: 32 bytes for every 256 leaves.
func upperTiles(ctx context.Context, tx pgx.Tx, claimed *claims) (map[tree.TileID][]byte, error) {
	const statement = `SELECT level, index, hashes FROM audit.tiles WHERE level BETWEEN 1 AND $1 AND index BETWEEN 0 AND $2`
	rows, err := tx.Query(ctx, statement, maxLevel, claimed.size>>(2*tileBits))
	if err != nil {
		return nil, err
	}
	found := make(map[tree.TileID][]byte)
	var id tree.TileID
	var hashes []byte
	_, err = pgx.ForEachRow(rows, []any{&id.Level, &id.Index, &hashes}, func() error {
		if claimed.expects(id.Level, id.Index) {
			found[id] = append([]byte{}, hashes...)
		}
		return nil
	})
	return found, err
}

// missingHeads finds published tree heads that the database has not.
func (d *database) missingHeads(ctx context.Context, given []signedHead) error {
	sizes := make([]int64, len(given))
	for i := range given {
		sizes[i] = given[i].Size
	}
	const statement = `SELECT DISTINCT size FROM unnest($1::bigint[]) AS given (size)
		WHERE (SELECT stored.size FROM audit.tree_heads AS stored WHERE stored.size = given.size) IS NULL ORDER BY size`
	rows, err := d.tx.Query(ctx, statement, sizes)
	if err != nil {
		return err
	}
	missing, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	for _, size := range missing {
		d.found.add(Finding{Code: HeadMissing, Size: size, Message: fmt.Sprintf("the tree head of size %d was published, and was deleted", size)})
	}
	return err
}

// published opens the tree heads that are known from elsewhere, the smallest first. Strangers are counted: they say nothing of this log.
func (s *settings) published() (given []signedHead, unsigned foreign, strangers int) {
	for _, note := range s.Published {
		head, err := s.read([]byte(note))
		switch {
		case err != nil:
			size := int64(0)
			if said, failure := tree.UnverifiedHead([]byte(note)); failure == nil {
				size = said.Size
			}
			unsigned.add(size, err)
		case head.stranger:
			strangers++
		default:
			head.source = published
			given = append(given, head)
		}
	}
	sortHeads(given)
	return given, unsigned, strangers
}

// epoch is where Postgres counts its time from, in microseconds of Unix time.
const epoch = 946_684_800_000_000

func unixMicro(postgres int64) int64 {
	if postgres > math.MaxInt64-epoch {
		return math.MaxInt64
	}
	return postgres + epoch
}

// storedHead is a row of audit.tree_heads.
type storedHead struct {
	Size     int64
	SignedAt time.Time
	Note     []byte
}
