// Package export gives the audit log away, page by page, in the format of package schemas/audit: first the leaves, then the tiles that lead
// from them to the root, then the tree heads. The first page chooses the tree head that all others go by, so that the log may grow meanwhile.
package export

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/galley-engine/galley/pkg/clock"
	"github.com/galley-engine/galley/pkg/postgres"
	"github.com/galley-engine/galley/schemas/audit"
	"github.com/galley-engine/galley/schemas/query"
	"github.com/galley-engine/galley/services/audit/internal/proof"
	"github.com/galley-engine/galley/services/audit/internal/refusal"
	"github.com/galley-engine/galley/services/audit/internal/storedtree"
	"github.com/galley-engine/galley/services/audit/internal/tree"
)

const (
	// maxPage is about how many bytes a page has: a message of NATS must hold it. One line may be longer.
	maxPage = 384 << 10
	// Lines are read so many at once.
	maxLeaves = 500
	maxTiles  = 32
	maxHeads  = 1000
)

// Deps is what an Exporter is given.
type Deps struct {
	// Pool acts as the role that row-level security holds to one customer.
	Pool   *pgxpool.Pool
	Prover *proof.Prover
	Key    tree.Key
	Clock  clock.Clock
}

// Exporter answers with pages of exports.
type Exporter struct {
	Deps
	// room is how many bytes a page has, leaves, tiles and heads how many lines are read at once.
	room, leaves, tiles, heads int
}

// New makes an Exporter.
func New(deps Deps) *Exporter {
	return &Exporter{Deps: deps, room: maxPage, leaves: maxLeaves, tiles: maxTiles, heads: maxHeads}
}

// job is an export, as a page knows it.
type job struct {
	customer string
	// setting is what row-level security goes by.
	setting string
	signed  storedtree.SignedHead
	head    tree.Head
}

func (j *job) everyone() bool { return j.customer == audit.Everyone }

// Page gives a page of an export. The error is a *problem.Error when the request is at fault.
func (e *Exporter) Page(ctx context.Context, request query.AuditExportRequest) (query.AuditExportReply, error) {
	if err := refusal.Customer(request.CustomerID, audit.Everyone); err != nil {
		return query.AuditExportReply{}, err
	}
	j := job{customer: request.CustomerID, setting: request.CustomerID}
	if j.everyone() {
		j.setting = postgres.EveryCustomer
	}
	page := &page{room: e.room}
	from := request.From
	var err error
	if from == nil {
		from, err = e.begin(ctx, &j, page)
	} else {
		err = e.resume(ctx, &j, from)
	}
	if err != nil {
		return query.AuditExportReply{}, err
	}
	next := from
	// A page goes on with the next kind of lines while there is room.
	for next != nil && !page.full {
		if next, err = e.fill(ctx, &j, page, next); err != nil {
			return query.AuditExportReply{}, fmt.Errorf("export %s: %w", j.customer, err)
		}
	}
	return query.AuditExportReply{Lines: page.lines, Next: next, Size: j.head.Size, Root: j.head.Root.String()}, nil
}

// begin chooses the tree head, and writes the first line.
func (e *Exporter) begin(ctx context.Context, j *job, page *page) (from *query.AuditExportPlace, err error) {
	if j.signed, j.head, err = e.Prover.Covering(ctx, 1); err != nil {
		return nil, err
	}
	now := e.Clock().UTC()
	err = page.add(&audit.Line{
		Kind: audit.KindLog, Format: audit.Format, Origin: j.head.Origin, PublicKey: e.Key.Public, CustomerID: j.customer, ExportedAt: &now,
	})
	return &query.AuditExportPlace{Size: j.head.Size, Kind: audit.KindLeaf}, err
}

// resume reads the tree head that was chosen.
func (e *Exporter) resume(ctx context.Context, j *job, from *query.AuditExportPlace) (err error) {
	const levels = 8 // a tree has no more of them
	if from.Size < 1 || from.Index < 0 || from.Level < 0 || from.Level >= levels {
		return refusal.Of("there is no such place in an export")
	}
	if j.signed, err = storedtree.SignedAt(ctx, e.Pool, from.Size); err != nil {
		return err
	}
	if j.signed.Size == 0 {
		return refusal.Of("there is no such tree head")
	}
	j.head, err = tree.OpenHead(j.signed.Note, e.Key.Verifier)
	return err
}

// fill adds lines of one kind, and gives where to go on, nil at the end.
func (e *Exporter) fill(ctx context.Context, j *job, page *page, from *query.AuditExportPlace) (*query.AuditExportPlace, error) {
	switch from.Kind {
	case audit.KindLeaf:
		return e.addLeaves(ctx, j, page, from)
	case audit.KindTile:
		return e.addTiles(ctx, j, page, from)
	case audit.KindHead:
		return e.addHeads(ctx, j, page, from)
	case audit.KindLog:
	}
	return nil, refusal.Of("there is no such place in an export")
}

// addLeaves goes on with the leaf of index from.Index, or the next one that is the customer's.
func (e *Exporter) addLeaves(ctx context.Context, j *job, page *page, from *query.AuditExportPlace) (*query.AuditExportPlace, error) {
	next, count := from.Index, 0
	err := postgres.Query(ctx, e.Pool, j.setting, func(batch *pgx.Batch) {
		statement, arguments := leavesAfter, []any{from.Index, j.head.Size, proof.MaxData, e.leaves}
		if !j.everyone() {
			statement, arguments = customersLeavesAfter, append(arguments, j.customer)
		}
		batch.Queue(statement, arguments...).Query(func(rows pgx.Rows) error {
			defer rows.Close()
			for !page.full && rows.Next() {
				var stored []byte
				line := audit.Line{Kind: audit.KindLeaf}
				if err := rows.Scan(&line.Index, &stored, &line.Salt, &line.Data); err != nil {
					return err
				}
				line.Leaf = string(stored)
				if err := page.add(&line); err != nil {
					return err
				}
				count++
				next = line.Index + 1
			}
			return rows.Err()
		})
	})
	if err != nil {
		return nil, fmt.Errorf("read leaves: %w", err)
	}
	if !page.full && count < e.leaves {
		return &query.AuditExportPlace{Size: j.head.Size, Kind: audit.KindTile}, nil
	}
	return &query.AuditExportPlace{Size: j.head.Size, Kind: audit.KindLeaf, Index: next}, nil
}

// addHeads adds the heads of at least size from.Index that are before the newest one, where they are wanted, and that one at the end.
func (e *Exporter) addHeads(ctx context.Context, j *job, page *page, from *query.AuditExportPlace) (*query.AuditExportPlace, error) {
	if j.everyone() {
		found, err := e.headsFrom(ctx, j, from.Index)
		if err != nil {
			return nil, err
		}
		for i := range found {
			if page.full {
				return &query.AuditExportPlace{Size: j.head.Size, Kind: audit.KindHead, Index: found[i].Size}, nil
			}
			if err := page.add(&audit.Line{Kind: audit.KindHead, Note: string(found[i].Note)}); err != nil {
				return nil, err
			}
		}
		if len(found) == e.heads {
			return &query.AuditExportPlace{Size: j.head.Size, Kind: audit.KindHead, Index: found[len(found)-1].Size + 1}, nil
		}
	}
	return nil, page.add(&audit.Line{Kind: audit.KindHead, Note: string(j.signed.Note)})
}

// page is what is sent at once.
type page struct {
	lines      []json.RawMessage
	size, room int
	// full tells that there is no room for another line.
	full bool
}

func (p *page) add(line *audit.Line) error {
	encoded, err := json.Marshal(line)
	if err != nil {
		return fmt.Errorf("encode a line: %w", err)
	}
	p.lines = append(p.lines, encoded)
	p.size += len(encoded) + 1
	p.full = p.size >= p.room
	return nil
}
