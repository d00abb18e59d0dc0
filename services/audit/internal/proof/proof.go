// Package proof gives signed tree heads, and proofs that lead to them. Whatever it reads is verified against the signed root on the way: a
// proof that would not hold is never given out.
package proof

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/rs/zerolog"

	"github.com/galley-engine/galley/pkg/clock"
	"github.com/galley-engine/galley/pkg/lifecycle"
	"github.com/galley-engine/galley/pkg/postgres"
	"github.com/galley-engine/galley/schemas/audit"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/schemas/query"
	"github.com/galley-engine/galley/services/audit/internal/refusal"
	"github.com/galley-engine/galley/services/audit/internal/storedtree"
	"github.com/galley-engine/galley/services/audit/internal/tree"
	"github.com/galley-engine/galley/services/audit/internal/writer"
)

const (
	// patience is how long a proof waits for a tree head that covers its event; one is signed each second.
	patience = 3 * time.Second
	tick     = 50 * time.Millisecond
	// lateness is how late a row may be: whoever has just got an answer asks for its proof before the row is written.
	lateness = 500 * time.Millisecond
	// overdue is after how long a row that no head covers means that nothing is signed any more, whatever the signer says.
	overdue = 30 * time.Second
	// MaxData is the longest data that goes with a leaf in a message of NATS: in base64 it takes a third more.
	MaxData = 512 << 10
)

// errRewound is what whoever asks is told of [writer.FaultRewound].
var errRewound = fmt.Errorf("%w; nothing more is signed", writer.ErrRewound)

// Deps is what a Prover is given.
type Deps struct {
	// Pool acts as the role that row-level security holds to one customer.
	Pool *pgxpool.Pool
	Key  tree.Key
	// Fault is why this process signs nothing, nil while it does, or when another process does. What that one says is in the database.
	Fault func() error
	Clock clock.Clock
	Log   zerolog.Logger
}

// Prover answers with proofs.
type Prover struct {
	Deps
	// patience is for heads, lateness for rows.
	patience, lateness time.Duration
}

// New makes a Prover.
func New(deps Deps) *Prover {
	return &Prover{Deps: deps, patience: patience, lateness: lateness}
}

// ErrNoHead says that there is no signed tree head of the log yet.
var ErrNoHead = errors.New("there is no signed tree head")

// Newest gives the newest signed tree head. Its error is ErrNoHead when nothing was signed under the log's name, or the newest was not.
func (p *Prover) Newest(ctx context.Context) (storedtree.SignedHead, tree.Head, error) {
	signed, err := storedtree.Latest(ctx, p.Pool)
	if err != nil {
		return signed, tree.Head{}, err
	}
	if signed.Size == 0 {
		return signed, tree.Head{}, ErrNoHead
	}
	head, err := p.open(signed)
	if err != nil {
		err = fmt.Errorf("%w: %w", ErrNoHead, err)
	}
	return signed, head, err
}

func (p *Prover) open(signed storedtree.SignedHead) (tree.Head, error) {
	head, err := tree.OpenHead(signed.Note, p.Key.Verifier)
	if err == nil && head.Size != signed.Size {
		err = fmt.Errorf("the tree head stored with size %d is of size %d", signed.Size, head.Size)
	}
	return head, err
}

// Covering waits a moment for a head that covers so many rows. Without one the error is a *problem.Error.
func (p *Prover) Covering(ctx context.Context, rows int64) (storedtree.SignedHead, tree.Head, error) {
	for waited := time.Duration(0); ; waited += tick {
		signed, head, err := p.Newest(ctx)
		if err != nil && !errors.Is(err, ErrNoHead) || err == nil && head.Size >= rows {
			return signed, head, err
		}
		if waited < p.patience && lifecycle.Sleep(ctx, tick) {
			continue
		}
		fault, err := p.told(ctx)
		if err != nil {
			return signed, head, err
		}
		if fault == writer.FaultRewound {
			return signed, head, problem.Failure(problem.Unavailable, "%v", errRewound)
		}
		return signed, head, problem.Retryable(problem.Unavailable, "no signed tree head covers it yet; there is a new one each second")
	}
}

// told is why nothing is signed, as the signer says, in this process or in another one.
func (p *Prover) told(ctx context.Context) (writer.Fault, error) {
	if own := p.Fault(); own != nil {
		return writer.FaultOf(own), nil
	}
	return writer.ToldFault(ctx, p.Pool, p.Key.Signer.Name())
}

// TreeHead gives the newest signed tree head, and tells whether it should be newer.
func (p *Prover) TreeHead(ctx context.Context, _ query.AuditTreeHeadRequest) (query.AuditTreeHeadReply, error) {
	signed, head, err := p.Newest(ctx)
	if err != nil && !errors.Is(err, ErrNoHead) {
		return query.AuditTreeHeadReply{}, err
	}
	stored, err := storedtree.Load(ctx, p.Pool)
	if err != nil {
		return query.AuditTreeHeadReply{}, err
	}
	reply := query.AuditTreeHeadReply{Origin: p.Key.Signer.Name(), PublicKey: p.Key.Public, Rows: stored.Rows}
	if head.Size > 0 {
		reply.Size, reply.Root, reply.SignedAt, reply.Note = head.Size, head.Root.String(), &head.Time, string(signed.Note)
	}
	reply.Fault, err = p.fault(ctx, head.Size, stored.Rows)
	return reply, err
}

// fault is why nothing is signed, in words for whoever asks: the error itself may name addresses.
func (p *Prover) fault(ctx context.Context, signed, rows int64) (string, error) {
	told, err := p.told(ctx)
	switch {
	case err != nil:
		return "", err
	case told == writer.FaultRewound:
		return errRewound.Error(), nil
	case signed > rows:
		return fmt.Sprintf("the newest tree head covers %d rows, and the log has %d", signed, rows), nil
	case signed == rows:
		return "", nil
	}
	since, err := p.recorded(ctx, signed+1)
	if errors.Is(err, pgx.ErrNoRows) {
		return fmt.Sprintf("row %d is missing", signed+1), nil
	}
	if err != nil {
		return "", err
	}
	if told == writer.FaultNone && p.Clock().Sub(since) < overdue {
		return "", nil
	}
	words := "no row was signed since " + since.UTC().Format(time.RFC3339)
	if told == writer.FaultUnanswered {
		words += ": no place that tree heads are published in answers"
	}
	return words, nil
}

// recorded is when a row was recorded. That tells nothing of what it is about.
func (p *Prover) recorded(ctx context.Context, sequence int64) (at time.Time, err error) {
	err = postgres.Query(ctx, p.Pool, postgres.EveryCustomer, func(batch *pgx.Batch) {
		batch.Queue(`SELECT recorded_at FROM audit.events WHERE sequence = $1`, sequence).QueryRow(func(row pgx.Row) error {
			return row.Scan(&at)
		})
	})
	if err != nil {
		err = fmt.Errorf("look up when row %d was recorded: %w", sequence, err)
	}
	return at, err
}

// Inclusion proves that an event is in the log, under the newest tree head that covers it. The error is a *problem.Error when it is not.
func (p *Prover) Inclusion(ctx context.Context, request query.AuditInclusionRequest) (audit.Inclusion, error) {
	if err := refusal.Customer(request.CustomerID, audit.Everyone); err != nil {
		return audit.Inclusion{}, err
	}
	if request.EventID == "" {
		return audit.Inclusion{}, refusal.Of("event_id is missing")
	}
	if err := refusal.Text("event_id", request.EventID); err != nil {
		return audit.Inclusion{}, err
	}
	made, err := p.awaitEvent(ctx, request)
	if err != nil {
		return audit.Inclusion{}, err
	}
	signed, head, err := p.Covering(ctx, made.Index+1)
	if err != nil {
		return audit.Inclusion{}, err
	}
	view, err := storedtree.View(ctx, p.Pool)
	if err != nil {
		return audit.Inclusion{}, err
	}
	path, err := view.Inclusion(head.Size, head.Root, made.Index)
	if err != nil {
		return audit.Inclusion{}, p.damaged(err)
	}
	made.Path, made.Note = bytesOf(path), string(signed.Note)
	return made, nil
}

// awaitEvent is event, with some patience.
func (p *Prover) awaitEvent(ctx context.Context, request query.AuditInclusionRequest) (audit.Inclusion, error) {
	for waited := time.Duration(0); ; waited += tick {
		made, err := p.event(ctx, request)
		missing, refused := errors.AsType[*problem.Error](err)
		if !refused || missing.Code != problem.NotFound || waited >= p.lateness || !lifecycle.Sleep(ctx, tick) {
			return made, err
		}
	}
}

// event looks an event up among the rows of whoever asks.
func (p *Prover) event(ctx context.Context, request query.AuditInclusionRequest) (audit.Inclusion, error) {
	const statement = `
		SELECT e.sequence - 1, e.leaf, p.salt, CASE WHEN octet_length(p.data) <= $3 THEN p.data END
		FROM audit.events AS e LEFT JOIN audit.payloads AS p USING (sequence)
		WHERE e.event_id = $1 AND (e.customer_id = $2 OR $2 = '*')`
	made := audit.Inclusion{EventID: request.EventID}
	var leaf []byte
	err := postgres.Query(ctx, p.Pool, request.CustomerID, func(batch *pgx.Batch) {
		batch.Queue(statement, request.EventID, request.CustomerID, MaxData).QueryRow(func(row pgx.Row) error {
			return row.Scan(&made.Index, &leaf, &made.Salt, &made.Data)
		})
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return made, &problem.Error{Code: problem.NotFound, Message: fmt.Sprintf("the log has no event %.200q", request.EventID)}
	}
	if err != nil {
		return made, fmt.Errorf("look up event %.200q: %w", request.EventID, err)
	}
	made.Leaf = string(leaf)
	return made, nil
}

// Consistency proves that the log of an older size is the beginning of that of a tree head. The error is a *problem.Error when the log never
// had these sizes.
func (p *Prover) Consistency(ctx context.Context, request query.AuditConsistencyRequest) (audit.Consistency, error) {
	if request.Older < 1 {
		return audit.Consistency{}, refusal.Of("from must be at least 1")
	}
	signed, head, err := p.headOf(ctx, request)
	if err != nil {
		return audit.Consistency{}, err
	}
	if request.Older > head.Size {
		return audit.Consistency{}, refusal.Of("from is %d, and the tree head covers only %d rows", request.Older, head.Size)
	}
	view, err := storedtree.View(ctx, p.Pool)
	if err != nil {
		return audit.Consistency{}, err
	}
	path, err := view.Consistency(head.Size, head.Root, request.Older)
	if err != nil {
		return audit.Consistency{}, p.damaged(err)
	}
	return audit.Consistency{OlderSize: request.Older, Path: bytesOf(path), Note: string(signed.Note)}, nil
}

func (p *Prover) headOf(ctx context.Context, request query.AuditConsistencyRequest) (storedtree.SignedHead, tree.Head, error) {
	if request.Newer == 0 {
		return p.Covering(ctx, 1)
	}
	signed, err := storedtree.SignedAt(ctx, p.Pool, request.Newer)
	if err != nil {
		return signed, tree.Head{}, err
	}
	if signed.Size == 0 {
		return signed, tree.Head{}, &problem.Error{
			Code: problem.NotFound, Message: fmt.Sprintf("there is no tree head of size %d", request.Newer),
		}
	}
	head, err := p.open(signed)
	if err != nil {
		err = &problem.Error{Code: problem.NotFound, Message: fmt.Sprintf("the tree head of size %d is that of another log", request.Newer)}
	}
	return signed, head, err
}

// damaged is for a tree that is not the one that was signed.
func (p *Prover) damaged(err error) error {
	p.Log.Error().Err(err).Msg("the stored log is not the one that was signed")
	return &problem.Error{
		Code: problem.Internal, Message: "the stored log is not the one that was signed: galley audit verify says where it differs",
	}
}

func bytesOf(hashes []tree.Hash) [][]byte {
	made := make([][]byte, len(hashes))
	for i := range hashes {
		made[i] = hashes[i][:]
	}
	return made
}
