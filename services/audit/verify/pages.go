package verify

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/galley-engine/galley/services/audit/internal/tree"
)

const (
	// pageSize is how many sequences one statement reads.
	pageSize = 64 * tileWidth
	// A part is what is handed on at once: as many complete tiles as have one of these.
	partRows  = 8 * tileWidth
	partBytes = 1 << 20
	// large rows are looked at where they are read, so that they take no memory.
	large = 64 << 10
)

// part is a part of the log: the rows after sequence from, up to to, both multiples of the width of a tile.
type part struct {
	from, to int64
	rows     []stored
	checked  []checked
	tiles    map[int64][]byte
	heads    []storedHead
	opened   []signedHead
	faults   []Finding
	unsigned []unsignedHead
	arena    []byte
	bytes    int
	payloads int64
}

func newPart(from int64, tiles map[int64][]byte) *part {
	const room = partRows + tileWidth
	return &part{from: from, tiles: tiles, rows: make([]stored, 0, room), checked: make([]checked, 0, room)}
}

type unsignedHead struct {
	size   int64
	reason error
}

// read reads the region page by page: its rows, the tiles over them and the tree heads of their sizes.
func (d *database) read(ctx context.Context, emit func(*part) error) error {
	for from, end := d.reading.from, d.reading.to; from < end; {
		to := end
		if end-from > pageSize {
			to = from + pageSize
		}
		next, err := d.page(ctx, from, to, emit)
		if err != nil {
			return err
		}
		if from = to; next {
			continue
		}
		// Nothing was on this page. What is missing may be much.
		skip, found, err := d.nextPage(ctx, from)
		if err != nil || !found {
			return err
		}
		from = max(from, skip)
	}
	return nil
}

// page reads the rows after from, up to to. It is false when there is nothing on the page.
func (d *database) page(ctx context.Context, from, to int64, emit func(*part) error) (bool, error) {
	tiles, err := d.tiles(ctx, from, to)
	if err != nil {
		return false, err
	}
	heads, err := d.heads(ctx, from, to)
	if err != nil {
		return false, err
	}
	p := newPart(from, tiles)
	p.heads = heads
	const statement = `
		SELECT e.sequence, e.occurred_at, e.customer_sequence, e.leaf, p.customer_id, p.salt, p.data, e.event_id, e.customer_id, e.action_type,
			e.resource_type, e.resource_id, e.actor_type, e.actor_id, e.outcome, e.trace_id
		FROM audit.events AS e
		LEFT JOIN (SELECT * FROM audit.payloads WHERE sequence > $1 AND sequence <= $2) AS p USING (sequence)
		WHERE e.sequence > $1 AND e.sequence <= $2 ORDER BY e.sequence`
	rows, err := d.tx.Query(ctx, statement, pgx.QueryResultFormats{pgx.BinaryFormatCode}, from, to)
	if err != nil {
		return false, err
	}
	defer rows.Close()
	filled := false
	for rows.Next() {
		raw := rows.RawValues()
		sequence := number(raw[0])
		boundary := (sequence - 1) / tileWidth * tileWidth
		if boundary > p.from && (len(p.checked) >= partRows || p.bytes >= partBytes) {
			p.to = boundary
			if err := emit(p); err != nil {
				return false, err
			}
			p = newPart(boundary, tiles)
		}
		p.add(sequence, raw)
		filled = true
	}
	if err := rows.Err(); err != nil {
		return false, err
	}
	p.to = to
	return filled || len(tiles) > 0 || len(heads) > 0, emit(p)
}

// nextPage finds the next page that has something on it.
func (d *database) nextPage(ctx context.Context, from int64) (page int64, found bool, err error) {
	const statement = `
		SELECT least((SELECT min(sequence) - 1 FROM audit.events WHERE sequence > $1),
			(SELECT min(index) * $2 FROM audit.tiles WHERE level = 0 AND index >= $1 / $2 AND index < $3 / $2),
			(SELECT min(size) - 1 FROM audit.tree_heads WHERE size > $1))`
	var next *int64
	edge := d.edgeTile * tileWidth
	if err := d.tx.QueryRow(ctx, statement, from, int64(tileWidth), d.walk.claims.size).Scan(&next); err != nil {
		return 0, false, err
	}
	if len(d.edge) > 0 && edge >= from && (next == nil || edge < *next) {
		next = &edge
	}
	if next == nil {
		return 0, false, nil
	}
	return *next / pageSize * pageSize, true, nil
}

func (d *database) tiles(ctx context.Context, from, to int64) (map[int64][]byte, error) {
	const statement = `SELECT index, hashes FROM audit.tiles WHERE level = 0 AND index >= $1 AND index < $2`
	rows, err := d.tx.Query(ctx, statement, from/tileWidth, to/tileWidth)
	if err != nil {
		return nil, err
	}
	found := make(map[int64][]byte, pageSize/tileWidth)
	if len(d.edge) > 0 && d.edgeTile >= from/tileWidth && d.edgeTile < to/tileWidth {
		found[d.edgeTile] = d.edge
	}
	var index int64
	var hashes []byte
	_, err = pgx.ForEachRow(rows, []any{&index, &hashes}, func() error {
		if d.walk.claims.expects(0, index) {
			found[index] = append([]byte{}, hashes...)
		}
		return nil
	})
	return found, err
}

func (d *database) heads(ctx context.Context, from, to int64) ([]storedHead, error) {
	const statement = `SELECT size, signed_at, note::bytea FROM audit.tree_heads WHERE size > $1 AND size <= $2 ORDER BY size`
	rows, err := d.tx.Query(ctx, statement, from, to)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[storedHead])
}

func number(raw []byte) int64 {
	if len(raw) != 8 { //nolint:mnd // bytes of a bigint; NULL has none
		return 0
	}
	return int64(binary.BigEndian.Uint64(raw)) //nolint:gosec // it is one
}

// Places of the columns in the statement.
const (
	atSequence = iota
	atOccurred
	atOwn
	atLeaf
	atOwner
	atSalt
	atData
	atText
)

// add takes a row as Postgres sends it, valid until the next one.
func (p *part) add(sequence int64, raw [][]byte) {
	size := 0
	for _, value := range raw {
		size += len(value)
	}
	keep := p.keep
	if size > large {
		keep = func(b []byte) []byte { return b }
	}
	row := stored{
		sequence: sequence, columns: true, occurred: unixMicro(number(raw[atOccurred])), leaf: keep(raw[atLeaf]),
		payload: raw[atOwner] != nil, owner: keep(raw[atOwner]), salt: keep(raw[atSalt]), data: keep(raw[atData]),
	}
	if raw[atOwn] != nil {
		own := number(raw[atOwn])
		row.own = &own
	}
	for i := range row.text {
		row.text[i] = keep(raw[atText+i])
	}
	if row.payload {
		p.payloads++
	}
	if size > large {
		p.checked = append(p.checked, check(&row))
		p.rows = append(p.rows, stored{})
		return
	}
	p.bytes += size
	p.checked = append(p.checked, checked{})
	p.rows = append(p.rows, row)
}

// keep copies b into memory that the part's rows share.
func (p *part) keep(b []byte) []byte {
	if len(b) == 0 {
		return nil
	}
	if cap(p.arena)-len(p.arena) < len(b) {
		p.arena = make([]byte, 0, 4*large) //nolint:mnd // a few rows of any size
	}
	start := len(p.arena)
	p.arena = append(p.arena, b...)
	return p.arena[start:len(p.arena):len(p.arena)]
}

// check looks at each row and opens the tree heads. It runs beside others.
func (d *database) check(p *part) {
	for i := range p.rows {
		if p.rows[i].columns {
			p.checked[i] = check(&p.rows[i])
		}
	}
	p.rows, p.arena = nil, nil
	for _, h := range p.heads {
		head, err := d.set.read(h.Note)
		switch {
		case err != nil:
			p.unsigned = append(p.unsigned, unsignedHead{size: h.Size, reason: err})
		case head.Size != h.Size:
			p.faults = append(p.faults, Finding{Code: HeadMalformed, Size: h.Size, Message: fmt.Sprintf(
				"the tree head stored as that of size %d is of size %d", h.Size, head.Size)})
		default:
			if !head.Time.Equal(h.SignedAt.Truncate(time.Millisecond)) {
				p.faults = append(p.faults, Finding{Code: HeadMalformed, Size: h.Size, Message: fmt.Sprintf(
					"the tree head of size %d was signed at %s, and signed_at says %s", h.Size, stamp(head.Time), stamp(h.SignedAt))})
			}
			p.opened = append(p.opened, head)
		}
	}
}

// take walks through the part.
func (d *database) take(p *part) {
	w := d.walk
	w.advance(p.from / tileWidth)
	w.claims.leaves = p.tiles
	w.expect(p.opened)
	for _, fault := range p.faults {
		d.found.add(fault)
	}
	for _, head := range p.unsigned {
		w.heads.unsigned[kept].add(head.size, head.reason)
	}
	for i := range p.checked {
		w.add(&p.checked[i])
	}
	w.advance(p.to / tileWidth)
	if p.to >= w.end {
		w.rest()
	}
	d.reading.payloads += p.payloads
}

// strayTiles finds tiles that the log cannot have.
func (d *database) strayTiles(ctx context.Context) error {
	const statement = `
		SELECT level, index FROM audit.tiles
		WHERE level < 0 OR level > $2 OR index < 0 OR index >= $1::bigint >> (8 * (level + 1)) ORDER BY level, index LIMIT $3`
	rows, err := d.tx.Query(ctx, statement, d.walk.claims.size, maxLevel, d.set.MaxFindings)
	if err != nil {
		return err
	}
	stray, err := pgx.CollectRows(rows, pgx.RowToStructByPos[tree.TileID])
	for _, id := range stray {
		d.found.add(Finding{Code: TileChanged, Tile: &Tile{Level: id.Level, Index: id.Index}, Message: fmt.Sprintf(
			"tile %d of level %d is none that a log of %d leaves has", id.Index, id.Level, d.walk.claims.size)})
	}
	return err
}

// strayRows finds rows before the first one.
func (d *database) strayRows(ctx context.Context) error {
	var count, first int64
	err := d.tx.QueryRow(ctx, `SELECT count(*), coalesce(min(sequence), 0) FROM audit.events WHERE sequence < 1`).Scan(&count, &first)
	if count > 0 {
		d.found.add(Finding{Code: RowAdded, Sequence: first, Message: fmt.Sprintf("%d rows were added before row 1", count)})
	}
	return err
}

// strayPayloads finds payloads that are no row's, beside the rows that were read.
func (d *database) strayPayloads(ctx context.Context) error {
	if _, err := d.tx.Exec(ctx, `SET LOCAL enable_hashjoin = on`); err != nil {
		return err
	}
	for i, r := range d.regions {
		if i == 0 {
			r.from = math.MinInt64
		}
		if err := d.strayPayloadsOf(ctx, &r); err != nil {
			return err
		}
	}
	return nil
}

func (d *database) strayPayloadsOf(ctx context.Context, r *region) error {
	var count int64
	err := d.tx.QueryRow(ctx, `SELECT count(*) FROM audit.payloads WHERE sequence > $1 AND sequence <= $2`, r.from, r.to).Scan(&count)
	if err != nil || count == r.payloads {
		return err
	}
	rows, err := d.tx.Query(ctx, `
		SELECT sequence FROM audit.payloads AS p WHERE sequence > $1 AND sequence <= $2 AND NOT EXISTS
			(SELECT FROM audit.events AS e WHERE e.sequence = p.sequence AND e.sequence > $1 AND e.sequence <= $2)`, r.from, r.to)
	if err != nil {
		return err
	}
	var sequence int64
	_, err = pgx.ForEachRow(rows, []any{&sequence}, func() error {
		// Of a row that is known to be missing the payload may have been left.
		if !d.walk.rows.has(sequence) {
			d.found.add(Finding{
				Code: PayloadStray, Sequence: sequence, Message: fmt.Sprintf("there is a payload of row %d, and no such row", sequence),
			})
		}
		return nil
	})
	return err
}
